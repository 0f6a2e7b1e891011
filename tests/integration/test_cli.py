"""The real command line in processes of its own: exit codes, what goes to which stream, and bad runtime."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import typer
from typer.testing import CliRunner

from codelupe import Database, HandlerContext, Reject, Subscription, load_queries
from codelupe.cli import build_app
from codelupe.config import sources as config
from codelupe.log import Entry, EventLog
from codelupe_events import BatchReady, RepoDiscovered
from tests.conftest import RunUntilIdle
from tests.plugins import batch, import_path, install_plugin, make_plugin
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

INCIDENTS = load_queries("codelupe_sql", "incidents")
COMMAND = [sys.executable, "-m", "codelupe"]
NO_PLUGINS = 'disabled_plugins=["crawler", "dataset", "downloader", "filters", "ray", "scorers", "search", "trainer"]'
NOBODY_THERE = "postgresql://user:hidden-away@127.0.0.1:1/db"


class Ended:
    """A process that has ended."""

    def __init__(self, returncode: int, stdout: bytes, stderr: bytes) -> None:
        self.code, self.out, self.err = returncode, stdout.decode(), stderr.decode()
        assert not re.search("^Traceback", self.err, re.MULTILINE), self.err
        assert "hidden-away" not in self.out + self.err

    def json(self) -> Any:
        """What it printed, which must be nothing but one JSON document."""
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)

    def failed(self, code: int, *words: str) -> None:
        """It ended with this code, wrote nothing to stdout and said these words and what to do."""
        assert (self.code, self.out) == (code, ""), self.err
        assert [word for word in words if word not in self.err] == [], self.err


class Shell:
    """Runs ``codelupe`` with an environment and a state directory of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CODELUPE_")}
        self.environment = {**clean, "CODELUPE_STATE_DIR": str(self.state), "COLUMNS": "200", **environment}

    async def __call__(self, *arguments: str, **environment: str) -> Ended:
        return await self.tell("", *arguments, **environment)

    async def tell(self, answer: str, *arguments: str, **environment: str) -> Ended:
        """Run it with this on its standard input."""
        ended = await anyio.run_process(
            [*COMMAND, *arguments],
            input=answer.encode(),
            check=False,
            cwd=self.folder,
            env={**self.environment, **environment},
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            **options,
        )


@pytest.fixture
def nowhere(tmp_path: Path) -> Shell:
    """No database is named, and the state directory does not exist."""
    return Shell(tmp_path)


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    """On the test's database."""
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)


@pytest.fixture
def daemon(shell: Shell) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon at work that has nothing to do."""
    with shell.start("run", "--set", NO_PLUGINS, "--set", "log_format=json") as process:
        assert process.stderr is not None
        while line := process.stderr.readline():
            if json.loads(line)["event"] == "started":
                break
        yield process
        process.kill()


# --- help, versions, usage ---


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


@pytest.mark.parametrize("text", ["this is no TOML", 'disabled_plugins = 5\nlog_levle = "x"\n'])
def test_every_command_has_help_whatever_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "codelupe.toml").write_text(text)
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "codelupe.toml")
    app = build_app()
    paths = list(commands(typer.main.get_command(app)))
    assert {("run",), ("events", "trace"), ("dead-letters", "retry"), ("db", "migrate"), ("config", "show")} <= set(
        paths
    )
    for path in paths:
        result = CliRunner().invoke(app, [*path, "--help"])
        assert result.exit_code == 0, path
        assert "--help" in result.stdout
        assert result.stdout.splitlines()[0].startswith("Usage: ")
        assert len(result.stdout.split("Options:")[0].split("\n\n")) >= 2, f"{path} says what it does"


async def test_version_and_wrong_usage(nowhere: Shell) -> None:
    version = await nowhere("--version", CODELUPE_LOG_LEVLE="broken")
    assert (version.code, version.out.split()[0], version.err) == (0, "codelupe", "")
    (await nowhere("rnu")).failed(2, "No such command 'rnu'")
    (await nowhere("run", "--source", "/no/such/folder")).failed(2, "there is no folder /no/such/folder", "--source")


# --- settings ---


async def test_settings_that_are_wrong_end_every_command_with_78(nowhere: Shell) -> None:
    file = nowhere.folder / "codelupe.toml"
    file.write_text("[plugins.filters]\nmin_starz = 5\n")
    complaint = (str(file), "unknown key plugins.filters.min_starz", "did you mean min_stars?")
    for arguments in (["run", "--until-idle"], ["status", "--json"]):
        (await nowhere(*arguments, "--config", str(file))).failed(78, *complaint)
    assert not nowhere.state.exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--set", "lease_seconds=1"], {}, ["command line: lease_seconds = 1", "greater than or equal to 2"]),
        (["--config", "/no/such.toml"], {}, ["/no/such.toml", "--config"]),
        ([], {"CODELUPE_DATABASE": NOBODY_THERE}, ["CODELUPE_DATABASE", "did you mean database_url?"]),
    ],
)
async def test_config_check_names_what_is_wrong(
    nowhere: Shell, arguments: list[str], environment: dict[str, str], words: list[str]
) -> None:
    (await nowhere("config", "check", *arguments, **environment)).failed(78, *words)


async def test_config_check_and_show_of_good_settings(nowhere: Shell) -> None:
    credentials = nowhere.folder / "credentials"
    credentials.mkdir()
    (credentials / "search_index").write_text("hidden-away")
    environment = {"CODELUPE_DATABASE_URL": NOBODY_THERE, "CREDENTIALS_DIRECTORY": str(credentials)}
    assert (await nowhere("config", "check", **environment)).out == "The settings are right.\n"
    arguments = ["--profile", "demo", "--set", 'plugins.crawler.sources=["https://me:hidden-away@example.org/x.git"]']
    shown = await nowhere("config", "show", "--json", *arguments, **environment)
    rows = {row["key"]: (row["value"], row["origin"]) for row in shown.json()}
    assert rows["database_url"] == ("***", "CODELUPE_DATABASE_URL")
    assert rows["search_index"] == ("***", "credential search_index")
    assert rows["plugins.crawler.sources"] == (["https://me:***@example.org/x.git"], "command line")
    assert rows["plugins.crawler.installed_packages"] == (True, "profile demo")
    assert rows["lease_seconds"] == (60, "default")


# --- the database ---


async def test_a_database_that_cannot_be_reached_ends_with_69(nowhere: Shell) -> None:
    environment = {"CODELUPE_DATABASE_URL": NOBODY_THERE}
    for arguments in (["status"], ["run", "--until-idle"]):
        (await nowhere(*arguments, **environment)).failed(69, "127.0.0.1:1", "CODELUPE_DATABASE_URL")
    (await nowhere("events", "tail")).failed(69, "there is no database", "codelupe run")
    (await nowhere("status", CODELUPE_DATABASE_URL="mysql://u:hidden-away@h/db")).failed(78, "database_url")


async def test_a_database_that_was_not_migrated_is_said_and_migrated(shell: Shell, database: Database) -> None:
    await database.execute("drop schema public cascade; create schema public")
    (await shell("models", "list")).failed(69, "lacks", "codelupe db migrate")
    pending = (await shell("db", "status", "--json")).json()["pending_migrations"]
    applied = await shell("db", "migrate")
    assert [line.removeprefix("applied ") for line in applied.out.splitlines()] == pending
    assert (await shell("db", "migrate")).out == "Nothing to apply.\n"
    assert (await shell("models", "list", "--json")).json() == []


async def test_a_migration_that_was_changed_ends_with_1(shell: Shell, database: Database) -> None:
    await database.execute("update schema_migrations set checksum = 'x' where number = 1")
    (await shell("run", "--until-idle", "--set", NO_PLUGINS)).failed(1, "0001", "was changed", "Restore the file")


# --- reading ---


async def test_every_reading_command_prints_json_and_nothing_else(shell: Shell, database: Database) -> None:
    await EventLog(database).publish(
        RepoDiscovered(repository_id="local:a", source="local", full_name="a/b", url="u", revision="1")
    )
    found: dict[str, Any] = {}
    limiter = anyio.CapacityLimiter(3)

    async def read(arguments: str) -> None:
        async with limiter:
            found[arguments] = (await shell(*arguments.split(), "--json")).json()

    async with anyio.create_task_group() as group:
        for arguments in (
            "status",
            "dead-letters list",
            "events tail",
            "events show 1",
            "events trace 1",
            "search nothing",
            "db status",
            "replay filters.repository-rules --dry-run",
        ):
            group.start_soon(read, arguments)
    assert set(found["status"]) == {
        "subscriptions",
        "jobs",
        "paused",
        "repositories",
        "crawl",
        "files",
        "training",
        "batches",
        "models",
    }
    assert found["dead-letters list"] == []
    assert found["events tail"]["type"] == "RepoDiscovered"
    assert found["events tail"] == found["events show 1"] == found["events trace 1"][0]
    assert found["search nothing"] == []
    assert found["db status"]["pending_migrations"] == []
    assert found["replay filters.repository-rules --dry-run"]["started"] is False


async def test_what_is_not_there_is_named(shell: Shell) -> None:
    (await shell("events", "show", "9" * 40)).failed(1, "there is no event", "codelupe events tail")
    (await shell("replay", "filters.nonsense")).failed(1, "filters.nonsense", "filters.file-rules")
    (await shell("dead-letters", "retry", "5")).failed(1, "there is no dead letter 5", "codelupe dead-letters list")
    (await shell("dead-letters", "drop")).failed(2, "--all-matching")


async def test_a_reader_that_leaves_early_is_no_error(shell: Shell, database: Database) -> None:
    log = EventLog(database)
    async with database.transaction() as connection:
        await log.append(connection, [Entry(event=batch(number)) for number in range(3000)])
    for extra in ([], ["--json"]):
        with shell.start("events", "tail", "-n", "3000", *extra) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert b"BatchReady" in process.stdout.readline()
            process.stdout.close()
            assert (process.wait(timeout=HANGS), process.stderr.read()) == (0, b"")


async def test_hostile_names_cannot_steer_the_terminal(shell: Shell, database: Database) -> None:
    await EventLog(database).publish(
        RepoDiscovered(
            repository_id="x\x1b]0;title\x07\x9b[/bold]\\[red]", source="x", full_name="[/x]", url="u", revision="1"
        )
    )
    for arguments in (["tail"], ["trace", "1"]):
        ended = await shell("events", *arguments)
        assert ended.code == 0
        assert "[red]" in ended.out
        assert not {"\x1b", "\x9b", "\x07"} & set(ended.out)


# --- changing ---


async def test_dead_letters_are_seen_to(shell: Shell, run_until_idle: RunUntilIdle) -> None:
    async def fail(event: BatchReady, context: HandlerContext) -> None:
        raise Reject(r"no match for \[/a]+")

    it = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=fail)])
    await run_until_idle({"test": it}, events=[batch(1), batch(2), batch(3)])
    letters = (await shell("dead-letters", "list", "--json", "--subscription", "test.s")).json()
    numbers = [str(letter["id"]) for letter in letters]
    assert len(numbers) == 3
    assert r"no match for \[/a]+" in (await shell("dead-letters", "list")).out
    shown = await shell("dead-letters", "show", numbers[0])
    assert "test.s on batch/" in shown.out
    assert "Reject: no match" in shown.out, "the traceback, on stdout"
    assert (await shell("dead-letters", "retry", numbers[0])).out == "1 will be tried again.\n"
    assert (await shell("dead-letters", "drop", "--all-matching", "--yes")).out == "2 dropped.\n"
    assert (await shell("dead-letters", "list", "--json")).json() == []


async def test_a_replay_asks_first(shell: Shell, database: Database) -> None:
    await EventLog(database).publish(
        RepoDiscovered(repository_id="local:a", source="local", full_name="a/b", url="u", revision="1")
    )
    await database.execute("insert into subscriptions (name, position) values ('filters.repository-rules', 1)")

    async def position() -> int:
        return int(await database.fetchval("select position from subscriptions"))

    refused = await shell.tell("n\n", "replay", "filters.repository-rules")
    assert (refused.code, await position()) == (0, 1)
    assert "1 events after position 0" in refused.out
    closed = await shell("replay", "filters.repository-rules")
    assert (closed.code, await position()) == (1, 1)
    agreed = await shell("replay", "filters.repository-rules", "--yes")
    assert (agreed.code, await position()) == (0, 0)


# --- plugins ---


async def test_a_broken_plugin_is_named_and_harms_no_command(shell: Shell) -> None:
    package = install_plugin(shell.folder / "site", "bad", "\nraise RuntimeError('cannot start')\n")
    place = f"{package / '__init__.py'}:2"
    environment = {"PYTHONPATH": import_path(shell.folder / "site"), "CODELUPE_PLUGINS__BAD__TOKEN": "hidden-away"}
    listed = await shell("plugins", "list", "--json", **environment)
    rows = {row["name"]: row for row in json.loads(listed.out)}
    assert (rows["bad"]["state"], rows["bad"]["error"]) == ("broken", "RuntimeError: cannot start")
    assert (rows["bad"]["hook"], rows["bad"]["file"]) == (None, place)
    assert rows["bad"]["traceback"].endswith("RuntimeError: cannot start\n")
    assert rows["filters"]["state"] == "active"
    table = await shell("plugins", "list", **environment)
    assert (table.code, table.err) == (1, f"bad is broken: RuntimeError: cannot start at {place}\n")
    status = await shell("status", "--json", **environment)
    assert json.loads(status.out)["subscriptions"] == []
    assert status.err.count("RuntimeError: cannot start") == 1, "said once"
    run = await shell("run", "--until-idle", "--set", NO_PLUGINS, **environment)
    assert (run.code, run.err.count("RuntimeError: cannot start")) == (0, 1)
    assert "***" in (await shell("config", "show", **environment)).out


async def test_the_list_shows_which_plugin_blocked_the_loop(shell: Shell, database: Database) -> None:
    stack = '  File "filters.py", line 3, in judge\n    time.sleep(25)\n'
    block = ("filters", "filters.repository-rules", "repo/\x1b[1m", 25.0, stack)
    for _ in range(2):
        await database.execute(INCIDENTS.record_blocked_loop, *block)
    table = await shell("plugins", "list")
    assert table.code == 0
    assert re.fullmatch(
        r"filters blocked the event loop for 25\.0 s at [\d: -]+ \(filters\.repository-rules on repo/\ufffd\[1m\),"
        r" 2 times so far: File \"filters\.py\", line 3, in judge\n",
        table.err,
    )
    listed = await shell("plugins", "list", "--json")
    assert (listed.code, listed.err) == (0, table.err)
    rows = {row["name"]: row["incidents"] for row in json.loads(listed.out)}
    [incident] = rows["filters"]
    assert (incident["kind"], incident["count"], incident["stack"]) == ("blocked_loop", 2, stack)
    assert rows["crawler"] == []


async def test_the_list_needs_no_database(nowhere: Shell) -> None:
    assert (await nowhere("plugins", "list")).err == ""
    assert not nowhere.state.exists()
    away = await nowhere("plugins", "list", CODELUPE_DATABASE_URL=NOBODY_THERE)
    assert (away.code, "is not known: the database" in away.err, "filters" in away.out) == (0, True, True)


# --- running ---


async def test_without_plugins_a_run_until_idle_ends_at_once(shell: Shell) -> None:
    with anyio.fail_after(HANGS):
        ended = await shell("run", "--until-idle", "--set", NO_PLUGINS)
    assert ended.code == 0
    assert "Finished in 0:0" in ended.out
    assert str(shell.state) in ended.out
    assert "no_search_index" in ended.err


async def test_a_run_needs_git(shell: Shell) -> None:
    empty = shell.folder / "bin"
    empty.mkdir()
    (await shell("run", "--until-idle", PATH=str(empty))).failed(1, "git: not in PATH", "apt-get install git")
    doctor = await shell("doctor", PATH=str(empty))
    assert doctor.code == 1
    assert "bad     git: not in PATH" in doctor.out
    assert "apt-get install git" in doctor.out


async def test_a_state_directory_that_cannot_be_used(shell: Shell) -> None:
    shell.state.write_text("a file in the way")
    (await shell("run", "--until-idle", "--set", NO_PLUGINS)).failed(1, str(shell.state), "CODELUPE_STATE_DIR")
    doctor = await shell("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(doctor.out)}
    assert (doctor.code, findings["state directory"]["verdict"]) == (1, "bad")
    assert findings["database"]["verdict"] == "good"


async def test_an_executor_or_index_that_nobody_offers(shell: Shell) -> None:
    ended = await shell("run", "--until-idle", "--set", NO_PLUGINS, "--set", "executor=ray")
    ended.failed(78, "executor = 'ray'", "processes")


async def test_a_second_daemon_in_the_same_directory_is_refused(shell: Shell, daemon: subprocess.Popen[bytes]) -> None:
    second = await shell("run", "--until-idle", "--set", NO_PLUGINS)
    second.failed(1, f"process {daemon.pid}", str(shell.state), "CODELUPE_STATE_DIR")
    assert daemon.poll() is None
    assert (await shell("status", "--json")).json()["subscriptions"] == [], "others may look on"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_run_in_order(daemon: subprocess.Popen[bytes], number: signal.Signals) -> None:
    daemon.send_signal(number)
    assert daemon.stderr is not None
    assert daemon.wait(timeout=HANGS) == 0
    said = daemon.stderr.read().decode()
    assert '"event": "stopped"' in said
    assert "The next run goes on from here." in said

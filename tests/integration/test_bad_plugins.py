"""Installed plugins with every fault that can be known before they handle anything, under the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from codelupe import Database
from tests.integration.test_cli import NO_PLUGINS, Ended, Shell
from tests.plugins import import_path, install_plugin

pytestmark = pytest.mark.anyio

HEAD = """
from typing import Any
import functools
from datetime import timedelta
from pydantic import BaseModel, Field, RootModel, SecretStr, field_validator, model_validator
from codelupe import Finding, Job, RetryPolicy, Service, StatusSection, Subscription, BatchSubscription, hookimpl
from codelupe_events import BatchReady
async def handle(event, context): ...
async def work(context): ...

@hookimpl
def codelupe_jobs(): return [Job(name="j", every=timedelta(hours=1), run=work)]
"""
Install = Callable[..., Path]
Rows = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return lambda name, code="", **more: install_plugin(tmp_path / "site", name, code, **more)


@pytest.fixture
def nowhere(tmp_path: Path) -> Shell:
    """No database is named; the plugins that a test installs are found."""
    return Shell(tmp_path, PYTHONPATH=import_path(tmp_path / "site"))


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    """On the test's database; the plugins that a test installs are found."""
    return Shell(tmp_path, PYTHONPATH=import_path(tmp_path / "site"), CODELUPE_DATABASE_URL=database_url)


def rows(listed: Ended) -> Rows:
    return {(row["name"], row["distribution"]): row for row in json.loads(listed.out)}


def states(listed: Ended) -> dict[str, str]:
    return {name: row["state"] for (name, _), row in rows(listed).items()}


# --- what breaks at the import ---

IMPORTS = {
    "interrupt": "raise KeyboardInterrupt",
    "exits": "import sys; sys.exit(0)",
    "panic": "class PanicException(BaseException): ...\nraise PanicException('rust')",
    "cancelled": "import asyncio; raise asyncio.CancelledError",
    "generator": "raise GeneratorExit",
    "group": "raise BaseExceptionGroup('several', [KeyboardInterrupt(), SystemExit(0)])",
    "stop": "raise StopIteration",
    "mute": "class Mute(Exception):\n    def __str__(self): raise SystemExit(0)\nraise Mute",
    "deep": "def f(): f()\nf()",
    "secret": "raise RuntimeError('postgresql://me:hidden-away@example.org/db')",
}


async def test_whatever_an_import_raises_breaks_that_plugin_alone(shell: Shell, install: Install) -> None:
    for name, code in IMPORTS.items():
        install(name, code)
    install("sound", HEAD)
    listed = await shell("plugins", "list", "--json")
    assert listed.code == 1
    found = states(listed)
    assert {name: found[name] for name in IMPORTS} == dict.fromkeys(IMPORTS, "broken")
    assert found["sound"] == found["filters"] == "active"
    assert {bool(row["file"]) for (name, _), row in rows(listed).items() if name in IMPORTS} == {True}
    assert (await shell("run", "--until-idle", "--set", NO_PLUGINS)).code == 0
    assert (await shell("--help")).code == 0


async def test_an_import_leaves_the_process_as_it_was(shell: Shell, install: Install) -> None:
    install(
        "noisy",
        """
        import asyncio, os, signal, subprocess, sys
        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self): raise SystemExit("no loop")
        print("noise"); os.write(1, b"noise\\n"); subprocess.run(["echo", "noise"])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, lambda *_: None)
        os.chdir("/")
        asyncio.set_event_loop_policy(Policy())
        """
        + HEAD.replace("\n", "\n        "),
    )
    status = await shell("status", "--json")
    assert status.code == 0
    assert json.loads(status.out)["subscriptions"] == []
    [line] = [line for line in status.err.splitlines() if "plugin_changed_process" in line]
    for what in ("handler of SIGTERM", "handler of SIGINT", "working directory", "event loop policy"):
        assert what in line


# --- what breaks when it is asked ---


async def test_the_list_says_hook_place_and_traceback(shell: Shell, install: Install) -> None:
    package = install("bad", HEAD + "@hookimpl\ndef codelupe_services():\n    x = 1\n    raise OSError('no colour')\n")
    listed = await shell("plugins", "list", "--json")
    row = rows(listed)["bad", "stranger-bad"]
    line = (package / "__init__.py").read_text().splitlines().index("    raise OSError('no colour')") + 1
    place = f"{package / '__init__.py'}:{line}"
    assert (listed.code, listed.err) == (1, f"bad is broken: OSError: no colour in codelupe_services at {place}\n")
    assert (row["hook"], row["file"], row["jobs"]) == ("codelupe_services", place, [])
    assert "OSError: no colour" in row["traceback"]
    doctor = json.loads((await shell("doctor", "--json")).out)
    assert [one["detail"] for one in doctor if one["what"] == "plugin bad"] == [
        f"OSError: no colour in codelupe_services at {place}"
    ]


async def test_a_command_with_a_taken_name_is_said_where_plugins_are_looked_at(shell: Shell, install: Install) -> None:
    for name in ("aaa", "zzz"):
        install(
            name,
            """
            import typer
            from codelupe import hookimpl
            app = typer.Typer()
            @app.command()
            def status(): ...
            @app.command()
            def files(): print("not ours")
            @app.command()
            def paint(): print("red")
            @hookimpl
            def codelupe_commands(): return app
            """,
        )
    listed = await shell("plugins", "list", "--json")
    found = rows(listed)
    assert found["aaa", "stranger-aaa"]["commands"] == ["paint"]
    assert found["aaa", "stranger-aaa"]["taken_commands"] == ["status", "files"], "built-in plugins come first"
    assert found["zzz", "stranger-zzz"]["taken_commands"] == ["status", "files", "paint"]
    assert listed.code == 0
    assert "aaa: the command 'status' is taken" in listed.err
    doctor = json.loads((await shell("doctor", "--json")).out)
    assert {one["what"] for one in doctor if "command" in one["what"]} == {
        *("command status of aaa", "command files of aaa"),
        *("command status of zzz", "command files of zzz", "command paint of zzz"),
    }
    (await shell("status", "--json")).json()
    painted = await shell("paint")
    assert (painted.code, painted.out, painted.err) == (0, "red\n", "")


# --- names of built-in plugins and of what they offer ---


async def test_a_built_in_plugin_stays_when_another_distribution_claims_its_name(
    shell: Shell, install: Install
) -> None:
    install("filters", HEAD, distribution="stranger-filters")
    listed = await shell("plugins", "list", "--json", "--check")
    assert rows(listed)["filters", "codelupe"]["state"] == "active"
    theirs = rows(listed)["filters", "stranger-filters"]
    assert (theirs["state"], "a built-in plugin has this name" in theirs["error"]) == ("broken", True)
    assert (await shell("config", "check", "--set", "plugins.filters.min_stars=7")).code == 0
    (await shell("config", "check", "--set", "plugins.filters.min_starz=7")).failed(78, "did you mean min_stars?")
    ours = await shell("run", "--until-idle", "--set", 'disabled_plugins=["crawler","trainer","search","ray"]')
    assert ours.code == 0
    status = (await shell("status", "--json")).out
    assert "filters.file-rules" in status


async def test_what_has_a_built_in_one_s_name_does_not_replace_it(shell: Shell, install: Install) -> None:
    install(
        "aaa_index",
        HEAD
        + """
class Index:
    name = "postgres"
    async def add(self, *a): raise SystemExit
    async def search(self, *a, **k): raise SystemExit
    async def remove(self, *a): raise SystemExit
    async def delete(self, *a): raise SystemExit
@hookimpl
def codelupe_search_index(): return Index()
""",
    )
    install(
        "aaa_executor",
        HEAD
        + """
from codelupe.executor import ProcessExecutor
@hookimpl
def codelupe_executors(): return [("processes", ProcessExecutor(1, item_seconds=1, memory_mib=512))]
""",
    )
    install(
        "aaa_section",
        HEAD
        + """
@hookimpl
def codelupe_status_sections():
    async def read(database): return {}
    return [StatusSection(name="crawler", read=read, counts=lambda data: [])] * 2
""",
    )
    listed = rows(await shell("plugins", "list", "--json", "--check"))
    for name in ("aaa_executor", "aaa_section"):
        row = listed[name, f"stranger-{name}"]
        assert (row["state"], "offers" in row["error"]) == ("broken", True), row["error"]
    assert listed["aaa_index", "stranger-aaa_index"]["state"] == "broken"
    assert listed["search", "codelupe"]["state"] == "active"
    assert (await shell("run", "--until-idle", "--set", 'disabled_plugins=["crawler","trainer"]')).code == 0


# --- what the command line shows of plugins ---


async def test_sections_that_fail_break_neither_status_nor_summary(shell: Shell, install: Install) -> None:
    package = install(
        "odd",
        HEAD
        + """
from codelupe import Table
async def read(database):
    print("noise")
    return 5
async def fail(database): raise SystemExit(3)
def ragged(data): return [Table(title="[/b]", columns=["a"], rows=[[1, 2]])]
def sound(data): return [Table(title="[/i]", columns=["[/red]"], rows=[[7]])]
@hookimpl
def codelupe_status_sections():
    return [
        StatusSection(name="leaves", read=fail, counts=lambda data: [("never", 1, "")]),
        StatusSection(name="miscounts", read=read, counts=lambda data: [5]),
        StatusSection(name="ragged", read=read, counts=lambda data: [("ragged-count", data, "")], tables=ragged),
        StatusSection(name="sound", read=read, counts=lambda data: [("sound-count", data, "")], tables=sound),
    ]
""",
    )
    assert package.exists()
    ran = await shell("run", "--until-idle", "--set", NO_PLUGINS)
    shown = await shell("status")
    said = {
        "leaves": "failed on its data: SystemExit: 3",
        "miscounts": "failed on its lines: TypeError: it answered 5",
        "ragged": "failed on its tables: ValueError: a table of 1 columns has the row [1, 2]",
    }
    for ended in (ran, shown):
        assert ended.code == 0, ended.err
        lines = ended.out.splitlines()
        for name, cause in said.items():
            [line] = [line for line in lines if f"the status section {name!r} of the plugin 'odd'" in line]
            assert cause in line
        assert ("noise" in ended.out, "noise" in ended.err) == (False, True)
        for part in ("sound-count", "ragged-count", "[/i]", "[/red]", "subscription"):
            assert part in ended.out, part
    logged = [line for line in ran.err.splitlines() if "status_section_failed" in line]
    assert [name for name in said if any(f'"plugin": "odd", "section": "{name}"' in line for line in logged)] == [*said]
    data = json.loads((await shell("status", "--json")).out)
    assert data["leaves"] == {
        "plugin": "odd",
        "section": "leaves",
        "error": "the status section 'leaves' of the plugin 'odd' failed on its data: SystemExit: 3",
    }
    assert (data["sound"], "repositories" in data) == (5, True)


async def test_a_section_that_ends_its_own_session_is_said_beside_the_rest(shell: Shell, install: Install) -> None:
    install(
        "unlucky",
        HEAD
        + """
async def read(database): await database.execute("select pg_terminate_backend(pg_backend_pid())")
@hookimpl
def codelupe_status_sections(): return [StatusSection(name="unlucky", read=read, counts=lambda data: [])]
""",
    )
    shown = await shell("status")
    assert "Not shown: the status section 'unlucky' of the plugin 'unlucky' failed on its data" in shown.out
    data = json.loads((await shell("status", "--json")).out)
    assert data["unlucky"]["plugin"] == "unlucky"
    assert "repositories" in data


async def test_a_section_with_a_name_of_the_host_s_breaks_its_plugin(shell: Shell, install: Install) -> None:
    install(
        "taker",
        HEAD
        + """
async def read(database): return []
@hookimpl
def codelupe_status_sections(): return [StatusSection(name="subscriptions", read=read, counts=lambda data: [])]
""",
    )
    listed = rows(await shell("plugins", "list", "--json"))["taker", "stranger-taker"]
    assert (listed["state"], "offers 'subscriptions' in status_sections" in listed["error"]) == ("broken", True)
    await shell("run", "--until-idle", "--set", 'disabled_plugins=["crawler","trainer","search","ray"]')
    shown = json.loads((await shell("status", "--json")).out)
    assert "filters.file-rules" in {one["name"] for one in shown["subscriptions"]}


async def test_doctor_says_whose_check_is_none(shell: Shell, install: Install) -> None:
    answers = {
        "verdict": "[Finding('colour', 'ugly', 'x')]",
        "fields": "[Finding(None, 'bad', 5, hint=5)]",
        "things": "['good']",
        "number": "5",
        "leaves": "exec('raise SystemExit(0)')",
        "group": "exec('raise BaseExceptionGroup(\"x\", [KeyboardInterrupt()])')",
    }
    for name, answer in answers.items():
        install(name, f"{HEAD}@hookimpl\ndef codelupe_checks(): return {answer}\n")
    ended = await shell("doctor", "--json")
    found = {one["what"]: one for one in json.loads(ended.out)}
    assert {name: found[f"plugin {name}"]["verdict"] for name in answers} == dict.fromkeys(answers, "warning")
    assert found["git"]["verdict"] == "good"
    assert "codelupe_checks" in found["plugin fields"]["detail"]
    assert "plugin verdict" in (await shell("doctor")).out
    assert (await shell("run", "--until-idle", "--set", NO_PLUGINS)).code == 0


async def test_help_lists_the_others_and_says_whose_commands_are_broken(shell: Shell, install: Install) -> None:
    helps = {
        "failing": "raise RuntimeError('no help')",
        "leaving": "raise SystemExit(0)",
        "panicking": "raise BaseExceptionGroup('x', [KeyboardInterrupt()])",
        "numeric": "return 5",
        "sound": "return 'Paint it.'",
    }
    for name, answer in helps.items():
        install(
            name,
            f"""
            import typer
            from typer.core import TyperCommand
            from codelupe import hookimpl
            app = typer.Typer()
            class Odd(TyperCommand):
                def get_short_help_str(self, limit=45): {answer}
            @app.command("{name}-paint", cls=Odd)
            def paint(): print("red")
            @hookimpl
            def codelupe_commands(): return app
            """,
        )
    broken = set(helps) - {"sound"}
    helped = await shell("--help")
    assert (helped.code, "sound-paint" in helped.out, "Paint it." in helped.out) == (0, True, True)
    assert "explain" in helped.out, "commands of built-in plugins"
    listed = await shell("plugins", "list", "--json")
    assert {name for name, state in states(listed).items() if state == "broken"} == broken
    for name in broken:
        assert f"codelupe: {name} is broken: " in helped.err
        assert f"{name}-paint" not in helped.out
        missing = await shell(f"{name}-paint")
        assert (missing.code, f"{name} is broken" in missing.err) == (2, True)
    assert (await shell("sound-paint")).out == "red\n"


# --- settings ---

MODELS = {
    "lacks": "class S(BaseModel):\n    folder: str",
    "nested": "class D(BaseModel):\n    path: str\nclass S(BaseModel):\n"
    "    d: D = Field(default_factory=dict, validate_default=True)",
    "default": "class S(BaseModel):\n    n: int = Field('x', validate_default=True)",
    "whole": "class S(BaseModel):\n    @model_validator(mode='after')\n    def f(self): raise ValueError('never')",
    "raises": "class S(BaseModel):\n    @model_validator(mode='before')\n    def f(cls, v): raise KeyError('x')",
    "panics": "class P(BaseException): ...\nclass S(BaseModel):\n"
    "    @model_validator(mode='before')\n    def f(cls, v): raise P",
    "root": "class S(RootModel[list[int]]): ...",
    "undefined": "class S(BaseModel):\n    x: 'Nowhere' = None",
    "final": "class S(BaseModel):\n    def __init_subclass__(cls, **k): raise TypeError('final')",
}


async def test_a_settings_model_at_fault_breaks_its_plugin(shell: Shell, install: Install) -> None:
    for name, code in MODELS.items():
        install(name, f"{HEAD}\n{code}\n@hookimpl\ndef codelupe_settings(): return S\n")
    listed = await shell("plugins", "list", "--json")
    found = rows(listed)
    assert {name: found[name, f"stranger-{name}"]["state"] for name in MODELS} == dict.fromkeys(MODELS, "broken")
    assert found["lacks", "stranger-lacks"]["error"] == "it needs the setting plugins.lacks.folder"
    assert found["lacks", "stranger-lacks"]["hook"] == "codelupe_settings"
    checked = await shell("config", "check")
    assert (checked.code, checked.out) == (0, "The settings are right.\n")
    assert "lacks is broken: it needs the setting plugins.lacks.folder" in checked.err
    assert (await shell("run", "--until-idle", "--set", NO_PLUGINS)).code == 0
    given = await shell("plugins", "list", "--json", CODELUPE_PLUGINS__LACKS__FOLDER="x")
    assert rows(given)["lacks", "stranger-lacks"]["state"] == "active"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[plugins.demanding]\nfoldr = 'x'\n", ["unknown key plugins.demanding.foldr", "did you mean folder?"]),
        ("[plugins.demanding]\nfolder = 5\n", ["plugins.demanding.folder = 5"]),
        ("[plugins.demanding]\nfolder = 'bad'\n", ["plugins.demanding", "not that folder"]),
        ("[plugins.absent]\n", ["unknown key plugins.absent"]),
        ("[plugins]\ndemanding = 5\n", ["plugins.demanding = 5"]),
        ("plugins = 5\n", ["plugins = 5"]),
        ("lease_seconds = 1\n", ["lease_seconds = 1"]),
        ("[retention]\nkeep = 'P1D'\nthen = 'burn'\n", ["retention.then = 'burn'"]),
        ("this is no TOML", ["not valid TOML"]),
        ("disabled_plugins = 'crawler'\n", ["disabled_plugins = 'crawler'"]),
    ],
)
async def test_what_the_operator_wrote_wrongly_ends_with_78_and_can_be_looked_into(
    shell: Shell, install: Install, text: str, words: Sequence[str]
) -> None:
    install(
        "demanding",
        HEAD
        + """
class S(BaseModel):
    folder: str
    @model_validator(mode="after")
    def check(self):
        if self.folder == "bad": raise ValueError("not that folder")
        return self
@hookimpl
def codelupe_settings(): return S
""",
    )
    file = shell.folder / "codelupe.toml"
    file.write_text(text)
    for arguments in (["run", "--until-idle"], ["config", "check"]):
        (await shell(*arguments, "--config", str(file))).failed(78, *words)
    listed = await shell("plugins", "list", "--json", "--config", str(file))
    assert (listed.code in (0, 1), states(listed)["filters"]) == (True, "active")
    assert [word for word in words if word not in listed.err] == []
    doctor = await shell("doctor", "--json", "--config", str(file))
    [finding] = [one for one in json.loads(doctor.out) if one["what"] == "settings"]
    assert (doctor.code, finding["verdict"]) == (1, "bad")
    assert [word for word in words if word not in finding["detail"]] == []
    disabled = [] if "disabled" in text else ["--set", NO_PLUGINS]
    safe = await shell("run", "--safe-mode", "--until-idle", "--config", str(file), *disabled)
    assert safe.code == 0, safe.err
    assert [word for word in words if word not in safe.err and "demanding" not in text] == []


@pytest.mark.parametrize("setting", ["repositories_dir", "models_dir"])
async def test_a_directory_that_cannot_be_found_ends_with_78_and_can_be_looked_into(shell: Shell, setting: str) -> None:
    given = ["--set", f"{setting}='~no-such-user/x'"]
    for arguments in (["run", "--until-idle"], ["config", "check"]):
        (await shell(*arguments, *given)).failed(78, setting, "~no-such-user", "cannot be found")
    file = shell.folder / "codelupe.toml"
    file.write_text(f"{setting} = '~no-such-user/x'\n")
    listed = await shell("plugins", "list", "--json", "--config", str(file))
    assert (listed.code, states(listed)["filters"]) == (0, "active")
    doctor = await shell("doctor", "--json", "--config", str(file))
    [finding] = [one for one in json.loads(doctor.out) if one["what"] == "settings"]
    assert (doctor.code, finding["verdict"]) == (1, "bad")


async def test_safe_mode_runs_the_built_in_plugins_alone(shell: Shell, install: Install, database: Database) -> None:
    for name in ("filters", "theirs"):
        install(name, f"open({str(shell.folder / 'imported')!r}, 'w'); raise SystemExit", distribution=f"d-{name}")
    environment = {
        "CODELUPE_PLUGINS__THEIRS__ANYTHING": "1",
        "CODELUPE_PLUGIN_DISTRIBUTIONS": '{"filters": "d-filters"}',
        "CODELUPE_EXECUTOR": "theirs",
        "CODELUPE_SEARCH_INDEX": "theirs",
    }
    run = ["run", "--until-idle", "--set", 'disabled_plugins=["crawler", "trainer"]']
    safe = await shell(*run, "--safe-mode", **environment)
    assert safe.code == 0, safe.err
    assert not (shell.folder / "imported").exists()
    names = [row["name"] for row in await database.fetch("select name from subscriptions")]
    assert "filters.file-rules" in names


async def test_safe_mode_does_not_guess_where_the_data_lie(nowhere: Shell) -> None:
    (await nowhere("run", "--safe-mode", "--set", 'database_url=""')).failed(78, "database_url", "is empty")
    assert not nowhere.state.exists()


# --- disabled plugins ---

WAYS = {
    "config": (["--config", "FILE"], {}),
    "config=": (["--config=FILE"], {}),
    "CODELUPE_CONFIG": ([], {"CODELUPE_CONFIG": "FILE"}),
    "CODELUPE_DISABLED_PLUGINS": ([], {"CODELUPE_DISABLED_PLUGINS": '["heavy"]'}),
    "set": (["--set", 'disabled_plugins=["heavy"]'], {}),
}
READING = (
    ["config", "check"],
    ["config", "show"],
    ["plugins", "list"],
    ["status", "--json"],
    ["models", "list"],
    ["paint"],
)


@pytest.mark.parametrize("way", WAYS)
async def test_a_disabled_plugin_is_never_imported(shell: Shell, install: Install, way: str) -> None:
    mark = shell.folder / "imported"
    install("heavy", f"open({str(mark)!r}, 'w')\n{HEAD}")
    file = shell.folder / "codelupe.toml"
    file.write_text('disabled_plugins = ["heavy"]\n')
    options, variables = WAYS[way]
    options = [each.replace("FILE", str(file)) for each in options]
    variables = {name: value.replace("FILE", str(file)) for name, value in variables.items()}
    for command in READING:
        takes_set = command[0] == "config" or "--set" not in options
        if takes_set:
            ended = await shell(*command, *options, **variables)
            assert ended.code == (2 if command == ["paint"] else 0), (command, ended.err)
            assert not mark.exists(), command
    for command in (["doctor"], ["run", "--until-idle"], ["db", "migrate"]):
        if command[0] == "run" or "--set" not in options:
            await shell(*command, *options, **{"CODELUPE_PLUGINS__CRAWLER__INSTALLED_PACKAGES": "false", **variables})
            assert not mark.exists(), command
    if not options:
        await shell("--help", **variables)
        await shell(**variables, _CODELUPE_COMPLETE="complete_bash", COMP_WORDS="codelupe ", COMP_CWORD="1")
        assert not mark.exists()
    assert "heavy" in states(await shell("plugins", "list", "--json")), "it is installed"
    assert mark.exists(), "and it would tell"


@pytest.mark.parametrize("text", ["this is no TOML", "disabled_plugins = 5"])
async def test_where_it_cannot_be_read_which_are_disabled_no_other_is_imported(
    shell: Shell, install: Install, text: str
) -> None:
    install("heavy", f"open({str(shell.folder / 'imported')!r}, 'w')\n{HEAD}")
    (shell.folder / "codelupe.toml").write_text(text)
    environment = {"CODELUPE_CONFIG": str(shell.folder / "codelupe.toml")}
    for command in (["--help"], ["plugins", "list"], ["doctor"], ["status"], ["config", "check"]):
        await shell(*command, **environment)
    (await shell("paint", **environment)).failed(78)
    assert not (shell.folder / "imported").exists()


# --- nothing is made ---


@pytest.mark.parametrize(
    "arguments", [["db", "status"], ["doctor"], ["status"], ["plugins", "list"], ["config", "check"]]
)
async def test_looking_in_an_empty_folder_creates_nothing(tmp_path: Path, arguments: list[str]) -> None:
    shell = Shell(tmp_path)
    del shell.environment["CODELUPE_STATE_DIR"]
    ended = await shell(*arguments)
    assert ended.code in (0, 69)
    assert list(tmp_path.iterdir()) == []


async def test_doctor_compares_the_connections(shell: Shell, database: Database) -> None:
    name = await database.fetchval("select current_database()")

    async def finding(*options: str) -> dict[str, str]:
        ended = await shell("doctor", "--json", CODELUPE_DATABASE_CONNECTIONS=options[0])
        [found] = [one for one in json.loads(ended.out) if one["what"] == "connections"]
        return dict(found)

    good = await finding("4")
    assert good["verdict"] == "good"
    assert "opens up to 19; " in good["detail"]
    assert (await finding("199"))["verdict"] == "bad"
    await database.execute(f"alter database {name} connection limit 20")
    async with database.transaction(), database.transaction():
        assert (await finding("4"))["verdict"] == "warning", "some of 20 are used, and 19 are needed"
        limited = await finding("8")
    assert (limited["verdict"], "max_connections" in limited["hint"]) == ("bad", True)


# --- credentials and files ---


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
async def test_an_empty_credential_is_refused(nowhere: Shell, content: bytes) -> None:
    folder = nowhere.folder / "credentials"
    folder.mkdir()
    (folder / "database_url").write_bytes(content)
    for command in (["run", "--until-idle"], ["status"], ["config", "check"]):
        ended = await nowhere(*command, CREDENTIALS_DIRECTORY=str(folder))
        ended.failed(78, str(folder / "database_url"), "is empty")


@pytest.mark.parametrize("given", [("--set", 'database_url=""'), ("--set", 'database_url=" "'), "file", "variable"])
async def test_an_empty_database_url_is_refused(nowhere: Shell, given: Any) -> None:
    (nowhere.folder / "c.toml").write_text('database_url = ""\n')
    options = {"file": ["--config", str(nowhere.folder / "c.toml")], "variable": []}.get(given, given)
    variables = {"CODELUPE_DATABASE_URL": " "} if given == "variable" else {}
    (await nowhere("config", "check", *options, **variables)).failed(78, "database_url", "it is empty")


async def test_a_settings_file_that_cannot_be_read_ends_with_78_and_one_line(nowhere: Shell) -> None:
    file, circle = nowhere.folder / "file", nowhere.folder / "circle"
    file.write_bytes(b"x = '\xff'")
    circle.symlink_to(circle)
    deep = nowhere.folder / "deep"
    deep.write_text(f"x = {'[' * 5000}")
    huge = nowhere.folder / "huge"
    huge.write_text(f"x = {'9' * 5000}")
    for path in (nowhere.folder, file / "below", circle, file, deep, huge):
        for command in (["run"], ["status"], ["config", "check"]):
            ended = await nowhere(*command, "--config", str(path))
            ended.failed(78, str(path))
            assert len(ended.err.splitlines()) <= 2

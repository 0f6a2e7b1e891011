"""What a plugin offers fails again and again: it is named and paused, the rest goes on, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import codelupe_crawler
import codelupe_filters
import codelupe_scorers
from codelupe import (
    BatchContext,
    BatchSubscription,
    Database,
    HandlerContext,
    Job,
    JobContext,
    Problem,
    Reject,
    Repository,
    Score,
    SourceFile,
    Subscription,
    hookimpl,
)
from codelupe.contracts.boundary import Part
from codelupe.daemon import Daemon
from codelupe.log import EventLog
from codelupe.observability.metrics import read_sample
from codelupe.work.pauses import NothingToPause, pause, read_pauses, resume
from codelupe.work.replay import Replay, start_replay
from codelupe_events import BatchReady, FilesExtracted, FilesScored, RepoCloned, RepoDiscovered, TaskDeadLettered
from tests.conftest import CRAWLER, RunUntilIdle
from tests.git_server import make_repository
from tests.integration.test_cli import NO_PLUGINS, Shell
from tests.integration.test_scorers import BOTH, OPEN, of_type
from tests.logged import Logged
from tests.plugins import FAST, batch, import_path, install_plugin, make_plugin, named
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

MakeDaemon = Callable[..., Daemon]
ALWAYS = Part("bad", "subscription", "s")


class Flagged:
    """A scorer and file rule that fails while a file is there; at home where worker processes can import it."""

    version = 1
    weight = 1.0

    def __init__(self, flag: Path, name: str = "flagged") -> None:
        self.name = name
        self._flag = flag

    def score(self, file: SourceFile) -> Score:
        if self._flag.exists():
            raise ValueError("no taste")
        return Score(value=50)

    def check(self, file: SourceFile) -> Any:
        return 42 if self._flag.exists() else None


def offering(**hooks: Any) -> object:
    """A plugin that offers these: lists by the names of hooks without their prefix."""
    marked = {f"codelupe_{name}": _hook(name, offered) for name, offered in hooks.items()}
    return types.SimpleNamespace(**marked)


def _hook(name: str, offered: Any) -> Any:
    def hook() -> Any:
        return offered

    hook.__name__ = f"codelupe_{name}"
    return hookimpl(hook)


async def cloned_repositories(database: Database, folder: Path, count: int) -> None:
    """Their events, for the filters to begin with."""
    log = EventLog(database)
    for number in range(count):
        name = f"r{number}"
        found = RepoDiscovered(repository_id=f"test:{name}", source="test", full_name=name, url="u", revision="1")
        await database.execute(
            CRAWLER.write_repositories, [Repository.from_event(found).to_row()], [found.repository_id]
        )
        text = f"def f{number}(value):\n    return value + {number}\n".encode()
        commit = make_repository(folder / name, {"a.py": text}).head.commit.hexsha
        await log.publish(
            RepoCloned(repository_id=found.repository_id, commit=commit, path=name, size_bytes=1, seconds=1)
        )


async def events_of(database: Database) -> list[Any]:
    return [recorded.decode() async for recorded in EventLog(database).read()]


async def test_a_scorer_that_raises_on_every_file_is_left_out_until_it_is_resumed(
    make_daemon: MakeDaemon, database: Database, tmp_path: Path, logged: Logged
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    plugins = BOTH | {"acme": offering(scorers=[Flagged(flag)])}
    await cloned_repositories(database, tmp_path / "state" / "repos", 7)
    part = Part("acme", "scorer", "flagged")

    outcome = await make_daemon(plugins, OPEN).run()
    assert [pause.part for pause in outcome.pauses] == [part]
    events = await events_of(database)
    assert len(of_type(events, FilesScored)) == 7, "the others have scored"
    rows = await database.fetch("select scores from processed_files where content is not null")
    assert all(set(row["scores"]) > {"complexity"} and "flagged" not in row["scores"] for row in rows)
    assert of_type(events, TaskDeadLettered) == []
    [alert] = logged.records("quarantined")
    assert (alert["plugin"], alert["failures"], alert["log_level"]) == ("acme", 5, "error")
    assert "codelupe plugins resume acme.flagged" in alert["hint"]
    assert "the scorer 'flagged' of the plugin 'acme' failed on a.py: ValueError: no taste" in alert["error"]
    assert [record["stage"] for record in logged.records("attempt_failed")] == ["scorers.score"] * logged.count(
        "attempt_failed"
    )

    flag.unlink()
    again = await make_daemon(plugins, OPEN).run()
    assert [pause.part for pause in again.pauses] == [part], "a pause survives a restart"

    assert [one.part for one in await resume(database, "acme")] == [part]
    [score] = codelupe_scorers.codelupe_subscriptions()
    await start_replay(database, Replay(subscription=named("scorers", score), after=0))
    assert (await make_daemon(plugins, OPEN).run()).pauses == []
    rows = await database.fetch("select scores from processed_files where content is not null")
    assert all(row["scores"]["flagged"]["value"] == 50 for row in rows)


async def test_a_rule_that_answers_what_it_may_not_is_left_out(
    make_daemon: MakeDaemon, database: Database, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    await cloned_repositories(database, tmp_path / "state" / "repos", 3)
    filters: dict[str, object] = {"filters": codelupe_filters}
    acme = offering(file_rules=[Flagged(flag)])
    outcome = await make_daemon(filters | {"acme": acme}, OPEN, quarantine_after=2).run()
    [pause] = outcome.pauses
    assert pause.part == Part("acme", "file rule", "flagged")
    assert "it answered 42, where an Objection, a text or None belongs" in pause.why
    assert len(of_type(await events_of(database), FilesExtracted)) == 3


class Awkward(Flagged):
    """Something is wrong with it on its way to worker processes."""

    def __init__(self, name: str, held: object = None) -> None:
        self.name = name
        self.held = held

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.held is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    def score(self, file: SourceFile) -> Score:
        return Score(value=50)

    def check(self, file: SourceFile) -> Any: ...


def not_at_home_there(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = types.ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    module.OnlyHere = type("OnlyHere", (Awkward,), {"__module__": "only_here"})
    return module.OnlyHere


async def test_what_cannot_be_sent_to_worker_processes_is_left_out_like_what_raises(
    make_daemon: MakeDaemon, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    await cloned_repositories(database, tmp_path / "state" / "repos", 9)
    stranger = not_at_home_there(monkeypatch)
    acme = offering(
        file_rules=[Awkward("locked", threading.Lock()), Awkward("killing", "it"), Awkward("fine-rule")],
        scorers=[Awkward("computed", lambda: 1), stranger("strange"), Awkward("fine")],
    )
    outcome = await make_daemon(BOTH | {"acme": acme}, OPEN, quarantine_after=2).run()
    kinds = {"locked": "file rule", "killing": "file rule", "computed": "scorer", "strange": "scorer"}
    assert {pause.part for pause in outcome.pauses} == {Part("acme", kind, name) for name, kind in kinds.items()}
    for paused in outcome.pauses:
        assert f"{paused.part.name!r} of the plugin 'acme' failed on being sent to a worker process" in paused.why
    events = await events_of(database)
    assert len(of_type(events, FilesExtracted)) == len(of_type(events, FilesScored)) == 9
    assert of_type(events, TaskDeadLettered) == []
    assert logged.count("quarantined") == 4
    rows = await database.fetch("select scores from processed_files where content is not null")
    assert all({"complexity", "fine"} < set(row["scores"]) for row in rows)
    assert all({"computed", "strange"}.isdisjoint(row["scores"]) for row in rows)


class OneInTen:
    name = "one-in-ten"

    def check(self, repository: Repository) -> None:
        if int(repository.external_id) % 10 == 0:
            raise KeyboardInterrupt


def judging(name: str = "judge") -> Subscription:
    """A subscription that asks the rules of all plugins."""

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        identity = str(event.batch_id)
        it = Repository(source="test", external_id=identity, full_name="o/r", url="u", revision="1")
        for rule in context.repository_rules:
            rule.check(it)

    return Subscription(name=name, events=(BatchReady,), handler=handle, retry=FAST, concurrency=1)


async def test_a_rule_that_fails_for_one_repository_in_ten_is_not_quarantined(
    make_daemon: MakeDaemon, database: Database, logged: Logged
) -> None:
    for number in range(100):
        await EventLog(database).publish(batch(number))
    plugins = {"own": make_plugin(subscriptions=[judging()]), "acme": offering(repository_rules=[OneInTen()])}
    outcome = await make_daemon(plugins, quarantine_after=3).run()
    assert outcome.pauses == []
    assert logged.count("quarantined") == 0
    letters = await database.fetch("select subscription, error from tasks where state = 'dead_lettered'")
    assert len(letters) == 10
    for letter in letters:
        assert "the repository rule 'one-in-ten' of the plugin 'acme' failed on test:" in letter["error"]
        assert "KeyboardInterrupt" in letter["error"]
    [(part, error)] = outcome.failed_contributions.items()
    assert part == Part("acme", "repository rule", "one-in-ten")
    assert "'acme'" in error


class Always:
    name = "always"

    def check(self, repository: Repository) -> None:
        raise ValueError("never content")


async def test_a_rule_s_failures_do_not_quarantine_the_subscription_that_asks_it(
    make_daemon: MakeDaemon, database: Database
) -> None:
    for number in range(4):
        await EventLog(database).publish(batch(number))
    plugins = {"own": make_plugin(subscriptions=[judging()]), "acme": offering(repository_rules=[Always()])}
    outcome = await make_daemon(plugins).run()
    assert (outcome.pauses, len(outcome.failed_contributions)) == ([], 1)
    for number in range(4, 6):
        await EventLog(database).publish(batch(number))
    [pause] = (await make_daemon(plugins).run()).pauses
    assert pause.part == Part("acme", "repository rule", "always"), "failures are counted over restarts"


# --- subscriptions ---


class Failing:
    """A plugin whose subscription fails until it is mended, and one whose subscription does not."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error: Exception | None = error or ValueError("bad")
        self.handled: list[int] = []
        self.innocent: list[int] = []
        self.plugins: dict[str, object] = {
            "bad": make_plugin(
                subscriptions=[Subscription(name="s", events=(BatchReady,), handler=self._handle, retry=FAST)]
            ),
            "innocent": make_plugin(
                subscriptions=[Subscription(name="s", events=(BatchReady,), handler=self._innocent)]
            ),
        }

    async def _handle(self, event: BatchReady, context: HandlerContext) -> None:
        if self.error is not None:
            raise self.error
        self.handled.append(event.batch_id)

    async def _innocent(self, event: BatchReady, context: HandlerContext) -> None:
        self.innocent.append(event.batch_id)


async def test_a_subscription_that_always_fails_is_paused_and_an_innocent_one_goes_on(
    make_daemon: MakeDaemon, database: Database, logged: Logged
) -> None:
    it = Failing()
    for number in range(40):
        await EventLog(database).publish(batch(number))
    outcome = await make_daemon(it.plugins).run()
    assert [pause.part for pause in outcome.pauses] == [ALWAYS]
    assert sorted(it.innocent) == list(range(40))
    assert await database.fetchval("select count(*) from tasks where state = 'dead_lettered'") == 5
    [alert] = logged.records("quarantined")
    assert (alert["plugin"], alert["what"]) == ("bad", "subscription bad.s")

    it.error = None
    await make_daemon(it.plugins).run()
    assert it.handled == [], "a pause survives a restart"
    await resume(database, "bad.s")
    await make_daemon(it.plugins).run()
    assert len(it.handled) == 35


async def test_what_a_handler_rejects_is_its_verdict_and_a_success_starts_anew(
    make_daemon: MakeDaemon, database: Database
) -> None:
    it = Failing(Reject("no"))
    for number in range(10):
        await EventLog(database).publish(batch(number))
    assert (await make_daemon(it.plugins).run()).pauses == []
    it.error = ValueError("no")
    for number in range(10, 14):
        await EventLog(database).publish(batch(number))
    await make_daemon(it.plugins).run()
    it.error = None
    await EventLog(database).publish(batch(14))
    await make_daemon(it.plugins).run()
    it.error = ValueError("no")
    for number in range(15, 19):
        await EventLog(database).publish(batch(number))
    assert (await make_daemon(it.plugins).run()).pauses == []
    await EventLog(database).publish(batch(19))
    assert [pause.part for pause in (await make_daemon(it.plugins).run()).pauses] == [ALWAYS]


@asynccontextmanager
async def at_work(*daemons: Daemon) -> AsyncIterator[None]:
    with anyio.fail_after(HANGS):
        async with anyio.create_task_group() as group:
            for daemon in daemons:
                group.start_soon(daemon.run)
            yield
            group.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await anyio.sleep(0.01)


async def test_two_processes_count_together_and_both_heed_pause_and_resume(
    make_daemon: MakeDaemon, database: Database, logged: Logged, tmp_path: Path
) -> None:
    it = Failing()
    one = make_daemon(it.plugins, until_idle=False)
    other = make_daemon(it.plugins, until_idle=False, state_dir=str(tmp_path / "other"))
    async with at_work(one, other):
        for number in range(30):
            await EventLog(database).publish(batch(number))
        await logged.wait_for("quarantined", plugin="bad")
        await logged.wait_for("pauses_changed")
        await until(lambda: len(it.innocent) == 30)
        letters = await database.fetchval("select count(*) from tasks where state = 'dead_lettered'")
        assert letters == 5
        it.error = None
        await EventLog(database).publish(batch(30))
        await until(lambda: len(it.innocent) == 31)
        assert it.handled == []
        await resume(database, "bad")
        await until(lambda: len(it.handled) == 26)
    assert logged.count("quarantined") == 1


async def test_a_batch_subscription_that_always_fails_reads_no_further(
    make_daemon: MakeDaemon, database: Database
) -> None:
    is_bad, handled = True, list[int]()

    async def handle(events: Any, context: BatchContext) -> None:
        if is_bad:
            raise ValueError("bad")
        handled.extend(event.batch_id for event in events)

    bad = make_plugin(
        subscriptions=[BatchSubscription(name="s", events=(BatchReady,), handler=handle, retry=FAST, size=10)]
    )
    for number in range(50):
        await EventLog(database).publish(batch(number))
    outcome = await make_daemon({"bad": bad}).run()
    assert [pause.part for pause in outcome.pauses] == [ALWAYS]
    letters = await database.fetchval("select count(*) from tasks where state = 'dead_lettered'")
    assert letters == 5
    is_bad = False
    await resume(database, "bad")
    assert (await make_daemon({"bad": bad}).run()).pauses == []
    assert len(handled) == 45


# --- by hand ---


async def test_a_pause_by_hand_holds_in_a_running_daemon(
    make_daemon: MakeDaemon, database: Database, logged: Logged
) -> None:
    it, runs = Failing(), list[int]()
    it.error = None

    async def run(context: JobContext) -> None:
        runs.append(len(runs))

    it.plugins["works"] = make_plugin(jobs=[Job(name="j", every=timedelta(milliseconds=10), run=run)])
    async with at_work(make_daemon(it.plugins, until_idle=False)):
        await until(lambda: bool(runs))
        await pause(database, "bad.s", [ALWAYS, Part("works", "job", "j")])
        await pause(database, "works", [ALWAYS, Part("works", "job", "j")])
        await logged.wait_for("pauses_changed", paused=["subscription bad.s", "job works.j"])
        count = len(runs)
        await EventLog(database).publish(batch(1))
        await until(lambda: it.innocent == [1])
        await resume(database, "bad.s")
        await until(lambda: it.handled == [1])
        assert len(runs) <= count + 1
        await resume(database, "works")
        await until(lambda: len(runs) > count + 1)
    assert await read_pauses(database) == []
    with pytest.raises(NothingToPause):
        await resume(database, "bad")
    with pytest.raises(NothingToPause):
        await pause(database, "nothing", [ALWAYS])


class Shop:
    name = "shop"

    async def discover(self) -> AsyncIterator[Repository]:
        yield Repository(source="shop", external_id="1", full_name="a/b", url="u", revision="1")
        raise SystemExit("closed")


class Market:
    name = "market"

    async def discover(self) -> AsyncIterator[Repository]:
        yield Repository(source="market", external_id="1", full_name="c/d", url="u", revision="1")


async def test_a_source_that_fails_half_way_is_named_and_a_paused_one_left_out(
    run_until_idle: RunUntilIdle, database: Database, logged: Logged
) -> None:
    plugins = {"crawler": codelupe_crawler, "acme": offering(repository_sources=[Shop(), Market()])}
    await pause(database, "acme.market", [Part("acme", "source", "market")])
    found = of_type(await run_until_idle(plugins), RepoDiscovered)
    assert [event.source for event in found] == ["shop"]
    assert "the source 'shop' of the plugin 'acme'" in logged.records("source_failed")[0]["error"]
    await resume(database, "acme")
    found = of_type(await run_until_idle(plugins), RepoDiscovered)
    assert [event.source for event in found] == ["shop", "market"]


class Quiz:
    """An evaluator with a single problem."""

    version = 1
    max_tokens = 8

    def __init__(self, name: str) -> None:
        self.name = name

    def problems(self) -> list[Problem]:
        return [Problem(id="sum", prompt="1 + 1 =", form="text")]

    def is_solved(self, problem: str, answer: str) -> bool:
        return answer.strip() == "2"


async def test_a_paused_evaluator_is_left_out(run_until_idle: RunUntilIdle, database: Database) -> None:
    asked: list[list[str]] = []

    async def handle(event: BatchReady, context: HandlerContext) -> None:
        asked.append([each.name for each in context.evaluators])

    works = make_plugin(subscriptions=[Subscription(name="s", events=(BatchReady,), handler=handle)])
    plugins = {"works": works, "acme": offering(evaluators=[Quiz("easy"), Quiz("hard")])}
    await pause(database, "acme.hard", [Part("acme", "evaluator", "hard")])
    await EventLog(database).publish(batch(1))
    await run_until_idle(plugins)
    await resume(database, "acme")
    await EventLog(database).publish(batch(2))
    await run_until_idle(plugins)
    assert asked == [["easy"], ["easy", "hard"]]


# --- on the command line ---

BAD = """
from codelupe import RetryPolicy, Subscription, hookimpl
from codelupe_events import BatchReady
async def handle(event, context): raise ValueError("bad")
@hookimpl
def codelupe_subscriptions():
    return [Subscription(name="s", events=(BatchReady,), handler=handle, retry=RetryPolicy(attempts=1))]
"""


async def test_the_command_line_shows_pauses_and_lets_what_is_paused_go_on(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    install_plugin(tmp_path / "site", "bad", BAD)
    shell = Shell(tmp_path, PYTHONPATH=import_path(tmp_path / "site"), CODELUPE_DATABASE_URL=database_url)
    for number in range(10):
        await EventLog(database).publish(batch(number))
    ran = await shell("run", "--until-idle", "--set", NO_PLUGINS)
    assert ran.code == 1
    assert "the subscription bad.s is paused since" in ran.err
    assert "`codelupe plugins resume bad.s`" in ran.err
    assert (await read_sample(database)).paused == [("bad", "subscription s")]

    listed = await shell("plugins", "list", "--json")
    [row] = [row for row in json.loads(listed.out) if row["name"] == "bad"]
    assert [(one["kind"], one["name"]) for one in row["paused"]] == [("subscription", "bad.s")]
    assert "failed over 5 streams in a row, the last time with ValueError: bad" in row["paused"][0]["why"]
    assert "codelupe plugins resume bad.s" in listed.err
    assert "Paused: the subscription bad.s" in (await shell("status")).out
    assert [one["name"] for one in json.loads((await shell("status", "--json")).out)["paused"]] == ["bad.s"]
    findings = json.loads((await shell("doctor", "--json")).out)
    [finding] = [one for one in findings if one["what"] == "subscription bad.s"]
    assert (finding["verdict"], "plugins resume bad.s" in finding["hint"]) == ("warning", True)

    resumed = await shell("plugins", "resume", "bad", "--json")
    assert json.loads(resumed.out) == {"resumed": [{"plugin": "bad", "kind": "subscription", "name": "bad.s"}]}
    (await shell("plugins", "resume", "bad")).failed(1, "nothing of bad is paused")
    paused = await shell("plugins", "pause", "filters")
    assert (paused.code, "The repository rule filters.min-stars is paused." in paused.out) == (0, True)
    (await shell("plugins", "pause", "filters.nothing")).failed(1, "nothing that can be paused")

    again = await shell("plugins", "pause", "filters")
    assert (again.code, again.out, again.err) == (0, "", "filters was paused already.\n")
    findings = json.loads((await shell("doctor", "--json")).out)
    [by_hand] = [one for one in findings if one["what"] == "repository rule filters.min-stars"]
    assert by_hand["hint"] == "`codelupe plugins resume filters.min-stars` lets it go on.", "nothing is to be mended"
    since = min(one.since for one in await read_pauses(database)).astimezone(UTC)
    assert (
        f"codelupe replay SUBSCRIPTION --since {since:%Y-%m-%dT%H:%M:%S}\n"
        in (await shell("plugins", "resume", "filters", TZ="Asia/Tokyo")).err
    )

"""Every bad plugin that we know, installed at once, beside the pipeline: it ends with the same tables as without them.

Each culprit is named, and how long an innocent subscription beside them waits has a bound.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import pytest

from codelupe import Database
from codelupe.log import EventLog
from tests.acceptance import canary
from tests.acceptance.bad_plugins import (
    BLOCK_SECONDS,
    BROKEN,
    CRASHES,
    DEAD_LETTERED,
    LOGGED,
    STORM,
    UNSAID,
    BadPlugin,
)
from tests.acceptance.pipeline import LEASE_SECONDS, Pipeline, tables
from tests.plugins import import_path, install_plugin

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("pipeline")]

BAD: dict[str, BadPlugin] = {**BROKEN, **DEAD_LETTERED, **LOGGED, **UNSAID}
STRANGERS = ["canary", *(BAD.keys() - BROKEN.keys())]
POLL_SECONDS = 1.0
BOUND_SECONDS = BLOCK_SECONDS + LEASE_SECONDS / 3 + POLL_SECONDS
"""What may hold up an event on its way to the canary, one after the other: a loop that is blocked; connections that
others hold, for at most a third of a lease; a wake-up that got lost. 99 of 100 events take less, by the clock of the
database from append to handler, those that a restart of the daemon met left out."""
USUAL_SECONDS = 1.0
"""Half of them take less: most of the time, the bad ones hold up nothing at all."""
SONG_SECONDS = 0.5


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with all of them installed."""
    site = tmp_path / "site"
    for name, bad in BAD.items():
        install_plugin(site, name, bad.code, migrations=bad.migrations)
    install_plugin(site, "canary", Path(canary.__file__).read_text(), migrations=canary.MIGRATIONS)
    return site


@dataclass
class Life:
    """One process of the daemon."""

    log: Path
    ended: float = 0.0
    code: int | None = None

    @property
    def started(self) -> float:
        """When it was ready."""
        return next(
            datetime.fromisoformat(record["timestamp"]).timestamp()
            for record in self.records()
            if record["event"] == "started"
        )

    def records(self) -> Iterator[dict[str, Any]]:
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and line.endswith("}"):
                yield json.loads(line)


class Supervisor:
    """Starts the daemon again when it ends with EX_SOFTWARE, as systemd does."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = {**environment, "CODELUPE_LOG_LEVEL": "info", "CODELUPE_LOG_FORMAT": "json"}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.lives: list[Life] = []

    @asynccontextmanager
    async def running(self, command: Sequence[str]) -> AsyncIterator[None]:
        """Inside the block it runs; then it is asked to stop."""
        try:
            async with anyio.create_task_group() as group:
                await group.start(self._run, command)
                yield
                assert self._process is not None
                self._process.send_signal(signal.SIGTERM)
        finally:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()

    def require_running(self) -> None:
        """It runs, or is about to be started again, and not for ever."""
        assert len(self.lives) <= CRASHES + 2
        assert self.lives[-1].code in (None, os.EX_SOFTWARE), self.lives[-1].log.read_text()[-6000:]

    async def _run(self, command: Sequence[str], *, task_status: anyio.abc.TaskStatus[None]) -> None:
        first = len(self.lives)
        while True:
            life = Life(log=self._folder / f"life-{len(self.lives)}.log")
            self.lives.append(life)
            with life.log.open("wb") as output:
                self._process = subprocess.Popen(
                    command, env=self._environment, stdout=output, stderr=subprocess.STDOUT
                )
            if life is self.lives[first]:
                task_status.started()
            life.code = await anyio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)
            life.ended = time.time()
            if life.code != os.EX_SOFTWARE:
                return

    def said(self, event: str) -> set[str]:
        """The plugins that records of this event name."""
        return {
            str(record.get("plugin") or record.get("stage", "")).partition(".")[0]
            for life in self.lives
            for record in life.records()
            if record["event"] == event
        }


class Songs:
    """The canary's."""

    def __init__(self, log: EventLog, supervisor: Supervisor) -> None:
        self._log = log
        self._supervisor = supervisor
        self._numbers = count()

    async def sing(self) -> None:
        """Append one, and wait for the time of the next."""
        self._supervisor.require_running()
        await self._log.publish(canary.CanarySang(number=next(self._numbers)), metadata={"by": "canary"})
        await anyio.sleep(SONG_SECONDS)


async def test_with_all_bad_plugins_at_once_the_pipeline_ends_as_without_them(
    undisturbed: tuple[Pipeline, str],
    make_pipeline: Callable[[str], Pipeline],
    create_database: Callable[[str], Any],
    site: Path,
    tmp_path: Path,
) -> None:
    pipeline = make_pipeline("bad_plugins")
    await create_database(pipeline.url)
    environment = {**pipeline.environment, "PYTHONPATH": import_path(site)}
    supervisor = Supervisor(environment, tmp_path)
    async with Database(pipeline.url) as database:
        log = EventLog(database)
        songs = Songs(log, supervisor)
        async with anyio.create_task_group() as beside:
            beside.start_soon(log.notifier.run)
            async with supervisor.running(pipeline.run_command("--until-idle")):
                while not await _only_what_is_put_off_is_left(database):
                    await songs.sing()
            async with supervisor.running(pipeline.run_command()):  # services run only where no end is in sight
                while "cancelling_service" not in supervisor.said("service_failed"):
                    await songs.sing()
            beside.cancel_scope.cancel()
        await _pipeline_goes_idle_without_the_one_that_puts_off(pipeline, environment)
        assert await tables(pipeline.url, besides=STRANGERS) == await tables(undisturbed[0].url)
        _each_culprit_is_named_in_the_log(supervisor)
        await _each_culprit_is_named_in_its_dead_letters(database)
        _each_broken_plugin_is_named(pipeline, environment)
        assert [life.code for life in supervisor.lives] == [*[os.EX_SOFTWARE] * CRASHES, 0, 0]
        await _canary_was_not_held_up(database, supervisor.lives)


async def _only_what_is_put_off_is_left(database: Database) -> bool:
    """There is a verdict on the model, and nothing waits but for what is put off or paused, and dead letters."""
    return bool(
        await database.fetchval(
            "with paused as (select plugin || '.' || name as subscription from pauses where kind = 'subscription')"
            " select exists (select from tasks where subscription = 'puts_off.s')"
            " and not exists ("
            "     select from tasks where subscription <> 'puts_off.s' and state <> 'dead_lettered'"
            "         and subscription not in (select subscription from paused))"
            " and (select bool_and(position = head_position()) from subscriptions"
            "      where name not in (select subscription from paused))"
        )
    )


async def _pipeline_goes_idle_without_the_one_that_puts_off(pipeline: Pipeline, environment: dict[str, str]) -> None:
    """Its operator disables it; the run ends with 1, and names the jobs that failed."""
    ended = await anyio.run_process(
        pipeline.run_command("--until-idle"),
        env={**environment, "CODELUPE_DISABLED_PLUGINS": '["puts_off"]'},
        check=False,
        stderr=subprocess.STDOUT,
    )
    output = ended.stdout.decode()
    assert ended.returncode == 1, output
    assert "cancelled_job.j failed: CancelledError" in output
    assert "panicking_job.j failed: PanicException: a job" in output


def _each_culprit_is_named_in_the_log(supervisor: Supervisor) -> None:
    for life in supervisor.lives:
        broken = {record["plugin"]: record["error"] for record in life.records() if record["event"] == "plugin_broken"}
        assert broken.keys() == BROKEN.keys()
        assert {name: broken[name] for name, bad in BROKEN.items() if bad.said not in broken[name]} == {}
    for name, bad in LOGGED.items():
        assert name in supervisor.said(bad.said), name
    assert supervisor.said("event_loop_blocked") <= {"blocks"}
    assert supervisor.said("handler_ignores_cancellation") == {"ignores_cancellation"}
    assert supervisor.said("failed_after_commit") == {"emits_late"}


async def _each_culprit_is_named_in_its_dead_letters(database: Database) -> None:
    rows = await database.fetch("select subscription, error from tasks where state = 'dead_lettered'")
    errors = {row["subscription"].partition(".")[0]: row["error"] for row in rows}
    assert errors.keys() == DEAD_LETTERED.keys()
    assert {name: errors[name] for name, bad in DEAD_LETTERED.items() if bad.said not in errors[name]} == {}
    gusts = await database.fetchval("select count(*) from events where type = 'Gust'")
    assert gusts == STORM
    assert await database.fetchval("select count(*) from tasks where subscription = 'storm.bear'") == 0


def _each_broken_plugin_is_named(pipeline: Pipeline, environment: dict[str, str]) -> None:
    command = pipeline.command("plugins", "list", "--json")
    listed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert listed.returncode == 1
    rows = {row["name"]: row for row in json.loads(listed.stdout) if row["distribution"].startswith("stranger-")}
    known_unasked = {name: bad for name, bad in BROKEN.items() if not bad.migrations}  # the list migrates nothing
    assert {name for name, row in rows.items() if row["state"] == "broken"} == known_unasked.keys()
    assert {name for name, bad in known_unasked.items() if bad.said not in rows[name]["error"]} == set()
    assert rows["status_again"]["taken_commands"] == ["status"]
    assert "subscriptions" in pipeline.ask("status")


async def _canary_was_not_held_up(database: Database, lives: Sequence[Life]) -> None:
    rows = await database.fetch(
        "select extract(epoch from recorded_at)::float as sung, extract(epoch from handled_at)::float as heard"
        " from plugin_canary.songs join events on type = 'CanarySang' and data ->> 'number' = number::text"
    )
    ends = [0.0, *(life.ended for life in lives[:-1])]
    restarts = [(ended, life.started) for ended, life in zip(ends, lives, strict=True)]
    seconds = sorted(
        row["heard"] - row["sung"]
        for row in rows
        if not any(row["sung"] < end and row["heard"] > begin for begin, end in restarts)
    )
    assert len(seconds) > 50
    assert seconds[len(seconds) // 2] < USUAL_SECONDS, seconds
    assert seconds[len(seconds) * 99 // 100] < BOUND_SECONDS, seconds

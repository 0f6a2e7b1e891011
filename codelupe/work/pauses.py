"""Parts of plugins that are paused: by hand, or quarantined since they failed over one stream after another.

A paused subscription gets no events; they wait in the log. A paused rule or scorer keeps those subscriptions of its own
plugin waiting that have asked for it, since without it they would take for good what it has not judged; what another
plugin has added to their judgement is left out, and said to be. What needs a paused search index waits. A paused source
is left out, and a paused job does not run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import structlog

from codelupe.contracts.boundary import Part, part_of
from codelupe.errors import CodelupeError, RetryLater
from codelupe.log import EventLog
from codelupe.log.event_log import SQL as _LOG
from codelupe.postgres import Connection, Database
from codelupe.postgres.queries import load_queries
from codelupe.postgres.retry import RetryWhileUnavailable

SQL = load_queries("codelupe_sql", "pauses")
QUARANTINE_AFTER = 5
"""The default of the setting ``quarantine_after``. A fault of one repository hits one; five in a row without a success
between them are no chance, and their dead letters are few enough to be retried by hand."""
ASK_AGAIN = timedelta(seconds=1)
_BY_HAND = "by hand"

T = TypeVar("T")

log = structlog.get_logger("codelupe")


class NothingToPause(CodelupeError):
    """Nothing that takes part, or that is paused, has that name."""

    code = "nothing-to-pause"


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A part that is paused, since when and why."""

    part: Part
    since: datetime
    why: str

    @property
    def hint(self) -> str:
        if self.why == _BY_HAND:
            return f"`codelupe plugins resume {self.part.full_name}` lets it go on."
        return resume_hint(self.part)

    def as_row(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "plugin": self.part.plugin,
            "kind": self.part.kind,
            "name": self.part.full_name,
            "since": self.since,
            "why": self.why,
        }


class Pauses:
    """What is paused, as this process knows it; and what fails, until it succeeds or is quarantined."""

    def __init__(self, log: EventLog, quarantine_after: int = QUARANTINE_AFTER) -> None:
        self._database = log.database
        self._news = log.notifier.task_signal()
        self._quarantine_after = quarantine_after
        self._paused: dict[Part, Pause] = {}
        self._failing: set[Part] = set()
        self._needs: defaultdict[str, set[Part]] = defaultdict(set)
        """The contributions that each subscription, job or service has asked for."""
        self.failed: dict[Part, str] = {}
        """Contributions of which an event of this run became a dead letter, with the error."""

    @property
    def all(self) -> list[Pause]:
        """Those that are known to this process."""
        return list(self._paused.values())

    # --- asked on the way of an event ---

    def is_paused(self, part: Part) -> bool:
        return part in self._paused

    def holds(self, subscription: str) -> bool:
        """Whether it, or something that it needs, is paused."""
        if not self._paused:
            return False
        name = subscription.partition("~")[0]  # a rebuild waits with its subscription
        return subscription_part(name) in self._paused or not self._paused.keys().isdisjoint(self._needs[name])

    def require_open(self, subscription: str) -> None:
        """Raises ``RetryLater`` if it is held."""
        if self.holds(subscription):
            raise RetryLater(f"{subscription} is paused, or what it needs", after=ASK_AGAIN, counts=False)

    def required(self, stage: str, contributions: Sequence[T]) -> Sequence[T]:
        """The same, which the stage needs from now on.

        Raises:
            RetryLater: one of them is paused.
        """
        parts = {part for one in contributions if (part := part_of(one)) is not None}
        self._needs[stage] |= parts
        if paused := sorted(str(part) for part in parts & self._paused.keys()):
            raise RetryLater(f"paused: {', '.join(paused)}", after=ASK_AGAIN, counts=False)
        return contributions

    def judges(self, stage: str, contributions: Sequence[T]) -> Sequence[T]:
        """Those that a stage may ask: its plugin's own, and of what others have added that which is not paused.

        Raises:
            RetryLater: one of its plugin's own is paused.
        """
        plugin = stage.partition(".")[0]
        self.required(stage, [one for one in contributions if (part := part_of(one)) and part.plugin == plugin])
        return self.without_paused(contributions)

    def without_paused(self, contributions: Sequence[T]) -> Sequence[T]:
        return [one for one in contributions if part_of(one) not in self._paused]

    # --- counting ---

    async def record_failure(self, part: Part, stream: str, error: str) -> None:
        """Its first attempt at an event of this stream has failed.

        What only judges is quarantined by this alone, since trying again cannot help it.
        """
        if self.is_paused(part):
            return
        self._failing.add(part)
        async with self._database.transaction() as connection:
            streams = await connection.fetchval(SQL.record_failure, *_key(part), stream)
            is_quarantined = part.only_judges and await self._quarantine(connection, part, streams, error)
        if is_quarantined:
            await self._alert(part, error, self._quarantine_after)
        elif streams == 1:
            await self._database.execute(_LOG.notify_of_tasks)  # other processes say if it succeeds there

    async def record_dead_letter(
        self, part: Part, stream: str, error: str, dead_letter: Callable[[Connection], Awaitable[None]]
    ) -> bool:
        """Its last attempt has failed, too: make the dead letter, unless it is paused by now; whether it was made."""
        async with self._database.transaction() as connection:
            streams = await connection.fetchval(SQL.record_dead_letter, *_key(part), stream)
            if await connection.fetchval(SQL.is_paused, *_key(part)):
                return False
            await dead_letter(connection)
            is_quarantined = await self._quarantine(connection, part, streams or 0, error)
        if is_quarantined:
            await self._alert(part, error, self._quarantine_after)
        return True

    async def record_crashes(self, part: Part, crashes: int) -> None:
        """So many processes have ended with it, one after another: it is paused."""
        error = f"{crashes} processes died while it ran"
        async with self._database.transaction() as connection:
            is_news = await _pause(connection, part, error)
        if is_news:
            await self._alert(part, error, crashes)

    async def _quarantine(self, connection: Connection, part: Part, streams: int, error: str) -> bool:
        why = f"it failed over {streams} streams in a row, the last time with {error}"
        return streams >= self._quarantine_after and await _pause(connection, part, why)

    async def _alert(self, part: Part, error: str, failures: int) -> None:
        log.error(
            "quarantined",
            plugin=part.plugin,
            what=str(part),
            failures=failures,
            error=error,
            hint=resume_hint(part),
        )
        await self.refresh()
        await self._database.execute(_LOG.notify_of_tasks)

    def are_failing(self, parts: Collection[Part]) -> bool:
        """Whether a success of theirs is worth recording."""
        return not self._failing.isdisjoint(parts)

    async def record_success(self, parts: Collection[Part]) -> None:
        """Their failures do not follow one another."""
        for part in self._failing.intersection(parts):
            await self._database.execute(SQL.forget_failures, *_key(part))
            self._failing.discard(part)

    # --- what other processes did ---

    async def refresh(self) -> bool:
        """Look into the database; whether something was paused or resumed."""
        before = self._paused.keys()
        paused = {pause.part: pause for pause in await read_pauses(self._database)}
        self._failing = {Part(*row) for row in await self._database.fetch(SQL.failing)}
        self._paused = paused
        return before != paused.keys()

    async def follow(self, poll: float, on_change: Callable[[], None]) -> None:
        """Refresh at notifications, and every ``poll`` seconds, until cancelled."""
        attempt = RetryWhileUnavailable("pauses", quiet=True)
        while True:
            async with attempt:
                await self._news.wait(poll)
                if await self.refresh():
                    log.info("pauses_changed", paused=[str(part) for part in self._paused])
                    on_change()


def subscription_part(full_name: str) -> Part:
    plugin, _, name = full_name.partition(".")
    return Part(plugin, "subscription", name)


def job_part(full_name: str) -> Part:
    plugin, _, name = full_name.partition(".")
    return Part(plugin, "job", name)


def resume_hint(part: Part) -> str:
    return f"Mend the plugin, then `codelupe plugins resume {part.full_name}`; or disable it."


async def read_pauses(database: Database) -> list[Pause]:
    """All of them, by plugin."""
    return [_read_pause(row) for row in await database.fetch(SQL.pauses)]


async def pause(database: Database, name: str, parts: Collection[Part]) -> list[Part]:
    """Pause those of the parts that are a plugin's of this name, or have this full name; returns what is new.

    Raises:
        NothingToPause: there are none.
    """
    wanted = [part for part in parts if name in (part.plugin, part.full_name)]
    if not wanted:
        raise NothingToPause(
            f"nothing that can be paused is called {name}",
            hint="`codelupe plugins list` names plugins, subscriptions and jobs.",
        )
    async with database.transaction() as connection:
        paused = [part for part in wanted if await _pause(connection, part, _BY_HAND)]
    await database.execute(_LOG.notify_of_tasks)
    return paused


async def resume(database: Database, name: str) -> list[Pause]:
    """Let all that is paused of this plugin, or has this full name, go on; returns the pauses that end.

    Raises:
        NothingToPause: there is nothing.
    """
    rows = await database.fetch(SQL.resume, name)
    if not rows:
        raise NothingToPause(f"nothing of {name} is paused", hint="`codelupe plugins list` names what is.")
    await database.execute(_LOG.notify_of_tasks)
    return [_read_pause(row) for row in rows]


async def _pause(connection: Connection, part: Part, why: str) -> bool:
    """Whether it was not paused before. What it failed over before is forgotten."""
    await connection.execute(SQL.forget_failures, *_key(part))
    return await connection.fetchval(SQL.pause, *_key(part), why) is not None


def _read_pause(row: asyncpg.Record) -> Pause:
    return Pause(part=Part(row["plugin"], row["kind"], row["name"]), since=row["since"], why=row["why"])


def _key(part: Part) -> tuple[str, str, str]:
    return part.plugin, part.kind, part.name

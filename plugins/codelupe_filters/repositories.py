"""Judges repositories by what their sources say: each time there is new content, and each time this has changed."""

from __future__ import annotations

from typing import Literal

import asyncpg

from codelupe import Connection, HandlerContext, Repository, load_queries
from codelupe_events import Reason, RepoAccepted, RepoChanged, RepoDescribed, RepoDiscovered, RepoRejected
from codelupe_filters.repository_score import repository_score
from codelupe_filters.settings import FiltersSettings

SQL = load_queries("codelupe_sql", "filters")

Verdict = Literal["accepted", "rejected"]


class JudgeRepositories:
    """Handles :class:`RepoDiscovered` and :class:`RepoChanged` by the rules of all plugins.

    A verdict is an event when it is another one than before, or is about another revision: only then is there something
    to do for the stages that follow. The row always has the present score and reasons.
    """

    def __init__(self, settings: FiltersSettings) -> None:
        self._settings = settings

    async def __call__(self, event: RepoDiscovered | RepoChanged, context: HandlerContext) -> None:
        repository = Repository.from_event(event)
        score = repository_score(repository, self._settings)
        objections = [rule.check(repository) for rule in context.repository_rules]
        async with context.transaction() as connection:
            known = await connection.fetchrow(SQL.lock_verdict, event.repository_id)
            if known is not None and _is_over(known, event, context.recorded.position):
                context.log.info("description_superseded", revision=event.revision, state=known["state"])
                return
            objections.append(await _recall(event, connection))
            reasons = tuple(reason for reason in objections if reason)
            verdict: Verdict = "rejected" if reasons else "accepted"
            about = (event.repository_id, verdict, event.revision, context.recorded.position)
            await connection.execute(SQL.record_verdict, *about, score, reasons)
            if known is None or _is_news(known, verdict, event.revision):
                context.emit(_as_event(event, score, reasons))


async def _recall(event: RepoDescribed, connection: Connection) -> Reason | None:
    if await connection.fetchval(SQL.is_forgotten, event.repository_id, event.full_name, event.url):
        return Reason(rule="forgotten", detail="it was forgotten on request; see `codelupe forget --list`")
    return None


def _is_over(known: asyncpg.Record, event: RepoDescribed, position: int) -> bool:
    """Whether a later event about it was judged, or will be, or it cannot be had any more."""
    return bool(known["judged_position"] > position or known["revision"] != event.revision or known["state"] == "gone")


def _is_news(known: asyncpg.Record, verdict: Verdict, revision: str) -> bool:
    """Whether the verdict is to be acted on. One that was gone and is back starts again at its old revision."""
    return (known["verdict"], known["judged_revision"]) != (verdict, revision) or known["state"] == "discovered"


def _as_event(event: RepoDescribed, score: float, reasons: tuple[Reason, ...]) -> RepoAccepted | RepoRejected:
    if reasons:
        return RepoRejected(repository_id=event.repository_id, revision=event.revision, score=score, reasons=reasons)
    return RepoAccepted(
        repository_id=event.repository_id,
        url=event.url,
        full_name=event.full_name,
        revision=event.revision,
        score=score,
    )

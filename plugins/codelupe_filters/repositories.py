"""Judges a discovered repository: every rule is asked, then the score."""

from __future__ import annotations

from codelupe import HandlerContext, Repository, load_queries
from codelupe_events import Reason, RepoAccepted, RepoDiscovered, RepoRejected
from codelupe_filters.repository_score import repository_score

SQL = load_queries("codelupe_sql", "filters")


class JudgeRepositories:
    """Handles :class:`RepoDiscovered` by the rules of all plugins and the lowest score that is accepted."""

    def __init__(self, min_score: float) -> None:
        self._min_score = min_score

    async def __call__(self, event: RepoDiscovered, context: HandlerContext) -> None:
        repository = Repository.from_event(event)
        score = repository_score(repository, context.recorded.recorded_at)
        checks = [rule.check(repository) for rule in context.repository_rules]
        checks += [self._check_score(score), await _check_memory(event, context)]
        reasons = tuple(reason for reason in checks if reason)
        async with context.transaction() as connection:
            state = "rejected" if reasons else "accepted"
            await connection.execute(SQL.record_verdict, event.repository_id, event.revision, state, score, reasons)
            context.emit(_verdict(event, score, reasons))

    def _check_score(self, score: float) -> Reason | None:
        if score >= self._min_score:
            return None
        return Reason(rule="min-score", detail=f"score {score:g}, at least {self._min_score:g} is asked for")


async def _check_memory(event: RepoDiscovered, context: HandlerContext) -> Reason | None:
    if await context.database.fetchval(SQL.is_forgotten, event.repository_id, event.full_name, event.url):
        return Reason(rule="forgotten", detail="it was forgotten on request; see `codelupe forget --list`")
    return None


def _verdict(event: RepoDiscovered, score: float, reasons: tuple[Reason, ...]) -> RepoAccepted | RepoRejected:
    if reasons:
        return RepoRejected(repository_id=event.repository_id, revision=event.revision, score=score, reasons=reasons)
    return RepoAccepted(
        repository_id=event.repository_id,
        url=event.url,
        full_name=event.full_name,
        revision=event.revision,
        score=score,
    )

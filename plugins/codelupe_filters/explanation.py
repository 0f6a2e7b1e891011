"""Why a repository is accepted or not: each rule, what it sees, and where the points of the score come from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from codelupe import CodelupeError, Database, Repository, RepositoryRule
from codelupe_filters.known import read_repository, recorded_verdict
from codelupe_filters.repositories import SQL
from codelupe_filters.repository_rules import MinScore, RequiredCriterion, repository_rules
from codelupe_filters.repository_score import repository_points, repository_score
from codelupe_filters.settings import FiltersSettings


async def explain_repository(
    database: Database, repository_id: str, settings: FiltersSettings, rules: Sequence[RepositoryRule]
) -> dict[str, Any]:
    """What the rules of all plugins say by the present settings, beside what was recorded when it was last judged.

    Raises:
        NoSuchRepository: there is none.
    """
    row = await read_repository(database, repository_id)
    repository = Repository.from_row(row)
    own = repository_rules(settings)
    others = [rule for rule in rules if rule.name not in {each.name for each in own}]
    verdicts = [*_own_verdicts(repository, settings), *(_verdict(rule, repository) for rule in others)]
    if await database.fetchval(SQL.is_forgotten, repository.id, repository.full_name, repository.url):
        verdicts.append(_row("forgotten", "refused", "it was forgotten on request", None))
    return {
        "repository": {"id": repository.id, "full_name": repository.full_name, "url": repository.url}
        | {"state": row["state"], "revision": repository.revision},
        "verdict": _whole_verdict({each["verdict"] for each in verdicts}),
        "recorded": recorded_verdict(row),
        "rules": verdicts,
        "score": _score(repository, settings),
    }


def _whole_verdict(verdicts: Collection[str]) -> str:
    """All rules are asked: one that fails may have an objection."""
    if "refused" in verdicts:
        return "rejected"
    return "undecided" if "failed" in verdicts else "accepted"


def _own_verdicts(repository: Repository, settings: FiltersSettings) -> Iterator[dict[str, Any]]:
    reasons = {name: criterion.reason for name, criterion in settings.criteria.each()}
    for rule in repository_rules(settings):
        assert isinstance(rule, RequiredCriterion | MinScore)
        seen = rule.look(repository)
        yield _row(rule.name, "passed" if seen.met else "refused", seen.detail, reasons.get(rule.name))


def _verdict(rule: RepositoryRule, repository: Repository) -> dict[str, Any]:
    """Another plugin's; what it saw shows only where it refuses."""
    try:
        objection = rule.check(repository)
    except CodelupeError as error:
        return _row(rule.name, "failed", error.message, None)
    return _row(rule.name, "refused", objection.detail, None) if objection else _row(rule.name, "passed", None, None)


def _row(rule: str, verdict: str, saw: str | None, reason: str | None) -> dict[str, Any]:
    return {"rule": rule, "verdict": verdict, "saw": saw, "reason": reason}


def _score(repository: Repository, settings: FiltersSettings) -> dict[str, Any]:
    reasons = {name: criterion.reason for name, criterion in settings.criteria.each()}
    return {
        "total": repository_score(repository, settings),
        "least": settings.min_score,
        "criteria": [
            {
                "criterion": each.criterion,
                "saw": each.seen.detail,
                "points": round(each.points, 1),
                "most": round(each.most, 1),
                "reason": reasons[each.criterion],
            }
            for each in repository_points(repository, settings)
        ],
    }

"""Leaves out the repositories of owners who asked for it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from codelupe import HandlerContext, Repository, RepositoryRule, Subscription, hookimpl
from codelupe_events import Reason, RepoRejected


class OptOutSettings(BaseModel):
    """Who is left out."""

    owners: frozenset[str] = Field(frozenset(), description="Owners whose repositories are never cloned.")


class OptOut:
    """Turns down every repository of these owners."""

    name = "opt-out"

    def __init__(self, owners: frozenset[str]) -> None:
        self._owners = {owner.casefold() for owner in owners}

    def check(self, repository: Repository) -> Reason | None:
        owner = repository.full_name.partition("/")[0]
        if owner.casefold() not in self._owners:
            return None
        return Reason(rule=self.name, detail=f"{owner} asked to be left out")


async def report(event: RepoRejected, context: HandlerContext) -> None:
    """Say in the log when our rule was among the reasons."""
    for reason in event.reasons:
        if reason.rule == OptOut.name:
            context.log.warning("opted_out", repository=event.repository_id, detail=reason.detail)


@hookimpl
def codelupe_settings() -> type[OptOutSettings]:
    return OptOutSettings


@hookimpl
def codelupe_repository_rules(settings: OptOutSettings) -> list[RepositoryRule]:
    return [OptOut(settings.owners)]


@hookimpl
def codelupe_subscriptions() -> list[Subscription]:
    return [Subscription(name="report", events=(RepoRejected,), handler=report)]

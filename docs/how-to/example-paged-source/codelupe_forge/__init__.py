"""A source of repositories: a forge that lists them in pages, owner by owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx2
from pydantic import BaseModel, Field

from codelupe import Page, PagedSource, Repository, RetryLater, Slice, SourceContext, SourceMode, Want, hookimpl

SPACING = timedelta(seconds=0.1)


class ForgeSettings(BaseModel):
    """Which forge, and whose repositories."""

    url: str = Field("http://127.0.0.1:8080", description="Where the forge is.")
    owners: tuple[str, ...] = Field((), description="Owners whose repositories are taken.")


class Forge:
    """``GET /owners/NAME?page=2`` gives ``{"total": 230, "next": 3, "repositories": […]}``."""

    name = "forge"

    def __init__(self, settings: ForgeSettings) -> None:
        self._settings = settings

    async def accounts(self, context: SourceContext) -> Sequence[str]:
        """One, since the forge knows no tokens."""
        return ["anonymous"]

    async def plan(self, want: Want, context: SourceContext) -> Sequence[Slice]:
        """A slice for each owner; the forge can be asked for everything only."""
        return [Slice(query=owner) for owner in self._settings.owners] if want.mode == SourceMode.DEEP else []

    @asynccontextmanager
    async def open(self, account: str, context: SourceContext) -> AsyncIterator[ForgeSession]:
        """Around the requests of one daemon."""
        async with httpx2.AsyncClient(base_url=self._settings.url, timeout=30) as http:
            yield ForgeSession(http, account, context)


class ForgeSession:
    """Makes one request at a time."""

    def __init__(self, http: httpx2.AsyncClient, account: str, context: SourceContext) -> None:
        self._http = http
        self._budget = context.budget(account, "requests")

    async def ask(self, slice: Slice, cursor: str | None) -> Page:  # noqa: A002 - as in the contract
        """A page of an owner's repositories."""
        await self._budget.take(SPACING)
        response = await self._http.get(f"/owners/{slice.query}", params={"page": cursor or "1"})
        if response.status_code == 429:
            wait = timedelta(seconds=int(response.headers.get("retry-after", "60")))
            await self._budget.close(wait, "the forge limits requests")
            raise RetryLater("the forge limits requests", after=wait, counts=False)
        answer = response.raise_for_status().json()
        return Page(
            repositories=[self._repository(each) for each in answer["repositories"]],
            next=None if answer["next"] is None else str(answer["next"]),
            total=answer["total"],
        )

    def _repository(self, found: dict[str, str]) -> Repository:
        return Repository(
            source=Forge.name,
            external_id=found["id"],
            full_name=found["name"],
            url=found["clone_url"],
            revision=found["commit"],
        )


@hookimpl
def codelupe_settings() -> type[ForgeSettings]:
    return ForgeSettings


@hookimpl
def codelupe_repository_sources(settings: ForgeSettings) -> list[PagedSource]:
    return [Forge(settings)]

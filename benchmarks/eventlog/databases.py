"""The databases of the one server that all systems share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from codelupe.postgres.queries import load_queries

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

SQL = load_queries("benchmarks", "server")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A plain connection."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def vacuum(url: str) -> None:
    """Give the planner what autovacuum would have given it a minute later."""
    async with connected(url) as connection:
        await connection.execute(SQL.vacuum)


class Databases:
    """Makes databases on the server of a URL and drops them again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)

    def url(self, name: str) -> str:
        return self._url.replace("/codelupe?", f"/{name}?")

    async def create(self, name: str) -> str:
        """The URL of a new, empty database."""
        await self._execute(f"create database {name}")
        return self.url(name)

    @asynccontextmanager
    async def copy_of(self, name: str) -> AsyncIterator[str]:
        """The URL of a copy of that database, dropped in the end."""
        copy = f"{name}_{next(self._numbers)}"
        await self._execute(f"create database {copy} template {name}")
        try:
            yield self.url(copy)
        finally:
            await self._execute(f"drop database {copy} with (force)")

    async def settings(self, *names: str) -> dict[str, str]:
        """What the server has these settings at."""
        async with connected(self._url) as connection:
            return {name: await connection.fetchval(SQL.setting, name) for name in names}

    async def _execute(self, statement: str) -> None:
        async with connected(self.url("postgres")) as connection:
            await connection.execute(statement)

"""The transaction that plugin code and the host share: the plugin writes in it, and only the host ends it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg

from codelupe.errors import PluginError
from codelupe.postgres import Connection
from codelupe.postgres.queries import load_queries
from codelupe.postgres.search_path import current_schema

if TYPE_CHECKING:
    from asyncpg.connection import LoggedQuery

SQL = load_queries("codelupe_sql", "sessions")
_ENDS_AND_BEGINS = re.compile(
    r"\b(commit|rollback|abort)(\s+(work|transaction))?(\s*;\s*(begin|start\s+transaction)|\s+and\s+chain)\b",
    re.IGNORECASE,
)
"""What leaves a transaction open, but another one. All else shows in what the server says after each statement."""


class SharedTransaction:
    """Notices that plugin code has ended the transaction, without asking the server."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._has_ended = False
        self._is_elsewhere = current_schema() is not None

    async def find_own_tables(self) -> None:
        """To be called before the plugin's part in a transaction that the host has begun."""
        if (schema := current_schema()) is not None:
            self._is_elsewhere = True
            await self._connection.execute(SQL.enter_schema, schema, True)

    async def take_back(self) -> None:
        """To be called before the host's part, which finds the host's tables whatever became of the search path.

        Raises:
            PluginError: this is not the transaction that the host began.
        """
        await asyncio.sleep(0)  # a statement is told of in the loop's next turn
        self.check()
        if self._is_elsewhere:
            await self._connection.execute(SQL.leave_schema)

    def check(self) -> None:
        """To be called once more before the host commits.

        Raises:
            PluginError: this is not the transaction that the host began.
        """
        if self._has_ended or self._is_over():
            raise PluginError(
                f"{self._name} ended the transaction that it was given, so that it cannot commit with the host's part",
                hint="Leave COMMIT and ROLLBACK to the host: leave the block, or raise. Savepoints are free to use.",
            )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside the block each statement is looked at when it is done."""
        with self._connection.query_logger(self._look):
            yield

    def _look(self, query: LoggedQuery) -> None:
        self._is_elsewhere |= "search_path" in query.query.lower()
        self._has_ended |= self._is_over() or (not query.args and bool(_ENDS_AND_BEGINS.search(query.query)))

    def _is_over(self) -> bool:
        try:
            return not self._connection.is_in_transaction() and not self._connection.is_closed()
        except asyncpg.InterfaceError:  # the connection broke, or has been given back
            return False

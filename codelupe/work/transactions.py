"""The transaction that plugin code and the host share: the plugin writes in it, and only the host ends it."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager

from codelupe.errors import PluginError
from codelupe.postgres import Connection
from codelupe.postgres.queries import load_queries
from codelupe.postgres.search_path import current_schema
from codelupe.postgres.sessions import session_of

SQL = load_queries("codelupe_sql", "sessions")
_BEGINS_ANOTHER = re.compile(
    r"(?:^|;)(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:rollback|abort)\b[^;]*?\band\s+chain\b", re.IGNORECASE | re.DOTALL
)
"""What leaves a transaction open, but another one, and is answered like ROLLBACK TO a savepoint."""
_LEADS_ELSEWHERE = re.compile(r"search_path|set_config|\bschema\b", re.IGNORECASE)
"""SET SCHEMA sets the search path, too, as does a setting whose name comes as an argument."""


class SharedTransaction:
    """Notices that plugin code has ended the transaction, without asking the server."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._session = session_of(connection)
        self._name = name
        self._has_begun_another = False
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
        self.check()
        if self._is_elsewhere:
            await self._connection.execute(SQL.leave_schema)

    def check(self) -> None:
        """To be called once more before the host commits.

        Raises:
            PluginError: this is not the transaction that the host began.
        """
        if self._has_begun_another or self._session.has_left_transaction:
            raise PluginError(
                f"{self._name} ended the transaction that it was given, so that it cannot commit with the host's part",
                hint="Leave COMMIT and ROLLBACK to the host: leave the block, or raise. Savepoints are free to use.",
            )
        if self._session.has_builtins_changed:
            raise PluginError(
                f"{self._name} changed how values of Postgres' own types travel; the host's part cannot be written so",
                hint="Set such a codec on a connection of context.database instead, or encode the values yourself.",
            )

    def watched(self) -> AbstractContextManager[None]:
        """Inside the block each statement is looked at."""
        return self._session.watched(self._look)

    def _look(self, query: str) -> None:
        self._is_elsewhere |= _LEADS_ELSEWHERE.search(query) is not None
        self._has_begun_another |= _BEGINS_ANOTHER.search(query) is not None

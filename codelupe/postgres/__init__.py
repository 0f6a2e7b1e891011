"""Postgres: the connection pool, the embedded server and the migrations."""

from codelupe.postgres.database import Database, answering
from codelupe.postgres.sessions import Connection

__all__ = ["Connection", "Database", "answering"]

"""Postgres: the connection pool, the embedded server and the migrations."""

from codelupe.postgres.database import Connection, Database

__all__ = ["Connection", "Database"]

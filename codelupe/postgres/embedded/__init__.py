"""A Postgres server in the state directory, for those who name none."""

from codelupe.postgres.embedded.server import embedded_server

__all__ = ["embedded_server"]

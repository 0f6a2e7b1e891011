"""A Postgres server in the state directory, for those who name none."""

from codelupe.postgres.embedded.server import Limits, embedded_server

__all__ = ["Limits", "embedded_server"]

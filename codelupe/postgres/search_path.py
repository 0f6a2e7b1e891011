"""Where unqualified names of a plugin's statements are looked up: in its own schema first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_schema: ContextVar[str | None] = ContextVar("the schema of the plugin whose code runs", default=None)


@contextmanager
def inside_schema(schema: str | None) -> Iterator[None]:
    """What runs inside the block, and what it starts, finds its tables there; None for the database's default."""
    token = _schema.set(schema)
    try:
        yield
    finally:
        _schema.reset(token)


def current_schema() -> str | None:
    """The one that the code which runs now is inside of."""
    return _schema.get()

"""SQL lives in ``.sql`` files; this reads the named queries out of them.

A file holds queries, each under a line ``-- name: verb_noun``; comment lines that follow say what it does.
Parameters are Postgres's own ``$1``, ``$2``, …
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

_HEADER = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Queries:
    """The queries of one file, as attributes: ``queries.insert_file`` is SQL text."""

    def __init__(self, origin: str, text: str) -> None:
        self._origin = origin
        parts = _HEADER.split(text)
        names = parts[1::2]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{origin} has two queries with the name {min(twice)}")
        self._queries = {name: body.strip() for name, body in zip(names, parts[2::2], strict=True)}

    def __getattr__(self, name: str) -> str:
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(f"{self._origin} has no query {name}; it has {', '.join(self._queries)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._queries)


@cache
def load_queries(package: str, name: str) -> Queries:
    """The queries of ``queries/<name>.sql`` in a package.

    Raises:
        FileNotFoundError: the package has no such file.
    """
    path = files(package) / "queries" / f"{name}.sql"
    return Queries(str(path), path.read_text(encoding="utf-8"))

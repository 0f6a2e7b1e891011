"""Every table and function, from the migrations and their comments."""

from __future__ import annotations

import re
from collections.abc import Iterator

from codelupe.postgres.migrate import own_migrations
from scripts.reference_pages.text import table

_INTRODUCTION = """\
The tables that CodeLupe's own migrations make. They run in order, once, when the daemon starts or by `codelupe db
migrate`; `schema_migrations` records them with their checksums. Plugins may bring tables of their own. Read them as you
like; what stays compatible is the [events](events.md)."""
_TABLE = re.compile(r"((?:^--[^\n]*\n)*)^create table (\w+) \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(r"((?:^--[^\n]*\n)*)^create function (\w+\([^)]*\)\s+returns \w+)", re.MULTILINE)
_CONSTRAINTS = ("check ", "unique ", "primary ", "foreign ")


def database_page() -> str:
    """The page."""
    parts = ["# Database", _INTRODUCTION]
    for migration in own_migrations():
        parts += [
            f"## {migration.number:04} {migration.name.replace('_', ' ')}",
            _prose(migration.sql.partition("\n\n")[0]),
        ]
        for comment, name, body in _TABLE.findall(migration.sql):
            parts += [f"### `{name}`", _prose(comment), *_columns(body)]
        rows = [(f"`{' '.join(head.split())}`", _prose(comment)) for comment, head in _FUNCTION.findall(migration.sql)]
        if rows:
            parts += ["### Functions", table(("function", "meaning"), rows)]
    return "\n\n".join(filter(None, parts))


def _columns(body: str) -> Iterator[str]:
    """The columns as a table, then the constraints. A comment belongs to the column below it."""
    rows, constraints, comment = [], [], ""
    for line in re.sub(r"\n {8,}", " ", body).splitlines():
        text = line.strip().rstrip(",")
        if text.startswith("--"):
            comment += f"{text}\n"
        elif text.startswith(_CONSTRAINTS):
            constraints.append(f"`{text}`")
        else:
            name, _, definition = text.partition(" ")
            rows.append((f"`{name}`", f"`{definition}`", _prose(comment)))
            comment = ""
    yield table(("column", "definition", "meaning"), rows)
    if constraints:
        yield f"Constraints: {', '.join(constraints)}."


def _prose(comment: str) -> str:
    return re.sub(r"^-- ?", "", comment, flags=re.MULTILINE).strip()

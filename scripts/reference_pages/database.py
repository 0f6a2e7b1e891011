"""Every table and function, from the migrations and their comments."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from codelupe.postgres.migrate import own_migrations
from scripts.reference_pages.text import table

_INTRODUCTION = """\
The tables that CodeLupe's own migrations make. They run in order, once, when the daemon starts or by `codelupe db
migrate`; `schema_migrations` records them with their checksums. Plugins may bring tables of their own. Read them as you
like; what stays compatible is the [events](events.md).

Each section shows what its migration made, in the words of that time; later ones rename, change and replace some of it.
Which ones is said beside it, and what they do in their own sections: 0008 changes words, 0011 tasks, subscriptions and
all that makes and hands out tasks, 0012 what the session and the clock could upset."""
_TABLE = re.compile(r"((?:^--[^\n]*\n)*)^create table (\w+) \(\n(.*?)^\)", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(r"((?:^--[^\n]*\n)*)^create (?:or replace )?function (\w+\([^)]*\)\s+returns \w+)", re.MULTILINE)
_CHANGE = re.compile(r"^(?:alter table|comment on|drop function) .*?;$", re.MULTILINE | re.DOTALL)
_CHANGED = re.compile(r"^(?:alter table|drop function|create (?:or replace )?function) (\w+)", re.MULTILINE)
_CONSTRAINTS = ("check ", "unique ", "primary ", "foreign ")


def database_page() -> str:
    """The page."""
    parts = ["# Database", _INTRODUCTION]
    for migration in own_migrations():
        later = _later_changes(migration.number)
        parts += [
            f"## {migration.number:04} {migration.name.replace('_', ' ')}",
            _prose(migration.sql.partition("\n\n")[0]),
        ]
        for comment, name, body in _TABLE.findall(migration.sql):
            parts += [f"### `{name}`", _prose(comment), *_columns(body), _say("Changed", later[name])]
        rows = [
            (f"`{' '.join(head.split())}`", f"{_prose(comment)} {_say('Replaced', later[head.partition('(')[0]])}")
            for comment, head in _FUNCTION.findall(migration.sql)
        ]
        if rows:
            parts += ["### Functions", table(("function", "meaning"), rows)]
        if changes := _CHANGE.findall(migration.sql):
            parts += ["### Changes", "```sql\n" + "\n".join(changes) + "\n```"]
    return "\n\n".join(filter(None, parts))


def _later_changes(number: int) -> defaultdict[str, list[str]]:
    """By table and function, the migrations after this one that change, replace or drop it."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for later in own_migrations():
        for name in set(_CHANGED.findall(later.sql)) if later.number > number else ():
            found[name].append(f"{later.number:04}")
    return found


def _say(what: str, migrations: Sequence[str]) -> str:
    return f"{what} by {', '.join(migrations)}." if migrations else ""


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

"""Reads what a run has left and says which promises of the log it breaks. The queries are the promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from tests.chaos.appenders import Root
from tests.chaos.plugin import EXPECTED

_TABLES = load_queries("tests.chaos", "chaos")
_VIOLATIONS = load_queries("tests.chaos", "violations")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A promise, by the name of its query, and a case in which it was broken."""

    kind: str
    case: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(f'{name} {value}' for name, value in self.case.items())}"


async def prepare(database: Database, roots: Sequence[Root]) -> None:
    """Make the tables that a run writes to, and note down what it should come to."""
    async with database.transaction() as connection:
        await connection.execute(_TABLES.create_tables)
        await connection.execute(_TABLES.take_clock_over)
        for one in EXPECTED:
            await connection.execute(_TABLES.insert_subscription, one.name, one.event.__name__, one.emits_every)
        await connection.copy_records_to_table(
            "chaos_intended", records=[(root.number, root.batch) for root in roots], columns=["number", "batch"]
        )


async def find_violations(database: Database) -> list[Violation]:
    """Every case, once all is done and every worker has ended."""
    return [
        Violation(kind=kind, case=dict(row))
        for kind in _VIOLATIONS
        for row in await database.fetch(getattr(_VIOLATIONS, kind))
    ]


def describe(violations: Sequence[Violation]) -> str:
    """How many of each kind, and the first cases of each."""
    lines = []
    for kind, number in Counter(violation.kind for violation in violations).items():
        cases = [str(violation) for violation in violations if violation.kind == kind][:_SHOWN]
        lines += [f"{number} x {kind}", *(f"    {case}" for case in cases)]
    return "\n".join(lines)

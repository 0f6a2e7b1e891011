"""Security: does the file show what should not be learned?"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tree_sitter import Node, Tree

from codelupe import Score, SourceFile
from codelupe_scorers.risks import RISKS, Risk, query_of
from codelupe_text.syntax import NotParsed, Syntax, parse

_MAX_ROWS = 5
_MANY = 20
"""Triggers from which on one look at the whole file is cheaper than one at each."""
_LEVELS = 7
"""Of the tree, from a trigger up to the whole pattern: more than any has."""
_ROWS_ABOVE = 3
"""Within them a comment gives a reason for what it stands above."""


@dataclass
class Security:
    """100 points less what the dangerous patterns cost that are found in the syntax tree.

    Each pattern has its cost, 15 to 50 points (:mod:`codelupe_scorers.risks`); each further place of the same pattern
    costs half as much as the one before, so that one pattern costs twice its cost at most. Patterns and costs are a
    convention. What is not seen: where the values come from, and whether the code is a test.
    """

    weight: float
    name = "security"
    version = 1

    def score(self, file: SourceFile) -> Score | None:
        try:
            syntax = parse(file)
        except NotParsed:
            return None
        risks = RISKS[syntax.language]
        found = [(risk, rows) for risk in risks if (rows := _rows(risk, syntax))]
        lost = sum(risk.cost * (2 - 2.0 ** (1 - len(rows))) for risk, rows in found)
        reasons = [f"{risk.name}: {risk.why}, {_in_rows(rows)}" for risk, rows in found]
        return Score(
            value=round(max(0.0, 100 - lost), 1),
            reasons=tuple(reasons or [f"none of {len(risks)} dangerous patterns"]),
        )


def _rows(risk: Risk, syntax: Syntax) -> list[int]:
    """Where the risk is found, counted from 1."""
    nodes = _places(risk, syntax)
    if risk.excuse is not None and nodes:
        lines = syntax.data.lower().split(b"\n")
        nodes = [node for node in nodes if not _is_excused(node, risk.excuse, lines)]
    return sorted({node.start_point.row + 1 for node in nodes})


def _places(risk: Risk, syntax: Syntax) -> list[Node]:
    """The query is asked around each trigger; over all at once where there are many."""
    data = syntax.data
    if risk.needs not in data or not any(trigger in data for trigger in risk.triggers):
        return []
    starts = [start for trigger in risk.triggers for start in _occurrences(trigger, data)]
    query = query_of(risk, syntax.language)
    tree = syntax.tree
    if len(starts) > _MANY:
        around = {tree.root_node}
    else:
        around = {node for start in starts if (node := _around(tree, start)) is not None}
    return [node for within in around for node in syntax.captures(query, within).get("risk", ())]


def _around(tree: Tree, byte: int) -> Node | None:
    """The node some levels above the innermost one at the byte, below the root; None if that is a comment."""
    cursor = tree.walk()
    path: deque[Node] = deque(maxlen=_LEVELS)
    while cursor.goto_first_child_for_byte(byte) is not None:
        assert cursor.node is not None
        path.append(cursor.node)
    return None if not path or "comment" in path[-1].type else path[0]


def _occurrences(trigger: bytes, data: bytes) -> Iterator[int]:
    at = data.find(trigger)
    while at >= 0:
        yield at
        at = data.find(trigger, at + len(trigger))


def _is_excused(node: Node, excuse: bytes, lines: Sequence[bytes]) -> bool:
    row = node.start_point.row
    return any(excuse in line for line in lines[max(0, row - _ROWS_ABOVE) : row + 1])


def _in_rows(rows: Sequence[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:_MAX_ROWS])
    more = f" and {len(rows) - _MAX_ROWS} more" if len(rows) > _MAX_ROWS else ""
    return f"row {shown}{more}" if len(rows) == 1 else f"rows {shown}{more}"

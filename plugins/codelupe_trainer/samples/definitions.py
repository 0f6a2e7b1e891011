"""Where functions and types stand in a file: their heads, bodies and documentation, in whole rows.

One query over the syntax tree finds them; the queries lie beside this module, in ``queries/``. Their captures:

================  ====================================================================================================
``@function`` …   a definition, named as its language calls it: ``@method``, ``@class``, ``@struct`` …
``@scope``        holds definitions and is never asked for itself, such as Rust's ``impl``
``@open``         what a body begins with: ``{`` or, in Python, ``:``
``@body``         the body
``@comment``      also a documentation comment; ``@docstring`` is a string that a block begins with
``@decoration``   may stand above a definition, beside its comments
``@import``       brings in another module
================  ====================================================================================================

What is looked up for every definition takes constant time, so that no file takes long.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from tree_sitter import Node, Query

from codelupe import SourceFile
from codelupe_text.grammars import read_query
from codelupe_text.syntax import NotParsed, Syntax, parse

_DOC_BLOCK = re.compile(rb"/\*\*(?![*/])")
_DOC_COMMENTS = {
    "Dart": re.compile(rb"///|/\*\*(?![*/])"),
    "Go": re.compile(rb"//(?!go:|nolint|line |export |\s*\+build)|/\*"),
    "JavaScript": _DOC_BLOCK,
    "Rust": re.compile(rb"///(?!/)|/\*\*(?![*/])"),
    "TSX": _DOC_BLOCK,
    "TypeScript": _DOC_BLOCK,
}
"""How comments begin that the language's own tools take for documentation. Python's is a string."""
_COMMENT = rb"(?:(?:#|//).*|/\*[^*]*\*/\s*)?"
_BEHIND_HEAD = re.compile(rb"\s*" + _COMMENT)
_BEHIND_BODY = re.compile(rb"[\s;,)\]]*" + _COMMENT)
_BLANK = re.compile(rb"\s*")
_NO_CODE = re.compile(rb"[\s{}()\[\];,]*")
_STUB = re.compile(
    r"\s*(?:raise NotImplemented|throw .*not.?implemented|(?:todo|unimplemented)!|panic\(.*not.?implemented)",
    re.IGNORECASE,
)
_FEWEST_ROWS = 2
"""Of code, in a body that is worth asking for."""
_MAX_INDENTATION = 200


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A function or a type, in rows that count from 0."""

    kind: str
    """What its language calls it, such as ``method``; ``scope`` for what only holds others."""
    head: range
    """Comments and decorations above, the signature, the docstring."""
    body: range
    """What follows the head."""
    documentation: range
    """Those rows of the head; none if there is no documentation."""
    is_whole: bool
    """Whether it has no syntax error, and no other code in its rows."""


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """A file's rows, and the definitions whose bodies have rows of their own."""

    lines: Sequence[str]
    all: Sequence[Definition]
    imports: Sequence[range]
    """Those that are not indented, and so hold for the whole file."""
    code: Sequence[int]
    """Rows that hold more than comments and brackets."""

    def written_out(self) -> list[Definition]:
        """Those with a body that does something."""
        return [each for each in self.all if each.kind != "scope" and each.is_whole and not self._is_stub(each)]

    def around(self, definition: Definition) -> list[Definition]:
        """Those whose bodies hold it, the innermost first."""
        first, stop = definition.head.start, definition.body.stop
        around = [each for each in self.all if each.body.start <= first and stop <= each.body.stop]
        return sorted(around, key=lambda each: -each.body.start)

    def text(self, *parts: range) -> str:
        """The rows as they stand in the file, without blank ones before and white space behind them."""
        lines = [line for rows in parts for line in self.lines[rows.start : rows.stop]]
        first = next((number for number, line in enumerate(lines) if line.strip()), len(lines))
        return "\n".join(lines[first:]).rstrip()

    def _is_stub(self, definition: Definition) -> bool:
        first, stop = (bisect_left(self.code, row) for row in (definition.body.start, definition.body.stop))
        return stop - first < _FEWEST_ROWS or _STUB.match(self.lines[self.code[first]]) is not None


def find_definitions(file: SourceFile) -> Definitions:
    """The file's definitions, in the order in which they end.

    Raises:
        NotParsed: the language has no grammar, the text is too large or fits no rule, or parsing took too long.
    """
    syntax = parse(file)
    if syntax.tree.root_node.is_error:
        raise NotParsed(f"not {syntax.language}")
    matches = syntax.matches(_query(syntax.language))
    rows = syntax.data.split(b"\n")
    notes = _Notes(syntax, rows, _all(matches, "comment"), _all(matches, "decoration"))
    docstrings = {node.start_byte: node for node in _all(matches, "docstring")}
    found = [_definition(match, rows, notes, docstrings) for match in matches if "open" in match]
    return Definitions(
        lines=file.content.split("\n"),
        all=[each for each in found if each.body],
        imports=[_rows_of(node) for node in _all(matches, "import") if node.start_point.column == 0],
        code=[
            number for number, row in enumerate(rows) if number not in notes.comments and not _NO_CODE.fullmatch(row)
        ],
    )


@cache
def _query(language: str) -> Query:
    return read_query(files(__package__) / "queries", language)


def _all(matches: Sequence[Mapping[str, list[Node]]], capture: str) -> list[Node]:
    return [node for match in matches for node in match.get(capture, ())]


def _definition(
    match: Mapping[str, list[Node]], rows: Sequence[bytes], notes: _Notes, docstrings: Mapping[int, Node]
) -> Definition:
    [(kind, [node])] = [(name, nodes) for name, nodes in match.items() if name not in ("open", "body")]
    [opening], [body] = match["open"], match["body"]
    first, documentation = notes.above(node.start_point.row)
    head_ends = [opening]
    if (docstring := docstrings.get(body.start_byte)) is not None:
        documentation = _rows_of(docstring)
        head_ends.append(docstring)
    head = range(first, _rows_of(head_ends[-1]).stop)
    return Definition(
        kind=kind,
        head=head,
        body=range(head.stop, _rows_of(body).stop),
        documentation=documentation,
        is_whole=not node.has_error
        and not body.has_error
        and all(_is_last(end, rows, _BEHIND_HEAD) for end in head_ends)
        and _is_last(body, rows, _BEHIND_BODY),
    )


def _is_last(node: Node, rows: Sequence[bytes], rest: re.Pattern[bytes]) -> bool:
    """Whether no code follows in the row in which it ends."""
    row, column = node.end_point
    return column == 0 or rest.fullmatch(rows[row], column) is not None


def _rows_of(node: Node) -> range:
    """The rows with something of the node on them: some nodes end behind their line's end."""
    (first, _), (last, column) = node.start_point, node.end_point
    return range(first, last + 1 if column or last == first else last)


class _Notes:
    """Comments and decorations that have their rows to themselves."""

    def __init__(
        self, syntax: Syntax, rows: Sequence[bytes], comments: Sequence[Node], decorations: Sequence[Node]
    ) -> None:
        self.comments: set[int] = set()
        """Their rows."""
        self._decorations = {_rows_of(node)[-1]: node.start_point.row for node in decorations}
        self._notes = {
            _rows_of(node)[-1]: (node.start_point.row, False) for node in decorations if _is_alone(node, rows)
        }
        self._above: dict[int, tuple[int, range]] = {}
        is_documentation = _DOC_COMMENTS.get(syntax.language)
        for node in comments:
            if _is_alone(node, rows):
                its = _rows_of(node)
                self.comments.update(its)
                documents = is_documentation is not None and is_documentation.match(syntax.data, node.start_byte)
                self._notes[its[-1]] = its.start, bool(documents)

    def above(self, row: int) -> tuple[int, range]:
        """The first row of what stands above a definition that begins in this row, and which rows document it."""
        if row not in self._above:
            self._above[row] = self._look_above(row)
        return self._above[row]

    def _look_above(self, row: int) -> tuple[int, range]:
        first, documentation = self._decorations.get(row, row), range(0)
        while (note := self._notes.get(first - 1)) is not None:
            above, documents = note
            if documents and (not documentation or documentation.start == first):
                documentation = range(above, documentation.stop or first)
            first = above
        return first, documentation


def _is_alone(node: Node, rows: Sequence[bytes]) -> bool:
    (first, column) = node.start_point
    begins = column <= _MAX_INDENTATION and not rows[first][:column].strip()
    return begins and _is_last(node, rows, _BLANK)

"""What a file is made of, as far as its scorers look at it: noted once, from one query over its syntax tree.

Every step is bounded, whatever the content: the text's size and the parser's time have limits, the query runs over the
tree once, and what it found is taken in the order of the text with a stack of what is open.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter

from tree_sitter import Node

from codelupe import SourceFile
from codelupe_scorers.grammars import outline_query
from codelupe_text.syntax import Syntax, parse

_LEGAL = re.compile(rb"copyright|licen[cs]e|spdx|all rights reserved", re.IGNORECASE)
_HEADER_ROWS = 5
"""A comment that begins in these rows and speaks of licences is no documentation."""
_WHITE_SPACE = b" \t\n\r\f\v"
_MAX_DECORATIONS = 20
_MAX_INDENTATION = 200
_STUB_BYTES = 4
"""A body of so few bytes does nothing: ``{}``, ``{ }``, ``pass``, ``...``."""
_NAMES = ("function.name", "type.name", "variable.name", "constant.name")
_ORDER = (
    *("body", "block", "container", "type", "signature", "function"),
    *("branch", "comment", "decoration", "docstring", "import", "error"),
)
"""Of nodes that begin and end together, which is around which: a Python block may be a single function, a body in Dart
is a single block."""


@dataclass(slots=True)
class Definition:
    """A function with a name, or a type. Rows count from 0."""

    first_row: int
    last_row: int
    is_type: bool = False
    is_nested: bool = False
    """Within a function."""
    is_documented: bool = False
    is_stub: bool = False
    """Its body does nothing."""
    decisions: int = 0
    """Decisions of its own, without those of functions defined inside; McCabe's number is one more."""
    depth: int = 0
    """Levels of blocks inside its body."""

    @property
    def rows(self) -> int:
        return self.last_row - self.first_row + 1


@dataclass(slots=True)
class Outline:
    """What a file is made of."""

    language: str
    rows: int
    """Up to the last one with something on it."""
    characters: int
    """Bytes that are no white space."""
    definitions: list[Definition] = field(default_factory=list)
    functions: list[Definition] = field(default_factory=list)
    """The definitions that are no types."""
    rows_in_definitions: int = 0
    documentation: int = 0
    """Bytes of comments and docstrings that are no white space, without a licence at the top."""
    licence: int = 0
    """Those of a licence at the top."""
    decisions: int = 0
    """Outside all functions."""
    depth: int = 0
    """Levels of blocks outside all functions."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """New names, by what they name: ``function``, ``type``, ``variable``, ``constant``."""
    imports: int = 0
    bytes_of_imports: int = 0
    """Without white space."""
    near_imports: int = 0
    """Those of the modules beside this one."""
    wildcard_imports: int = 0
    has_errors: bool = False
    error_share: float = 0.0
    """Share of the bytes that fit no rule of the grammar."""

    @property
    def code(self) -> int:
        """Bytes that are neither white space nor comment."""
        return max(0, self.characters - self.documentation - self.licence)

    def mean_over_functions(self, measure: Callable[[Definition], float], *, default: float) -> float:
        """The measure's mean, a function counting by its rows; the default if there is no function."""
        rows = sum(function.rows for function in self.functions)
        total = sum(measure(function) * function.rows for function in self.functions)
        return total / rows if rows else default


def outline(file: SourceFile) -> Outline:
    """The file's outline; the scorers share it.

    Raises:
        NoGrammar: the language is not parsed at all.
        NotParsed: the text is too large, or parsing took too long.
    """
    return _outline(parse(file))


@lru_cache(maxsize=1)
def _outline(syntax: Syntax) -> Outline:
    return _Reading(syntax).outline


@dataclass(slots=True)
class _Scope:
    """A definition, container or block that is open at this point."""

    end: int
    """The byte after its last."""
    owner: Definition | Outline
    """The innermost function around, or the file: whom decisions and blocks count for."""
    depth: int
    """Blocks open within the owner."""
    definition: Definition | None = None
    """The innermost definition around."""
    first: int = -1
    """Its first byte, if it is a block."""


class _Reading:
    """Takes what the query found in the order of the text."""

    def __init__(self, syntax: Syntax) -> None:
        data = syntax.data
        self._syntax = syntax
        self.outline = Outline(syntax.language, rows=data.rstrip().count(b"\n") + 1, characters=_ink(data))
        self._scopes = [_Scope(end=len(data) + 1, owner=self.outline, depth=0)]
        self._comment_ends: set[int] = set()
        """Last rows of comments that have their rows to themselves."""
        self._decorations: dict[int, int] = {}
        """Last row of a decoration, and its first row."""
        self._header_row = -1
        self._covered_until = -1
        self._signature: Node | None = None
        self._error_until = 0
        found = syntax.captures(outline_query(syntax.language))
        self._take_in_order(found)
        self._note_names(found)
        self._note_near_imports(found)
        self.outline.has_errors = syntax.tree.root_node.has_error
        self.outline.error_share /= max(1, len(data))

    def _take_in_order(self, found: dict[str, list[Node]]) -> None:
        takers = (
            *(self._open_function, self._open_block, self._enter_container, self._open_type, self._keep_signature),
            *(self._open_function, self._count_decision, self._note_comment, self._note_decoration),
            *(self._note_docstring, self._note_import, self._note_error),
        )
        nodes = [
            (node.start_byte, -node.end_byte, rank, node)
            for rank, name in enumerate(_ORDER)
            for node in found.get(name, ())
        ]
        nodes.sort(key=itemgetter(0, 1, 2))
        scopes = self._scopes
        for start, _, rank, node in nodes:
            while scopes[-1].end <= start:
                scopes.pop()
            takers[rank](node)

    def _count_decision(self, _: Node) -> None:
        self._scopes[-1].owner.decisions += 1

    def _open_block(self, node: Node) -> None:
        around = self._scopes[-1]
        start, end = node.start_byte, node.end_byte
        owner = around.owner
        owner.depth = max(owner.depth, around.depth)
        if around.depth == 0 and around.definition is owner and end - start <= _STUB_BYTES:
            around.definition.is_stub = True
        self._scopes.append(_Scope(end, owner, around.depth + 1, around.definition, first=start))

    def _open_function(self, node: Node) -> None:
        self._open_definition(node, is_type=False)

    def _open_type(self, node: Node) -> None:
        self._open_definition(node, is_type=True)

    def _keep_signature(self, node: Node) -> None:
        self._signature = node

    def _enter_container(self, node: Node) -> None:
        self._cover(node.start_point.row, _last_row(node))

    def _open_definition(self, node: Node, *, is_type: bool) -> None:
        around = self._scopes[-1]
        head, self._signature = self._signature or node, None
        first, last = min(head.start_point.row, node.start_point.row), _last_row(node)
        definition = Definition(
            first_row=first,
            last_row=last,
            is_type=is_type,
            is_nested=isinstance(around.owner, Definition),
            is_documented=self._is_documented(first),
        )
        self.outline.definitions.append(definition)
        if not is_type:
            self.outline.functions.append(definition)
        self._cover(first, last)
        owner = around.owner if is_type else definition
        self._scopes.append(_Scope(node.end_byte, owner, around.depth if is_type else 0, definition))

    def _is_documented(self, row: int) -> bool:
        """Whether a comment ends in the row above, a few decorations left aside."""
        for _ in range(_MAX_DECORATIONS):
            if row - 1 not in self._decorations:
                break
            row = self._decorations[row - 1]
        return row - 1 in self._comment_ends

    def _note_decoration(self, node: Node) -> None:
        self._decorations[_last_row(node)] = node.start_point.row

    def _note_comment(self, node: Node) -> None:
        text = self._syntax.text(node)
        (first, column), last = node.start_point, _last_row(node)
        continues = first <= self._header_row + 1
        if (first < _HEADER_ROWS and _LEGAL.search(text)) or (continues and self._header_row >= 0):
            self._header_row = last
            self.outline.licence += _ink(text)
            return
        self.outline.documentation += _ink(text)
        if column <= _MAX_INDENTATION and not self._syntax.data[node.start_byte - column : node.start_byte].strip():
            self._comment_ends.add(last)

    def _note_docstring(self, node: Node) -> None:
        self.outline.documentation += _ink(self._syntax.text(node))
        scope = self._scopes[-1]
        if scope.definition is not None and scope.first == node.start_byte:
            scope.definition.is_documented = True

    def _note_import(self, node: Node) -> None:
        self.outline.imports += 1
        self.outline.bytes_of_imports += _ink(self._syntax.text(node))

    def _note_error(self, node: Node) -> None:
        """Errors inside an error count once."""
        if node.start_byte >= self._error_until:
            self.outline.error_share += node.end_byte - node.start_byte
            self._error_until = node.end_byte

    def _note_names(self, found: dict[str, list[Node]]) -> None:
        text = self._syntax.text
        for name in _NAMES:
            kind = name.removesuffix(".name")
            self.outline.names[kind] = [text(node).decode(errors="replace") for node in found.get(name, ())]

    def _note_near_imports(self, found: dict[str, list[Node]]) -> None:
        sources = [self._syntax.text(node).strip(b"\"'`") for node in found.get("import.source", ())]
        near = sum(map(_is_near, sources))
        self.outline.near_imports = len(found.get("import.near", ())) + near
        self.outline.wildcard_imports = len(found.get("import.wildcard", ()))

    def _cover(self, first: int, last: int) -> None:
        self.outline.rows_in_definitions += max(0, last - max(first - 1, self._covered_until))
        self._covered_until = max(self._covered_until, last)


def _is_near(source: bytes) -> bool:
    """Whether an import's path leads to a file beside this one: ``./a``, ``../a``, and ``a.dart`` in Dart."""
    return source.startswith(b".") or (source.endswith(b".dart") and b":" not in source)


def _last_row(node: Node) -> int:
    """The last row with something of the node on it: some nodes end after their line's end."""
    row, column = node.end_point
    return row if column or row == node.start_point.row else row - 1


def _ink(text: bytes) -> int:
    """Bytes that are no white space."""
    return len(text.translate(None, _WHITE_SPACE))

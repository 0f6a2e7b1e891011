"""Parses a file and notes what its scorers look at, in one walk over the syntax tree.

Every step is bounded, whatever the content: the size of the text and the parser's time have limits, the walk takes
each node once and keeps its own stack.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from tree_sitter import Node, Parser, Tree

from codelupe import SourceFile
from codelupe_scorers.grammars import Grammar, Role, grammar_for

MAX_BYTES = 256 * 1024
"""Larger files are not parsed: they are far beyond what a model is trained on."""
MAX_SECONDS = 0.5
"""CPU time for parsing: some texts make a grammar try very many readings; a usual file takes a few milliseconds."""
_PIECE = 16 * 1024
_LEGAL = re.compile(rb"copyright|licen[cs]e|spdx|all rights reserved", re.IGNORECASE)
_HEADER_ROWS = 5
"""A comment that begins in these rows and speaks of licences is no documentation."""
_MAX_DECORATIONS = 20
_MAX_INDENTATION = 200


class NotParsed(Exception):
    """There is no syntax tree; the message says why."""


class NoGrammar(NotParsed):
    """The language is not one of those that are parsed."""


@dataclass(slots=True)
class Definition:
    """A function with a name, or a type. Rows count from 0."""

    first_row: int
    last_row: int
    is_type: bool = False
    is_nested: bool = False
    """Within a function."""
    is_documented: bool = False
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

    rows: int
    """Up to the last one with something on it."""
    characters: int
    """Bytes that are no white space."""
    definitions: list[Definition] = field(default_factory=list)
    rows_in_definitions: int = 0
    documentation: int = 0
    """Bytes of comments and docstrings that are no white space, without a licence at the top."""
    decisions: int = 0
    """Outside all functions."""
    depth: int = 0
    """Levels of blocks outside all functions."""
    has_errors: bool = False
    error_share: float = 0.0
    """Share of the bytes that fit no rule of the grammar."""

    @property
    def functions(self) -> list[Definition]:
        return [definition for definition in self.definitions if not definition.is_type]

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
    dialect = "TSX" if file.language == "TypeScript" and file.path.endswith(".tsx") else file.language
    result = _outline(dialect or "none", file.content)
    if isinstance(result, NotParsed):
        raise result
    return result


@lru_cache(maxsize=1)
def _outline(language: str, content: str) -> Outline | NotParsed:
    grammar = grammar_for(language)
    if grammar is None:
        return NoGrammar(f"no grammar for {language}")
    data = content.encode(errors="replace")
    try:
        tree = _parse(grammar, data)
    except NotParsed as error:
        return error
    return _Walk(grammar, data).over(tree)


def _parse(grammar: Grammar, data: bytes) -> Tree:
    if len(data) > MAX_BYTES:
        raise NotParsed(f"{len(data)} bytes, at most {MAX_BYTES} are parsed")
    deadline = time.thread_time() + MAX_SECONDS
    try:
        return Parser(grammar.language).parse(
            lambda at, _: data[at : at + _PIECE], progress_callback=lambda *_: time.thread_time() > deadline
        )
    except ValueError as error:
        raise NotParsed(f"parsing took more than {MAX_SECONDS:g} s of CPU time") from error


@dataclass(slots=True)
class _Scope:
    """A definition, container or block that is open at this point of the walk."""

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


class _Walk:
    """One walk over one tree."""

    def __init__(self, grammar: Grammar, data: bytes) -> None:
        self._roles = grammar.roles
        self._lines = data.split(b"\n")
        self._data = data
        self._outline = Outline(rows=len(data.rstrip().split(b"\n")), characters=_ink(data))
        self._scopes = [_Scope(end=len(data) + 1, owner=self._outline, depth=0)]
        self._comment_ends: set[int] = set()
        """Last rows of comments that have their rows to themselves."""
        self._decorations: dict[int, int] = {}
        """Last row of a decoration, and its first row."""
        self._header_row = -1
        self._covered_until = -1
        self._signature: Node | None = None
        self._error_until = 0
        self._visits: dict[Role, Callable[[Node, list[Node]], None]] = {
            Role.BRANCH: self._count_decision,
            Role.BLOCK: self._open_block,
            Role.FUNCTION: self._open_function,
            Role.FUNCTION_VALUE: self._open_function_value,
            Role.HOLDER: _pass,
            Role.SIGNATURE: self._keep_signature,
            Role.TYPE: self._open_type,
            Role.CONTAINER: self._enter_container,
            Role.COMMENT: self._note_comment,
            Role.DECORATION: self._note_decoration,
            Role.STRING: self._note_docstring,
            Role.ERROR: self._note_error,
        }

    def over(self, tree: Tree) -> Outline:
        for node, parents in _nodes(tree):
            role = self._roles.get(node.kind_id)
            if role is not None:
                while self._scopes[-1].end <= node.start_byte:
                    self._scopes.pop()
                self._visits[role](node, parents)
        self._outline.has_errors = tree.root_node.has_error
        self._outline.error_share /= max(1, len(self._data))
        return self._outline

    def _count_decision(self, _: Node, __: list[Node]) -> None:
        self._scopes[-1].owner.decisions += 1

    def _open_block(self, node: Node, _: list[Node]) -> None:
        around = self._scopes[-1]
        around.owner.depth = max(around.owner.depth, around.depth)
        self._scopes.append(
            _Scope(node.end_byte, around.owner, around.depth + 1, around.definition, first=node.start_byte)
        )

    def _open_function(self, node: Node, _: list[Node]) -> None:
        self._open_definition(node, is_type=False)

    def _open_function_value(self, node: Node, parents: list[Node]) -> None:
        if self._roles.get(parents[-1].kind_id) is Role.HOLDER:
            self._open_definition(node, is_type=False)

    def _open_type(self, node: Node, _: list[Node]) -> None:
        self._open_definition(node, is_type=True)

    def _keep_signature(self, node: Node, _: list[Node]) -> None:
        self._signature = node

    def _enter_container(self, node: Node, _: list[Node]) -> None:
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
        self._outline.definitions.append(definition)
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

    def _note_decoration(self, node: Node, _: list[Node]) -> None:
        self._decorations[_last_row(node)] = node.start_point.row

    def _note_comment(self, node: Node, _: list[Node]) -> None:
        text = self._data[node.start_byte : node.end_byte]
        first, last = node.start_point.row, _last_row(node)
        continues = first <= self._header_row + 1
        if (first < _HEADER_ROWS and _LEGAL.search(text)) or (continues and self._header_row >= 0):
            self._header_row = last
            return
        self._outline.documentation += _ink(text)
        if self._has_row_to_itself(node):
            self._comment_ends.add(last)

    def _has_row_to_itself(self, node: Node) -> bool:
        """Whether only white space stands before it, not too far to the right."""
        row, column = node.start_point
        return column <= _MAX_INDENTATION and not self._lines[row][:column].strip()

    def _note_docstring(self, node: Node, parents: list[Node]) -> None:
        statement = parents[-1]
        if statement.type != "expression_statement" or statement.child_count > 1:
            return
        self._outline.documentation += _ink(self._data[node.start_byte : node.end_byte])
        scope = self._scopes[-1]
        if scope.definition is not None and scope.first == statement.start_byte:
            scope.definition.is_documented = True

    def _note_error(self, node: Node, _: list[Node]) -> None:
        """Errors inside an error count once."""
        if node.start_byte >= self._error_until:
            self._outline.error_share += node.end_byte - node.start_byte
            self._error_until = node.end_byte

    def _cover(self, first: int, last: int) -> None:
        self._outline.rows_in_definitions += max(0, last - max(first - 1, self._covered_until))
        self._covered_until = max(self._covered_until, last)


def _pass(_: Node, __: list[Node]) -> None:
    """A node that matters to its children alone."""


def _nodes(tree: Tree) -> Iterator[tuple[Node, list[Node]]]:
    """Every node in the order of the text, with the nodes around it, the outermost first."""
    cursor = tree.walk()
    parents: list[Node] = []
    while True:
        node = cursor.node
        assert node is not None
        yield node, parents
        if cursor.goto_first_child():
            parents.append(node)
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return
            parents.pop()


def _last_row(node: Node) -> int:
    """The last row with something of the node on it: some nodes end after their line's end."""
    row, column = node.end_point
    return row if column or row == node.start_point.row else row - 1


def _ink(text: bytes) -> int:
    """Bytes that are no white space."""
    return len(b"".join(text.split()))

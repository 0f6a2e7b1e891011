"""Parses source text by tree-sitter, within bounds of size and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import tree_sitter_dart
import tree_sitter_go
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser, Query, QueryCursor, Tree

MAX_BYTES = 256 * 1024
"""Larger files are not parsed: they are far beyond what a model is trained on."""
MAX_SECONDS = 2.0
"""Some inputs make a grammar try very many readings; a usual file takes a few milliseconds."""
_PIECE = 16 * 1024


class NotParsed(Exception):
    """There is no syntax tree; the message says why."""


@dataclass(frozen=True)
class Grammar:
    """A language's grammar and the query that finds what its files are made of."""

    language: Language
    query: Query


_GRAMMARS: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "Python": (tree_sitter_python.language, ("python",)),
    "Go": (tree_sitter_go.language, ("go",)),
    "Rust": (tree_sitter_rust.language, ("rust",)),
    "Dart": (tree_sitter_dart.language, ("dart",)),
    "JavaScript": (tree_sitter_javascript.language, ("javascript", "classes")),
    "TypeScript": (tree_sitter_typescript.language_typescript, ("javascript", "typescript")),
    "TSX": (tree_sitter_typescript.language_tsx, ("javascript", "typescript")),
}


@cache
def grammar(name: str) -> Grammar | None:
    """The grammar of a language by its name on GitHub, or ``TSX``; None if there is none."""
    if name not in _GRAMMARS:
        return None
    make, outlines = _GRAMMARS[name]
    language = Language(make())
    folder = files(__package__) / "outlines"
    source = "\n".join((folder / f"{outline}.scm").read_text() for outline in (*outlines, "errors"))
    return Grammar(language, Query(language, source))


def parse(grammar: Grammar, data: bytes) -> Tree:
    """The syntax tree of UTF-8 text; what does not fit the grammar is inside as error nodes.

    Raises:
        NotParsed: the text is too large, or the time was over.
    """
    if len(data) > MAX_BYTES:
        raise NotParsed(f"{len(data)} bytes, at most {MAX_BYTES} are parsed")
    deadline = time.monotonic() + MAX_SECONDS
    try:
        return Parser(grammar.language).parse(
            lambda at, _: data[at : at + _PIECE], progress_callback=lambda *_: time.monotonic() > deadline
        )
    except ValueError as error:
        raise NotParsed(f"parsing took more than {MAX_SECONDS:g} s") from error


def find(grammar: Grammar, tree: Tree) -> dict[str, list[Node]]:
    """What the grammar's query captures in the tree, in time linear in the tree's size.

    The bindings' own time limit for queries is not used: it crashes the process (tree-sitter 0.26.1).
    """
    return QueryCursor(grammar.query).captures(tree.root_node)

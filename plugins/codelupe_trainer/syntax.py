"""Counts syntax errors by tree-sitter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import tree_sitter_dart
import tree_sitter_go
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

_GRAMMARS: dict[str, Callable[[], object]] = {
    "dart": tree_sitter_dart.language,
    "go": tree_sitter_go.language,
    "javascript": tree_sitter_javascript.language,
    "python": tree_sitter_python.language,
    "rust": tree_sitter_rust.language,
    "tsx": tree_sitter_typescript.language_tsx,
    "typescript": tree_sitter_typescript.language_typescript,
}


def count_errors(language: str | None, code: str) -> int | None:
    """How many nodes of the syntax tree are wrong or missing; None for a language without a grammar here."""
    parser = _parser((language or "").lower())
    if parser is None:
        return None
    root = parser.parse(code.encode()).root_node
    return sum(node.is_error or node.is_missing for node in _faulty(root))


@cache
def _parser(language: str) -> Parser | None:
    return Parser(Language(_GRAMMARS[language]())) if language in _GRAMMARS else None


def _faulty(root: Node) -> Iterator[Node]:
    """Every node in or under which something is wrong."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.has_error:
            yield node
            waiting.extend(node.children)

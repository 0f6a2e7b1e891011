"""Counts syntax errors by tree-sitter."""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node, Parser

from codelupe_text.grammars import parser_language


def count_errors(language: str | None, code: str) -> int | None:
    """How many nodes of the syntax tree are wrong or missing; None for a language without a grammar here."""
    grammar = parser_language(language)
    if grammar is None:
        return None
    root = Parser(grammar).parse(code.encode()).root_node
    return sum(node.is_error or node.is_missing for node in _faulty(root))


def _faulty(root: Node) -> Iterator[Node]:
    """Every node in or under which something is wrong."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.has_error:
            yield node
            waiting.extend(node.children)

"""The languages that can be parsed, and queries over their syntax trees."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources.abc import Traversable

import tree_sitter_dart
import tree_sitter_go
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Query

_GRAMMARS: dict[str, Callable[[], object]] = {
    "Python": tree_sitter_python.language,
    "Go": tree_sitter_go.language,
    "Rust": tree_sitter_rust.language,
    "Dart": tree_sitter_dart.language,
    "JavaScript": tree_sitter_javascript.language,
    "TypeScript": tree_sitter_typescript.language_typescript,
    "TSX": tree_sitter_typescript.language_tsx,
}

_QUERY_FILES: dict[str, tuple[str, ...]] = {
    "JavaScript": ("ecma", "javascript"),
    "TypeScript": ("ecma", "typescript"),
    "TSX": ("ecma", "typescript"),
}
"""Where it is more than the language's own name, as for the two that have most in common."""


@cache
def parser_language(name: str | None) -> Language | None:
    """Tree-sitter's grammar of a language named as on GitHub; None if there is none."""
    return Language(_GRAMMARS[name]()) if name in _GRAMMARS else None


def make_query(language: str, text: str) -> Query:
    """A query over syntax trees of a language that can be parsed.

    Raises:
        tree_sitter.QueryError: the installed grammar has no such kind of node as the query asks for.
    """
    grammar = parser_language(language)
    assert grammar is not None
    return Query(grammar, text)


def read_query(folder: Traversable, language: str) -> Query:
    """The query in a folder's ``python.scm``, ``go.scm`` …; those for JavaScript and TypeScript share ``ecma.scm``.

    Raises:
        tree_sitter.QueryError: the installed grammar has no such kind of node as the query asks for.
    """
    names = _QUERY_FILES.get(language, (language.lower(),))
    return make_query(language, "\n".join((folder / f"{name}.scm").read_text(encoding="utf-8") for name in names))

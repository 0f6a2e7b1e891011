"""The languages that are parsed, and the queries that find what scorers look at.

The queries lie beside this module, in ``queries/``. Their captures are named by what a node means here:

=====================  ================================================================================================
``@function``          a function with a name; ``@body`` where its ``@signature`` stands before it as a sibling
``@type``              a class, struct, enum, trait, interface, alias …
``@container``         holds definitions without being one, such as Rust's ``impl``
``@block``             one level of nesting
``@branch``            a decision in McCabe's sense: one more way through the function
``@comment``           also a documentation comment; ``@docstring`` is a string that stands alone
``@decoration``        may stand between a comment and what it documents
``@error``             text that fits no rule of the grammar
``@KIND.name``         the name of a new function, type, variable or constant
``@import``            brings in another module; ``.near`` and ``.wildcard`` mark parts of it, ``.source`` is its path
=====================  ================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import tree_sitter_dart
import tree_sitter_go
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language, Query


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """A language's parser, and the query for an outline of its texts."""

    language: Language
    outline: Query = field(repr=False)


_LANGUAGES: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "Python": (tree_sitter_python.language, ("python",)),
    "Go": (tree_sitter_go.language, ("go",)),
    "Rust": (tree_sitter_rust.language, ("rust",)),
    "Dart": (tree_sitter_dart.language, ("dart",)),
    "JavaScript": (tree_sitter_javascript.language, ("ecma", "javascript")),
    "TypeScript": (tree_sitter_typescript.language_typescript, ("ecma", "typescript")),
    "TSX": (tree_sitter_typescript.language_tsx, ("ecma", "typescript")),
}


@cache
def grammar_for(language: str) -> Grammar | None:
    """The grammar of a language named as on GitHub; None if there is none.

    Raises:
        tree_sitter.QueryError: the installed grammar has no such kind of node as the query asks for.
    """
    if language not in _LANGUAGES:
        return None
    make, names = _LANGUAGES[language]
    parser_language = Language(make())
    folder = files(__package__) / "queries"
    source = "\n".join((folder / f"{name}.scm").read_text(encoding="utf-8") for name in names)
    return Grammar(language=parser_language, outline=Query(parser_language, source))

"""The grammars, and the queries that find what scorers look at.

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

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from tree_sitter import Language, Query

from codelupe_text.grammars import parser_language


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """A language's parser, and the query for an outline of its texts."""

    language: Language
    outline: Query = field(repr=False)


_QUERIES: dict[str, tuple[str, ...]] = {
    "Python": ("python",),
    "Go": ("go",),
    "Rust": ("rust",),
    "Dart": ("dart",),
    "JavaScript": ("ecma", "javascript"),
    "TypeScript": ("ecma", "typescript"),
    "TSX": ("ecma", "typescript"),
}


@cache
def grammar_for(language: str) -> Grammar | None:
    """The grammar of a language named as on GitHub; None if there is none.

    Raises:
        tree_sitter.QueryError: the installed grammar has no such kind of node as the query asks for.
    """
    parsed = parser_language(language)
    if parsed is None or language not in _QUERIES:
        return None
    folder = files(__package__) / "queries"
    source = "\n".join((folder / f"{name}.scm").read_text(encoding="utf-8") for name in _QUERIES[language])
    return Grammar(language=parsed, outline=Query(parsed, source))

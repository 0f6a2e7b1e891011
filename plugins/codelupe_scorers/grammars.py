"""The queries that find what scorers look at.

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

from functools import cache
from importlib.resources import files

from tree_sitter import Query

from codelupe_text.grammars import read_query


@cache
def outline_query(language: str) -> Query:
    """The query for an outline of texts in a language that is parsed.

    Raises:
        tree_sitter.QueryError: the installed grammar has no such kind of node as the query asks for.
    """
    return read_query(files(__package__) / "queries", language)

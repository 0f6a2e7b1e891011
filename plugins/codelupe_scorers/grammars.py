"""The languages that are parsed, and what the nodes of their syntax trees mean to the scorers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache

import tree_sitter_dart
import tree_sitter_go
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language


class Role(IntEnum):
    """What a node means to the scorers."""

    FUNCTION = 1
    FUNCTION_VALUE = 2
    """A function without a name of its own; it counts if its parent is a :attr:`HOLDER`."""
    HOLDER = 3
    """Gives a name to the function value directly below it."""
    SIGNATURE = 4
    """The beginning of the function whose body follows as a sibling."""
    TYPE = 5
    CONTAINER = 6
    """Holds definitions without being one, such as Rust's ``impl``."""
    BLOCK = 7
    BRANCH = 8
    """A decision in McCabe's sense: one more way through the function."""
    COMMENT = 9
    DECORATION = 10
    """May stand between a comment and what it documents."""
    STRING = 11
    ERROR = 12


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """A language's parser, and the roles of its nodes by their kind."""

    language: Language
    roles: dict[int, Role] = field(repr=False)


_ERROR_KIND = 0xFFFF

_PYTHON = {
    Role.FUNCTION: ("function_definition",),
    Role.TYPE: ("class_definition",),
    Role.BLOCK: ("block",),
    Role.BRANCH: (
        *("if_statement", "elif_clause", "for_statement", "while_statement", "except_clause", "case_clause"),
        *("conditional_expression", "if_clause", "and", "or"),
    ),
    Role.COMMENT: ("comment",),
    Role.STRING: ("string",),
}
_GO = {
    Role.FUNCTION: ("function_declaration", "method_declaration"),
    Role.TYPE: ("type_spec",),
    Role.BLOCK: ("block",),
    Role.BRANCH: ("if_statement", "for_statement", "expression_case", "type_case", "communication_case", "&&", "||"),
    Role.COMMENT: ("comment",),
}
_RUST = {
    Role.FUNCTION: ("function_item", "function_signature_item"),
    Role.TYPE: ("struct_item", "enum_item", "union_item", "trait_item", "type_item", "macro_definition"),
    Role.CONTAINER: ("impl_item", "mod_item"),
    Role.BLOCK: ("block", "match_block"),
    Role.BRANCH: (
        *("if_expression", "for_expression", "while_expression", "loop_expression", "match_arm", "&&", "||"),
    ),
    Role.COMMENT: ("line_comment", "block_comment"),
    Role.DECORATION: ("attribute_item",),
}
_DART = {
    Role.FUNCTION: ("function_body",),
    Role.SIGNATURE: ("function_signature", "method_signature"),
    Role.TYPE: (
        *("class_definition", "mixin_declaration", "enum_declaration", "extension_declaration", "type_alias"),
        "extension_type_declaration",
    ),
    Role.BLOCK: ("block", "switch_block"),
    Role.BRANCH: (
        *("if_statement", "if_element", "for_statement", "for_element", "while_statement", "do_statement"),
        *("switch_statement_case", "switch_expression_case", "catch_clause", "conditional_expression"),
        *("logical_and_operator", "logical_or_operator"),
    ),
    Role.COMMENT: ("comment", "documentation_comment"),
    Role.DECORATION: ("annotation",),
}
_JAVASCRIPT = {
    Role.FUNCTION: ("function_declaration", "generator_function_declaration", "method_definition"),
    Role.FUNCTION_VALUE: ("arrow_function", "function_expression", "generator_function"),
    Role.HOLDER: ("variable_declarator", "assignment_expression", "pair", "field_definition"),
    Role.TYPE: ("class_declaration",),
    Role.BLOCK: ("statement_block", "switch_body"),
    Role.BRANCH: (
        *("if_statement", "for_statement", "for_in_statement", "while_statement", "do_statement", "switch_case"),
        *("catch_clause", "ternary_expression", "&&", "||", "??"),
    ),
    Role.COMMENT: ("comment", "html_comment"),
    Role.DECORATION: ("decorator",),
}
_TYPESCRIPT = _JAVASCRIPT | {
    Role.FUNCTION: (*_JAVASCRIPT[Role.FUNCTION], "abstract_method_signature", "function_signature"),
    Role.HOLDER: ("variable_declarator", "assignment_expression", "pair", "public_field_definition"),
    Role.TYPE: (
        *("class_declaration", "abstract_class_declaration", "interface_declaration", "type_alias_declaration"),
        "enum_declaration",
    ),
    Role.CONTAINER: ("internal_module", "module"),
}

_LANGUAGES: dict[str, tuple[Callable[[], object], dict[Role, tuple[str, ...]]]] = {
    "Python": (tree_sitter_python.language, _PYTHON),
    "Go": (tree_sitter_go.language, _GO),
    "Rust": (tree_sitter_rust.language, _RUST),
    "Dart": (tree_sitter_dart.language, _DART),
    "JavaScript": (tree_sitter_javascript.language, _JAVASCRIPT),
    "TypeScript": (tree_sitter_typescript.language_typescript, _TYPESCRIPT),
    "TSX": (tree_sitter_typescript.language_tsx, _TYPESCRIPT),
}


@cache
def grammar_for(language: str) -> Grammar | None:
    """The grammar of a language named as on GitHub; None if there is none."""
    if language not in _LANGUAGES:
        return None
    make, kinds = _LANGUAGES[language]
    parser_language = Language(make())
    roles = {kind: role for role, names in kinds.items() for kind in _kind_ids(parser_language, names)}
    return Grammar(language=parser_language, roles=roles | {_ERROR_KIND: Role.ERROR})


def _kind_ids(language: Language, names: Iterable[str]) -> list[int]:
    """The numbers of these kinds of node.

    Raises:
        LookupError: the installed grammar has no such kind.
    """
    wanted = set(names)
    found = {
        kind: name for kind in range(language.node_kind_count) if (name := language.node_kind_for_id(kind)) in wanted
    }
    if missing := wanted.difference(found.values()):
        raise LookupError(f"the grammar {language.name} has no {', '.join(sorted(missing))}")
    return list(found)

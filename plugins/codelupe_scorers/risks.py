"""What in a syntax tree is known to be dangerous, language by language.

Curated from the Common Weakness Enumeration (the number is in each risk) and from what Bandit, gosec and ESLint's
security rules look for; only what a tree shows without following values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tree_sitter import Query

from codelupe_text.grammars import make_query


@dataclass(frozen=True, kw_only=True)
class Risk:
    """A pattern that should not be learned."""

    name: str
    why: str
    cost: int
    """Points for the first place."""
    triggers: tuple[bytes, ...]
    """The query is only asked near these."""
    needs: bytes = b""
    """And only where this stands somewhere in the text."""
    query: str
    """Captures the place as ``@risk``."""
    excuse: bytes | None = None
    """In the three rows above, in any case of letters, it gives the reason that makes it right."""


@cache
def query_of(risk: Risk, language: str) -> Query:
    """The risk's query, for the grammar of a language that is parsed.

    Raises:
        tree_sitter.QueryError: the installed grammar has no such kind of node as the query asks for.
    """
    return make_query(language, risk.query)


_SQL = r'(#match? @sql "(?i)\\b(select\\s.+\\sfrom|insert\\s+into|update\\s.+\\sset|delete\\s+from)\\b")'
_SQL_WORDS = (b"select ", b"SELECT ", b"insert ", b"INSERT ", b"update ", b"UPDATE ", b"delete ", b"DELETE ")

_EVAL = "runs text as code that is not written here (CWE-95)"
_SHELL = "hands a command with inserted values to a shell (CWE-78)"
_QUERY = "puts values into the text of an SQL statement (CWE-89)"
_TLS = "does not check the other side's certificate (CWE-295)"
_LOAD = "loads objects of any kind, which may run code (CWE-502)"
_HASH = "a hash that no longer protects (CWE-328)"
_UNSAFE = "unsafe, and no SAFETY comment says why it is sound"
_MARKUP = "puts values into markup unescaped (CWE-79)"

_PYTHON_VALUE = "[(identifier) (call) (attribute) (subscript) (binary_operator) (string (interpolation))]"
_PYTHON = (
    Risk(
        name="eval",
        why=_EVAL,
        cost=50,
        triggers=(b"eval(", b"exec("),
        query=f"""(call function: (identifier) @name arguments: (argument_list . {_PYTHON_VALUE})
            (#any-of? @name "eval" "exec")) @risk""",
    ),
    Risk(
        name="shell",
        why=_SHELL,
        cost=50,
        triggers=(b"os.system", b"os.popen", b"shell"),
        query=f"""
        (call function: (attribute object: (identifier) @module attribute: (identifier) @name)
            arguments: (argument_list . {_PYTHON_VALUE})
            (#eq? @module "os") (#any-of? @name "system" "popen")) @risk
        (call arguments: (argument_list . {_PYTHON_VALUE} (keyword_argument name: (identifier) @name value: (true)))
            (#eq? @name "shell")) @risk""",
    ),
    Risk(
        name="sql",
        why=_QUERY,
        cost=50,
        triggers=_SQL_WORDS,
        query=f"""
        (call function: (attribute attribute: (identifier) @name) arguments: (argument_list . [
            (binary_operator left: (string) @sql)
            (call function: (attribute object: (string) @sql attribute: (identifier) @format (#eq? @format "format")))
            (string (interpolation)) @sql
        ]) (#any-of? @name "execute" "executemany" "executescript" "raw") {_SQL}) @risk""",
    ),
    Risk(
        name="tls",
        why=_TLS,
        cost=40,
        triggers=(b"verify", b"CERT_NONE", b"check_hostname"),
        query="""
        (call arguments: (argument_list (keyword_argument name: (identifier) @name value: (false)))
            (#eq? @name "verify")) @risk
        (assignment left: (attribute attribute: (identifier) @name) right: (false) (#eq? @name "check_hostname")) @risk
        (attribute attribute: (identifier) @name (#any-of? @name "CERT_NONE" "_create_unverified_context")) @risk""",
    ),
    Risk(
        name="deserialization",
        why=_LOAD,
        cost=30,
        triggers=(
            b"pickle.load",
            b"pickle.Unpickler",
            b"dill.load",
            b"marshal.load",
            b"yaml.load",
            b"yaml.unsafe_load",
        ),
        query="""
        (call function: (attribute object: (identifier) @module attribute: (identifier) @name)
            (#any-of? @module "pickle" "cPickle" "dill" "marshal")
            (#any-of? @name "load" "loads" "Unpickler")) @risk
        (call function: (attribute object: (identifier) @module attribute: (identifier) @name)
            arguments: (argument_list . (_) .) (#eq? @module "yaml") (#any-of? @name "load" "load_all")) @risk
        (call function: (attribute object: (identifier) @module attribute: (identifier) @name)
            (#eq? @module "yaml") (#any-of? @name "unsafe_load" "unsafe_load_all")) @risk""",
    ),
    Risk(
        name="weak-hash",
        why=_HASH,
        cost=15,
        triggers=(b"md5", b"sha1"),
        query="""(call function: (attribute object: (identifier) @module attribute: (identifier) @name)
            (#eq? @module "hashlib") (#any-of? @name "md5" "sha1")) @risk""",
    ),
    Risk(
        name="temporary-name",
        why="another program can take the name before the file is made (CWE-377)",
        cost=20,
        triggers=(b"mktemp",),
        query="""(call function: (attribute object: (identifier) @module attribute: (identifier) @name)
            (#eq? @module "tempfile") (#eq? @name "mktemp")) @risk""",
    ),
)

_GO_SQL = "[(interpreted_string_literal) (raw_string_literal)] @sql"
_GO = (
    Risk(
        name="shell",
        why=_SHELL,
        cost=50,
        triggers=(b"exec.Command",),
        query="""(call_expression
            function: (selector_expression operand: (identifier) @package field: (field_identifier) @name)
            arguments: (argument_list (interpreted_string_literal) @flag .
                [(identifier) (call_expression) (selector_expression) (binary_expression)])
            (#eq? @package "exec") (#any-of? @name "Command" "CommandContext") (#eq? @flag "\\"-c\\"")) @risk""",
    ),
    Risk(
        name="sql",
        why=_QUERY,
        cost=50,
        triggers=_SQL_WORDS,
        query=f"""
        (call_expression function: (selector_expression field: (field_identifier) @name)
            arguments: (argument_list [
                (binary_expression left: {_GO_SQL})
                (call_expression function: (selector_expression field: (field_identifier) @format)
                    arguments: (argument_list . {_GO_SQL}) (#eq? @format "Sprintf"))
            ])
            (#any-of? @name "Query" "QueryRow" "Exec" "QueryContext" "QueryRowContext" "ExecContext" "Raw")
            {_SQL}) @risk
        """,
    ),
    Risk(
        name="tls",
        why=_TLS,
        cost=40,
        triggers=(b"InsecureSkipVerify",),
        query="""
        (keyed_element key: (literal_element (identifier) @name) value: (literal_element (true))
            (#eq? @name "InsecureSkipVerify")) @risk
        (assignment_statement left: (expression_list (selector_expression field: (field_identifier) @name))
            right: (expression_list (true)) (#eq? @name "InsecureSkipVerify")) @risk""",
    ),
    Risk(
        name="weak-hash",
        why=_HASH,
        cost=15,
        triggers=(b"md5.", b"sha1."),
        query="""(call_expression
            function: (selector_expression operand: (identifier) @package field: (field_identifier) @name)
            (#any-of? @package "md5" "sha1") (#any-of? @name "New" "Sum")) @risk""",
    ),
    Risk(
        name="unsafe",
        why="leaves the type system by unsafe.Pointer, and no comment right above says why",
        cost=15,
        triggers=(b"unsafe.Pointer",),
        query="""(call_expression
            function: (selector_expression operand: (identifier) @package field: (field_identifier) @name)
            (#eq? @package "unsafe") (#eq? @name "Pointer")) @risk""",
        excuse=b"//",
    ),
)

_RUST = (
    Risk(
        name="unsafe",
        why=_UNSAFE,
        cost=15,
        triggers=(b"unsafe",),
        query="""(unsafe_block) @risk  ((impl_item) @risk (#match? @risk "^unsafe"))""",
        excuse=b"safety",
    ),
    Risk(
        name="transmute",
        why="reinterprets memory as another type, and no SAFETY comment says why it is sound",
        cost=15,
        triggers=(b"transmute",),
        query="""
        (call_expression function: [(scoped_identifier name: (identifier) @name) (identifier) @name
            (generic_function function: [(scoped_identifier name: (identifier) @name) (identifier) @name])]
            (#any-of? @name "transmute" "transmute_copy")) @risk""",
        excuse=b"safety",
    ),
    Risk(
        name="shell",
        why=_SHELL,
        cost=50,
        triggers=(b'"-c"',),
        query="""(call_expression
            function: (field_expression
                value: (call_expression function: (field_expression field: (field_identifier) @arg)
                    arguments: (arguments (string_literal (string_content) @flag)))
                field: (field_identifier) @name)
            arguments: (arguments [(identifier) (macro_invocation) (reference_expression) (call_expression)])
            (#eq? @arg "arg") (#eq? @flag "-c") (#eq? @name "arg")) @risk""",
    ),
    Risk(
        name="sql",
        why=_QUERY,
        cost=50,
        triggers=(b"format!",),
        query=f"""
        (call_expression function: [(field_expression field: (field_identifier) @name) (identifier) @name
            (scoped_identifier name: (identifier) @name)]
            arguments: (arguments . [
                (macro_invocation macro: (identifier) @format (token_tree (string_literal) @sql))
                (reference_expression
                    value: (macro_invocation macro: (identifier) @format (token_tree (string_literal) @sql)))
            ])
            (#eq? @format "format") (#any-of? @name "query" "execute" "sql_query" "prepare" "query_row")
            {_SQL}) @risk""",
    ),
    Risk(
        name="tls",
        why=_TLS,
        cost=40,
        triggers=(b"danger_accept_invalid",),
        query="""(call_expression function: (field_expression field: (field_identifier) @name)
            arguments: (arguments (boolean_literal) @value)
            (#match? @name "^danger_accept_invalid_") (#eq? @value "true")) @risk""",
    ),
)

_DART = (
    Risk(
        name="shell",
        why=_SHELL,
        cost=40,
        triggers=(b"runInShell",),
        query="""(named_argument (label (identifier) @name) (true) (#eq? @name "runInShell")) @risk""",
    ),
    Risk(
        name="sql",
        why=_QUERY,
        cost=50,
        triggers=_SQL_WORDS,
        query=f"""((string_literal (template_substitution)) @sql {_SQL}) @risk""",
    ),
    Risk(
        name="tls",
        why=_TLS,
        cost=40,
        triggers=(b"badCertificateCallback",),
        query="""(assignment_expression
            left: (assignable_expression (unconditional_assignable_selector (identifier) @name))
            right: (function_expression body: (function_expression_body (true)))
            (#eq? @name "badCertificateCallback")) @risk""",
    ),
)

_ECMA_VALUE = """[(identifier) (member_expression) (call_expression) (binary_expression) (subscript_expression)
    (template_string (template_substitution))]"""
_ECMA = (
    Risk(
        name="eval",
        why=_EVAL,
        cost=50,
        triggers=(b"eval(", b"Function("),
        query=f"""
        (call_expression function: (identifier) @name arguments: (arguments . {_ECMA_VALUE}) (#eq? @name "eval")) @risk
        (new_expression constructor: (identifier) @name arguments: (arguments {_ECMA_VALUE} .)
            (#eq? @name "Function")) @risk""",
    ),
    Risk(
        name="shell",
        why=_SHELL,
        cost=50,
        triggers=(b"exec(", b"execSync("),
        needs=b"child_process",
        query="""
        (call_expression function: [(identifier) @name (member_expression property: (property_identifier) @name)]
            arguments: (arguments . [(template_string (template_substitution)) (binary_expression)])
            (#any-of? @name "exec" "execSync")) @risk""",
    ),
    Risk(
        name="sql",
        why=_QUERY,
        cost=50,
        triggers=_SQL_WORDS,
        query=f"""
        (call_expression function: (member_expression property: (property_identifier) @name)
            arguments: (arguments . [
                (template_string (template_substitution)) @sql
                (binary_expression left: (string) @sql)
                (binary_expression left: (binary_expression left: (string) @sql))
            ]) (#any-of? @name "query" "execute" "raw" "run" "all" "get") {_SQL}) @risk""",
    ),
    Risk(
        name="markup",
        why=_MARKUP,
        cost=25,
        triggers=(b"innerHTML", b"outerHTML", b"document.write"),
        query=f"""
        (assignment_expression left: (member_expression property: (property_identifier) @name) right: {_ECMA_VALUE}
            (#any-of? @name "innerHTML" "outerHTML")) @risk
        (call_expression function: (member_expression
            object: (identifier) @object property: (property_identifier) @name)
            arguments: (arguments . {_ECMA_VALUE})
            (#eq? @object "document") (#any-of? @name "write" "writeln")) @risk""",
    ),
    Risk(
        name="tls",
        why=_TLS,
        cost=40,
        triggers=(b"rejectUnauthorized", b"NODE_TLS_REJECT_UNAUTHORIZED"),
        query="""
        (pair key: (property_identifier) @name value: (false) (#eq? @name "rejectUnauthorized")) @risk
        (assignment_expression left: (member_expression property: (property_identifier) @name)
            (#eq? @name "NODE_TLS_REJECT_UNAUTHORIZED")) @risk""",
    ),
    Risk(
        name="weak-hash",
        why=_HASH,
        cost=15,
        triggers=(b"createHash",),
        query="""(call_expression
            function: [(identifier) @name (member_expression property: (property_identifier) @name)]
            arguments: (arguments . (string (string_fragment) @hash))
            (#eq? @name "createHash") (#any-of? @hash "md5" "sha1" "MD5" "SHA1")) @risk""",
    ),
)

RISKS: dict[str, tuple[Risk, ...]] = {
    "Python": _PYTHON,
    "Go": _GO,
    "Rust": _RUST,
    "Dart": _DART,
    "JavaScript": _ECMA,
    "TypeScript": _ECMA,
    "TSX": _ECMA,
}
"""By language, as the grammars are named."""

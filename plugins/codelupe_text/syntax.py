"""Parses a file, within limits of size and time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from tree_sitter import Node, Parser, Query, QueryCursor, Tree

from codelupe import SourceFile
from codelupe_text.grammars import parser_language

MAX_BYTES = 64 * 1024
"""Larger files are not parsed: they are eight times what a model is trained on."""
MAX_SECONDS = 0.5
"""CPU time for parsing: some texts make a grammar try very many readings; a usual file takes a few milliseconds."""
_PIECE = 64 * 1024
_CALLS = 16
"""Of the parser's callback, from one look at the clock to the next."""
_MAX_OPEN_MATCHES = 1024
"""Of a query, at one time: what would go beyond is not found."""


class NotParsed(Exception):
    """There is no syntax tree; the message says why."""


class NoGrammar(NotParsed):
    """The language is not one of those that are parsed."""


@dataclass(frozen=True, slots=True, eq=False)
class Syntax:
    """A text and its syntax tree; no two are equal."""

    language: str
    data: bytes
    """The text in UTF-8, which nodes count in."""
    tree: Tree

    def matches(self, query: Query, within: Node | None = None) -> list[dict[str, list[Node]]]:
        """What the query finds in the tree, or within one node: of each match the nodes by their captures' names."""
        cursor = QueryCursor(query, match_limit=_MAX_OPEN_MATCHES)
        return [captured for _, captured in cursor.matches(within or self.tree.root_node)]

    def captures(self, query: Query, within: Node | None = None) -> dict[str, list[Node]]:
        """The nodes that the query finds in the tree, or within one node, by the names of its captures.

        Made of whole matches: the cursor's own ``captures`` also gives parts of what does not match in the end.
        """
        found: dict[str, list[Node]] = defaultdict(list)
        for captured in self.matches(query, within):
            for name, nodes in captured.items():
                found[name] += nodes
        return found

    def text(self, node: Node) -> bytes:
        return self.data[node.start_byte : node.end_byte]


def parse(file: SourceFile, seconds: float = MAX_SECONDS) -> Syntax:
    """The file's syntax, within so much CPU time; that of the last file is kept, for all that ask.

    Raises:
        NoGrammar: the language is not parsed at all.
        NotParsed: the text is too large, or parsing took too long.
    """
    dialect = "TSX" if file.language == "TypeScript" and file.path.endswith(".tsx") else file.language
    result = _parse(dialect or "none", file.content, seconds)
    if isinstance(result, NotParsed):
        raise result
    return result


@lru_cache(maxsize=1)
def _parse(language: str, content: str, seconds: float) -> Syntax | NotParsed:
    grammar = parser_language(language)
    if grammar is None:
        return NoGrammar(f"no grammar for {language}")
    data = content.encode(errors="replace")
    if len(data) > MAX_BYTES:
        return NotParsed(f"{len(data)} bytes, at most {MAX_BYTES} are parsed")
    try:
        parser, stop = Parser(grammar), _deadline(seconds)
        tree = parser.parse(lambda at, _: data[at : at + _PIECE], progress_callback=stop)
    except ValueError:
        return NotParsed(f"parsing took more than {seconds:g} s of CPU time")
    return Syntax(language, data, tree)


def _deadline(seconds: float) -> Callable[..., bool]:
    """Says whether the time for parsing is over; asked very often, it looks at the clock now and then."""
    end = time.thread_time() + seconds
    calls = count(1)
    return lambda *_: next(calls) % _CALLS == 0 and time.thread_time() > end

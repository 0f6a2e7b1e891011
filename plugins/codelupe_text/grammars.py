"""The languages that can be parsed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import tree_sitter_dart
import tree_sitter_go
import tree_sitter_javascript
import tree_sitter_python
import tree_sitter_rust
import tree_sitter_typescript
from tree_sitter import Language

_GRAMMARS: dict[str, Callable[[], object]] = {
    "Python": tree_sitter_python.language,
    "Go": tree_sitter_go.language,
    "Rust": tree_sitter_rust.language,
    "Dart": tree_sitter_dart.language,
    "JavaScript": tree_sitter_javascript.language,
    "TypeScript": tree_sitter_typescript.language_typescript,
    "TSX": tree_sitter_typescript.language_tsx,
}


@cache
def parser_language(name: str | None) -> Language | None:
    """Tree-sitter's grammar of a language named as on GitHub; None if there is none."""
    return Language(_GRAMMARS[name]()) if name in _GRAMMARS else None

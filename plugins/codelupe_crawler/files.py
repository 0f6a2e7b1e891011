"""Which files are source text, and in which language a set of files is written."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePath

import enry

MAX_FILE_BYTES = 1 << 20
"""Larger files are data, whatever their name; they are left out."""

_LANGUAGES = (
    *("C", "C++", "C#", "Cuda", "Cython", "Dart", "Go", "Java", "JavaScript", "Julia", "Kotlin", "Lua", "PHP"),
    *("Python", "R", "Ruby", "Rust", "SQL", "Scala", "Shell", "Swift", "TypeScript", "TSX", "Zig"),
)
"""Of source files. A suffix that several of them use counts for the first, such as ``.h`` for C."""
_DIALECTS = {"TSX": "TypeScript"}

_LEGAL_OR_README = re.compile(r"(readme|(un)?licen[cs]es?|copying|notice|copyright)([-_.].*)?", re.IGNORECASE)
_FORBIDDEN_IN_GIT = {"", ".", "..", ".git"}


@cache
def languages() -> Mapping[str, str]:
    """The languages of source files by suffix, both as GitHub's Linguist has them."""
    found: dict[str, str] = {}
    for language in _LANGUAGES:
        for suffix in enry.get_language_extensions(language):
            found.setdefault(suffix.lower(), _DIALECTS.get(language, language))
    return found


def is_document(path: PurePath) -> bool:
    """Whether the name is that of a README or of a licence."""
    return _LEGAL_OR_README.fullmatch(path.name) is not None


def is_source(path: PurePath) -> bool:
    """Whether the relative path names source text, a README or a licence, and git can hold it."""
    if "__pycache__" in path.parts or any(part.lower() in _FORBIDDEN_IN_GIT for part in path.parts):
        return False
    return path.suffix.lower() in languages() or is_document(path)


def main_language(paths: Iterable[PurePath]) -> str | None:
    """The language of more than half of the source files, or None."""
    counts = Counter(languages().get(path.suffix.lower()) for path in paths)
    del counts[None]
    [(language, count)] = counts.most_common(1) or [(None, 0)]
    return language if 2 * count > counts.total() else None


def read_text(path: Path, root: Path) -> bytes | None:
    """The file's bytes, or None if it is gone, too large, not text, or lies outside ``root`` (a resolved folder)."""
    try:
        resolved = path.resolve(strict=True)
        if not resolved.is_relative_to(root) or not resolved.is_file() or resolved.stat().st_size > MAX_FILE_BYTES:
            return None
        content = resolved.read_bytes()
    except (OSError, RuntimeError):
        return None
    return None if b"\0" in content else content


def walk(root: Path) -> Iterator[Path]:
    """The source files below a folder, relative to it, sorted; hidden folders and links are passed over."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if is_source(path.relative_to(root)) and not path.is_symlink():
                yield path.relative_to(root)

"""One word for each thing: the glossary's, not those that it replaced; and no pronoun without a noun."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
REPLACED = (
    r"nobody|somebody|whoever|everybody|everyone"
    r"|parked|settled (?:position|horizon)|\w*_fence|fence[sd]?|lanes?|hungry|surroundings|shelf|hand_over"
)
PATTERN = re.compile(rf"\b(?:{REPLACED})\b", re.IGNORECASE)
TRUE_MEANINGS = {
    "the user of the operating system": r"[`\"']nobody[`\"']|nor nobody",
    "a package of Flutter": r"prometheus, shelf, tokio",
    "part of a name in Python's typing": r"_fenced\b",
}
HISTORY = {"docs/explanation/glossary.md", "docs/reference/database.md"}
"""Pages that say what the words were; the reference shows the comments of migrations that must not change."""


def texts() -> Iterator[Path]:
    """All that people read: pages, comments, docstrings, help texts, messages."""
    for pattern in ("*.md", "docs/**/*.md", "contrib/**/*", "Makefile"):
        yield from (path for path in ROOT.glob(pattern) if path.is_file())
    for folder in ("codelupe", "events", "plugins", "sql/codelupe_sql/queries", "scripts", "benchmarks"):
        for suffix in ("py", "pyi", "sql", "toml"):
            yield from (ROOT / folder).rglob(f"*.{suffix}")


def replaced_words(text: str) -> list[str]:
    for meaning in TRUE_MEANINGS.values():
        text = re.sub(meaning, "", text)
    return [match[0] for match in PATTERN.finditer(text)]


def test_the_glossary_s_words_are_used() -> None:
    found = {}
    for path in texts():
        name = str(path.relative_to(ROOT))
        if name not in HISTORY and (words := replaced_words(path.read_text(encoding="utf-8"))):
            found[name] = words
    assert found == {}


@pytest.mark.parametrize(
    "text",
    ["Whoever reads this", "the settled position", "a parked event", "raise_fence()", "a level lane", "the fence"],
)
def test_a_replaced_word_is_found(text: str) -> None:
    assert replaced_words(text)


def test_the_pages_that_are_read_are_there() -> None:
    names = {str(path.relative_to(ROOT)) for path in texts()}
    assert {
        "README.md",
        "docs/how-to/recover.md",
        "codelupe/work/consumer.py",
        "sql/codelupe_sql/queries/log.sql",
    } <= names

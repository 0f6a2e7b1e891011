"""One word for each thing: the glossary's, not those that it replaced; and no pronoun without a noun."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PRIVATE = (
    r"park(?:s|ed|ing)|(?:task|events)parked|settled[ _](?:position|horizon)|the horizon|\w*_fence|fence[sd]?|lanes?"
    r"|hungry|seats?|shel(?:f|ves)|hand_over"
)
PRONOUNS = r"(?:no|some|any|every)(?:body|one)|no one|whoever"
TRUE_MEANINGS = {
    "the user of the operating system": r"[`\"']nobody[`\"']|nor nobody",
    "a package of Flutter": r"prometheus,\s+shelf,\s+tokio",
    "part of a name in Python's typing": r"_fenced\b",
    "a former name under which events lie in logs": r"[`\"']TaskParked[`\"']",
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


def files_of_tests() -> Iterator[Path]:
    """Tests, but for this one and for databases of former versions. Their data may hold any pronoun."""
    for suffix in ("py", "sql"):
        yield from (path for path in (ROOT / "tests").rglob(f"*.{suffix}") if path.parent.name != "upgrade")


def replaced_words(text: str, words: str = f"{PRIVATE}|{PRONOUNS}") -> list[str]:
    for meaning in TRUE_MEANINGS.values():
        text = re.sub(meaning, "", text)
    return re.findall(rf"(?<![a-z])(?:{words})(?![a-z])", text, re.IGNORECASE)


def found_in(paths: Iterable[Path], words: str) -> dict[str, list[str]]:
    names = {str(path.relative_to(ROOT)): path for path in paths if path != Path(__file__)}
    found = {name: replaced_words(path.read_text(encoding="utf-8"), words) for name, path in names.items()}
    return {name: words for name, words in found.items() if words and name not in HISTORY}


def test_the_glossary_s_words_are_used() -> None:
    assert found_in(texts(), f"{PRIVATE}|{PRONOUNS}") == {}
    assert found_in(files_of_tests(), PRIVATE) == {}


@pytest.mark.parametrize(
    "text",
    [
        *("Whoever reads this", "the settled position", "a parked event", "raise_fence()", "a level lane", "the fence"),
        *(
            "parks it",
            "retries and parking",
            "a TaskParked event",
            "EventsParked",
            "settled_position()",
            "up to the horizon",
        ),
        *("held back by anybody", "for no one", "class Seat:", "the Shelves"),
    ],
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

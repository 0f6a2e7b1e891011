"""The rules that leave a file of a clone out, from the cheapest to the dearest.

What a path tells comes from enry, GitHub Linguist's detectors. The thresholds are the hard gates of StarCoder2
(Lozhkov and others, 2024, section 2.1) as the defaults of :class:`FiltersSettings`; "<?xml version=" and the visible
text of HTML are StarCoder's (Li and others, 2023, section 3.1).

Details and evidence never quote the content beyond a rule's own mark.
"""

from __future__ import annotations

import re
import string
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from typing import Literal

import enry

from codelupe import FileRule, Objection, SourceFile
from codelupe_filters.contamination import contamination_rules
from codelupe_filters.licences import is_allowed
from codelupe_filters.settings import FiltersSettings


def _class_table(other: str, **classes: str) -> bytes:
    """A table for ``bytes.translate`` that puts a letter in the place of each character of its class."""
    table = bytearray(other.encode() * 256)
    for letter, members in classes.items():
        for character in members.encode():
            table[character] = ord(letter)
    return bytes(table)


_VENDOR_FOLDERS = {"_vendor", "_vendored", "vendored", "third-party", "thirdparty", "3rdparty", "site-packages"}
_TEST_FOLDERS = {"test", "tests", "testing", "__tests__", "spec", "specs", "e2e"}
_TEST_DATA_FOLDERS = {"fixtures", "__fixtures__", "testdata", "test-data", "test_data", "__snapshots__", "cassettes"}
_DATA_FOLDERS = {"data", "fixture", "resources", "snapshots", "golden", "corpus", "samples"}
_CONFIGURATION = re.compile(
    r"(?:.+\.(?:config|conf|rc)\.[cm]?[jt]sx?|setup\.py|gulpfile\.js|gruntfile\.js)", re.IGNORECASE
)
_GENERATED_NAME = re.compile(r".+(?:_pb2(?:_grpc)?\.pyi?|\.pb(?:\.gw)?\.go|\.(?:g|freezed|pb|pbenum|mocks)\.dart)")
_GENERATED_MARK = re.compile(
    r"auto-?generated|automatically generated|generated automatically|this file is generated", re.IGNORECASE
)
_MINIFIED_NAME = re.compile(r".+[.-]min\.[cm]?js")
_XML = "<?xml version="
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_ASCII_LETTERS = string.ascii_letters.encode()
_DATA_LANGUAGES = {"Text", "JSON", "YAML", "Web Ontology Language", "Graphviz (DOT)"}
_PROSE_LANGUAGES = {"HTML", "JSON", "Markdown", "Roff", "Roff Manpage", "SMT", "TeX", "Text", "XML"}
_BASE64_RUN = b"a" * 64
_BASE64 = _class_table(" ", a=string.ascii_letters + string.digits + "+/=")
_HEX = _class_table(".", h=string.hexdigits, w="ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ_", **{" ": " \t\n,;:"})
_BARE_BYTES = re.compile(rb" hh(?: +hh){7,}(?![hw])")
_MARKED_BYTES = re.compile(rb"(?:(?:0x|\\x)[0-9a-fA-F]{2}[\s,;]*){8,}")
_ESCAPES = re.compile(rb"(?:\\u[0-9a-fA-F]{4}){8,}")


def file_rules(settings: FiltersSettings) -> list[FileRule]:
    """This plugin's rules as the settings want them, in the order in which they are asked."""
    return [
        Languages(settings.languages),
        NoDotFiles(),
        NoTestData(),
        NoMinified(),
        NoVendored(),
        NoDocumentation(),
        NoConfiguration(),
        Licences(settings.licences, settings.unknown_licence),
        NoGenerated(),
        NoXml(),
        MaxLines(settings.max_lines, settings.max_data_lines),
        MaxLineLength(settings.max_line_length, settings.max_mean_line_length, settings.max_prose_line_length),
        MinLetters(settings.min_letters),
        NoEncodedData(settings.max_encoded_run, settings.max_encoded_share),
        VisibleText(),
        *contamination_rules(settings.decontaminate, is_wish="decontaminate" in settings.model_fields_set),
    ]


def labels_of(path: str) -> tuple[str, ...]:
    """What else is worth knowing about a file that is kept: ``test`` if it tests other code."""
    folders, name = _split(path)
    is_test = name == "conftest.py" or not _TEST_FOLDERS.isdisjoint(folders) or enry.is_test(path)
    return ("test",) if is_test else ()


@cache
def lower(names: tuple[str, ...]) -> frozenset[str]:
    """Names by which upper and lower case are one."""
    return frozenset(map(str.lower, names))


def _split(path: str) -> tuple[list[str], str]:
    """The folders, in lower case, and the file's name."""
    *folders, name = path.split("/")
    return [folder.lower() for folder in folders], name


class ByPath:
    """A rule that looks at a file's path, language and licence only: it is asked before secrets are looked for."""


@dataclass(frozen=True)
class Languages(ByPath):
    """Only the languages wanted, in whatever case they are written."""

    wanted: tuple[str, ...]
    name = "language"
    version = 1

    def check(self, file: SourceFile) -> Objection | None:
        if file.language is not None and file.language.lower() in lower(self.wanted):
            return None
        detail = f"{file.language or 'no language that enry knows'} is not wanted"
        return Objection(detail=detail, evidence={"language": file.language})


@dataclass(frozen=True)
class Licences(ByPath):
    """Only what a licence of the policy lets be used; ``unknown`` says what becomes of files without one."""

    accepted: tuple[str, ...]
    unknown: Literal["accept", "reject"]
    name = "licence"
    version = 1

    def check(self, file: SourceFile) -> Objection | None:
        if file.licence is None:
            return None if self.unknown == "accept" else Objection(detail="no licence is known for it")
        if is_allowed(file.licence, lower(self.accepted)):
            return None
        return Objection(detail=f"{file.licence} is not accepted", evidence={"licence": file.licence})


@dataclass(frozen=True)
class NoDotFiles(ByPath):
    """Nothing whose name, or whose folder's name, begins with a dot: these are settings of tools."""

    name = "dot-file"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        hidden = next((part for part in file.path.split("/") if part.startswith(".")), None)
        return f"{hidden} begins with a dot" if hidden else None


@dataclass(frozen=True)
class NoTestData(ByPath):
    """Tests are kept, what they feed on is not."""

    name = "test-data"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        folders, _ = _split(file.path)
        within_tests = False
        for folder in folders:
            if folder in _TEST_DATA_FOLDERS or (within_tests and folder in _DATA_FOLDERS):
                return f"the folder {folder} holds test data"
            within_tests = within_tests or folder in _TEST_FOLDERS
        return None


@dataclass(frozen=True)
class NoVendored(ByPath):
    """Code copied from elsewhere is found at its origin."""

    name = "vendored"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        folders, _ = _split(file.path)
        if enry.is_vendor(file.path) or not _VENDOR_FOLDERS.isdisjoint(folders):
            return "its path is one of copied code"
        return None


@dataclass(frozen=True)
class NoDocumentation(ByPath):
    """Documentation and the examples in it."""

    name = "documentation"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        return "its path is one of documentation or examples" if enry.is_documentation(file.path) else None


@dataclass(frozen=True)
class NoConfiguration(ByPath):
    """Settings of build tools and the like, also where they are written in a programming language."""

    name = "configuration"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        _, name = _split(file.path)
        if enry.is_configuration(file.path) or _CONFIGURATION.fullmatch(name):
            return f"{name} is configuration"
        return None


@dataclass(frozen=True)
class NoGenerated:
    """Nothing that a program wrote: by enry, by the name, or by a remark in the first five lines."""

    name = "generated"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        _, name = _split(file.path)
        if _GENERATED_NAME.fullmatch(name):
            return f"{name} is the name of a generated file"
        head = "\n".join(file.content.split("\n", 5)[:5])
        if mark := _GENERATED_MARK.search(head):
            return f"its first five lines say {mark.group()!r}"
        if enry.is_generated(file.path, file.content.encode()):
            return "it looks like a generator's output"
        return None


@dataclass(frozen=True)
class NoXml:
    """Nothing that begins like XML, whatever its name says."""

    name = "xml"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        return f"it begins with {_XML}" if _XML in file.content[:100] else None


@dataclass(frozen=True)
class MaxLines:
    """Not more than so many lines, of data not more than so few."""

    most: int
    most_of_data: int
    name = "too-many-lines"
    version = 1

    def check(self, file: SourceFile) -> Objection | None:
        lines = file.content.count("\n") + 1
        most = self.most_of_data if file.language in _DATA_LANGUAGES else self.most
        if lines <= most:
            return None
        return Objection(detail=f"{lines} lines, at most {most} are allowed", evidence={"lines": lines, "most": most})


@dataclass(frozen=True)
class NoMinified(ByPath):
    """Nothing that was squeezed for the browser, by its name; the rules on generated code and lines see more."""

    name = "minified"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        _, name = _split(file.path)
        return f"{name} is the name of minified code" if _MINIFIED_NAME.fullmatch(name) else None


@dataclass(frozen=True)
class MaxLineLength:
    """Lines that a person can read: neither one too long nor all long on average; in prose they may be longer."""

    longest: int
    mean: float
    longest_of_prose: int
    name = "long-lines"
    version = 1

    def check(self, file: SourceFile) -> Objection | None:
        is_prose = file.language in _PROSE_LANGUAGES
        most = self.longest_of_prose if is_prose else self.longest
        lines = file.content.split("\n")
        if (longest := max(map(len, lines))) > most:
            detail = f"a line of {longest} characters, at most {most} are allowed"
            return Objection(detail=detail, evidence={"longest": longest, "most": most})
        mean = (len(file.content) + 1) / len(lines) - 1
        if mean > self.mean and not is_prose:
            detail = f"lines of {mean:.0f} characters on average, at most {self.mean:g} are allowed"
            return Objection(detail=detail, evidence={"mean": round(mean, 1), "most": self.mean})
        return None


@dataclass(frozen=True)
class MinLetters:
    """At least such a share of letters: less is a table of numbers or a drawing."""

    least: float
    name = "few-letters"
    version = 1

    def check(self, file: SourceFile) -> Objection | None:
        share = _letters(file.content) / max(1, len(file.content))
        if share >= self.least:
            return None
        return Objection(
            detail=f"{share:.0%} letters, at least {self.least:.0%} are asked for",
            evidence={"share": round(share, 4), "least": self.least},
        )


def _letters(text: str) -> int:
    data = text.encode()
    others = 0 if len(data) == len(text) else sum(map(str.isalpha, "".join(_NOT_ASCII.findall(text))))
    return len(data) - len(data.translate(None, _ASCII_LETTERS)) + others


@dataclass(frozen=True)
class NoEncodedData:
    """No long runs of base64 (64 characters or more), of hexadecimal bytes or of UTF-16 escapes (8 or more)."""

    longest: int
    share: float
    name = "encoded-data"
    version = 1

    def check(self, file: SourceFile) -> Objection | None:
        lengths = _encoded_runs(file.content.encode("ascii", "replace"))
        longest, share = max(lengths, default=0), sum(lengths) / max(1, len(file.content))
        if longest > self.longest:
            detail = f"{longest} characters of encoded data in one run, at most {self.longest} are allowed"
        elif share > self.share:
            detail = f"{share:.0%} encoded data, at most {self.share:.0%} are allowed"
        else:
            return None
        return Objection(detail=detail, evidence={"longest": longest, "share": round(share, 4)})


def _encoded_runs(text: bytes) -> list[int]:
    """The lengths of all runs of encoded data; what is seldom there is looked for only where it may be."""
    patterns = [(_BARE_BYTES, text.translate(_HEX))]
    if text.count(b"0x") + text.count(b"\\x") >= 8:
        patterns.append((_MARKED_BYTES, text))
    if text.count(b"\\u") >= 8:
        patterns.append((_ESCAPES, text))
    lengths = [match.end() - match.start() for pattern, where in patterns for match in pattern.finditer(where)]
    if _BASE64_RUN in (classes := text.translate(_BASE64)):
        lengths += [len(run) for run in classes.split() if len(run) >= len(_BASE64_RUN)]
    return lengths


@dataclass(frozen=True)
class VisibleText:
    """HTML that shows something: at least 100 characters, and a fifth of the file."""

    name = "visible-text"
    version = 1

    def check(self, file: SourceFile) -> Objection | None:
        if file.language != "HTML":
            return None
        text = _VisibleText()
        with suppress(AssertionError):  # the parser gives up; what it has seen by then counts
            text.feed(file.content)
        share = text.characters / max(1, len(file.content))
        if text.characters >= 100 and share >= 0.2:
            return None
        return Objection(
            detail=f"{text.characters} visible characters, {share:.0%} of the file",
            evidence={"characters": text.characters, "share": round(share, 4)},
        )


class _VisibleText(HTMLParser):
    """Counts the characters between tags, but for those of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = 0
        self._is_hidden = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the parser's signature
        self._is_hidden = tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the parser's signature
        self._is_hidden = False

    def handle_data(self, data: str) -> None:
        self.characters += 0 if self._is_hidden else len(data.strip())

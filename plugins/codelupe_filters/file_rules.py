"""The rules that leave a file of a clone out, from the cheapest to the dearest.

What a path tells comes from enry, GitHub Linguist's detectors. The thresholds are the hard gates of StarCoder2
(Lozhkov and others, 2024, section 2.1) as the defaults of :class:`FiltersSettings`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import enry

from codelupe import FileRule, SourceFile
from codelupe_filters.settings import FiltersSettings

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
_ENCODED = re.compile(
    r"[A-Za-z0-9+/=]{64,}"  # base64
    r"|(?:(?:0x|\\x)[0-9a-fA-F]{2}[\s,;]*){8,}"  # bytes in hexadecimal
    r"|(?:\\u[0-9a-fA-F]{4}){8,}"  # UTF-16 escapes
)


def file_rules(settings: FiltersSettings) -> list[FileRule]:
    """This plugin's rules as the settings want them, in the order in which they are asked."""
    return [
        NoDotFiles(),
        NoTestData(),
        NoMinified(),
        NoVendored(),
        NoDocumentation(),
        NoConfiguration(),
        NoGenerated(),
        MaxLines(settings.max_lines),
        MaxLineLength(settings.max_line_length, settings.max_mean_line_length),
        MinLetters(settings.min_letters),
        NoEncodedData(settings.max_encoded_run, settings.max_encoded_share),
    ]


def labels_of(path: str) -> tuple[str, ...]:
    """What else is worth knowing about a file that is kept: ``test`` if it tests other code."""
    folders, name = _split(path)
    is_test = name == "conftest.py" or not _TEST_FOLDERS.isdisjoint(folders) or enry.is_test(path)
    return ("test",) if is_test else ()


def _split(path: str) -> tuple[list[str], str]:
    """The folders, in lower case, and the file's name."""
    *folders, name = path.split("/")
    return [folder.lower() for folder in folders], name


@dataclass(frozen=True)
class NoDotFiles:
    """Nothing whose name, or whose folder's name, begins with a dot: these are settings of tools."""

    name = "dot-file"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        hidden = next((part for part in file.path.split("/") if part.startswith(".")), None)
        return f"{hidden} begins with a dot" if hidden else None


@dataclass(frozen=True)
class NoTestData:
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
class NoVendored:
    """Code copied from elsewhere is found at its origin."""

    name = "vendored"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        folders, _ = _split(file.path)
        if enry.is_vendor(file.path) or not _VENDOR_FOLDERS.isdisjoint(folders):
            return "its path is one of copied code"
        return None


@dataclass(frozen=True)
class NoDocumentation:
    """Documentation and the examples in it."""

    name = "documentation"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        return "its path is one of documentation or examples" if enry.is_documentation(file.path) else None


@dataclass(frozen=True)
class NoConfiguration:
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
class MaxLines:
    """Not more than so many lines."""

    most: int
    name = "too-many-lines"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        lines = file.content.count("\n") + 1
        return f"{lines} lines, at most {self.most} are allowed" if lines > self.most else None


@dataclass(frozen=True)
class NoMinified:
    """Nothing that was squeezed for the browser, by its name; the rules on generated code and lines see more."""

    name = "minified"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        _, name = _split(file.path)
        return f"{name} is the name of minified code" if _MINIFIED_NAME.fullmatch(name) else None


@dataclass(frozen=True)
class MaxLineLength:
    """Lines that a person can read: neither one too long nor all long on average."""

    longest: int
    mean: float
    name = "long-lines"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        lengths = [len(line) for line in file.content.split("\n")]
        if (longest := max(lengths)) > self.longest:
            return f"a line of {longest} characters, at most {self.longest} are allowed"
        if (mean := sum(lengths) / len(lengths)) > self.mean:
            return f"lines of {mean:.0f} characters on average, at most {self.mean:g} are allowed"
        return None


@dataclass(frozen=True)
class MinLetters:
    """At least such a share of letters: less is a table of numbers or a drawing."""

    least: float
    name = "few-letters"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        share = sum(map(str.isalpha, file.content)) / max(1, len(file.content))
        return f"{share:.0%} letters, at least {self.least:.0%} are asked for" if share < self.least else None


@dataclass(frozen=True)
class NoEncodedData:
    """No long runs of base64 (64 characters or more), of hexadecimal bytes or of UTF-16 escapes (8 or more)."""

    longest: int
    share: float
    name = "encoded-data"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        lengths = [match.end() - match.start() for match in _ENCODED.finditer(file.content)]
        if (longest := max(lengths, default=0)) > self.longest:
            return f"{longest} characters of encoded data in one run, at most {self.longest} are allowed"
        if (share := sum(lengths) / max(1, len(file.content))) > self.share:
            return f"{share:.0%} encoded data, at most {self.share:.0%} are allowed"
        return None

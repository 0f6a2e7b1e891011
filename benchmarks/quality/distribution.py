"""How the scores of real files are distributed: those that the file rules keep, from a list of packages."""

from __future__ import annotations

import hashlib
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import codelupe_filters
from benchmarks.quality.agreement import THRESHOLD
from benchmarks.quality.registries import Package, read
from codelupe import FileRule, SourceFile

PACKAGES = Path(__file__).with_name("packages.toml")
_MOST_OF_ONE = 200
"""Files of one package, chosen by hash: no package decides the distribution."""
_LANGUAGES = {
    ".py": "Python",
    ".go": "Go",
    ".rs": "Rust",
    ".dart": "Dart",
    ".js": "JavaScript",
    ".mjs": "JavaScript",
    ".cjs": "JavaScript",
    ".ts": "TypeScript",
    ".tsx": "TypeScript",
}
_INSTALLED = ("./usr/share/gocode/src/", "./usr/share/cargo/registry/", "package/")
"""Where the registries put what lies at the root of a repository."""
_LICENCE = "MIT"
"""Of every file: licences are not what is measured here."""
_STEP = 10


def load_packages(path: Path = PACKAGES) -> list[Package]:
    """The packages by registry, each as ``name version``."""
    with path.open("rb") as file:
        listed: dict[str, list[str]] = tomllib.load(file)
    return [Package(registry, *line.split()) for registry, lines in listed.items() for line in lines]


def kept_files(archives: Sequence[Path]) -> Iterator[SourceFile]:
    """The source files that the pipeline's file rules keep, each content once."""
    rules = codelupe_filters.codelupe_file_rules(codelupe_filters.codelupe_settings()())
    seen: set[bytes] = set()
    for archive in archives:
        chosen = sorted((_digest(path), path, content) for path, content in read(archive) if _language(path))
        kept = 0
        for _, path, content in chosen:
            file = _as_file(path, content)
            if kept < _MOST_OF_ONE and file is not None and _digest(file.content) not in seen and _passes(file, rules):
                seen.add(_digest(file.content))
                kept += 1
                yield file


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _language(path: str) -> str | None:
    return _LANGUAGES.get(PurePosixPath(path).suffix)


def _as_file(path: str, content: bytes) -> SourceFile | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    for prefix in _INSTALLED:
        path = path.removeprefix(prefix)
    if not text.strip():
        return None
    return SourceFile(path=path, content=text, language=_language(path), licence=_LICENCE)


def _passes(file: SourceFile, rules: Sequence[FileRule]) -> bool:
    return not any(rule.check(file) for rule in rules)


def figures(scores: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """By language and over all: how many files, how many in each ten points, the share at the threshold."""
    by_language: dict[str, list[float]] = defaultdict(list)
    for language, score in scores:
        by_language[language].append(score)
    rows = {language: _row(by_language[language]) for language in sorted(by_language)}
    return rows | {"all": _row([score for _, score in scores])}


def _row(scores: Sequence[float]) -> dict[str, Any]:
    bins = [0] * (100 // _STEP)
    for score in scores:
        bins[min(int(score // _STEP), len(bins) - 1)] += 1
    share = sum(score >= THRESHOLD for score in scores) / max(1, len(scores))
    return {"files": len(scores), "bins": bins, "share_at_threshold": share}


def table(found: dict[str, Any]) -> list[str]:
    """In Markdown: the share of the files in each ten points."""
    heads = [f"{start}+" for start in range(0, 100, _STEP)]
    lines = [f"| language | files | {' | '.join(heads)} | {THRESHOLD} or more |"]
    lines.append("| --- " * (len(heads) + 3) + "|")
    for language, row in found.items():
        cells = [f"{count / max(1, row['files']):.0%}" for count in row["bins"]]
        lines.append(f"| {language} | {row['files']:,} | {' | '.join(cells)} | {row['share_at_threshold']:.0%} |")
    return lines

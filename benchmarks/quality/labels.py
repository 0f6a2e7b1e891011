"""The labelled files: where they are to be had, and what a person called them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.quality.registries import Package, fetch, read
from codelupe import SourceFile

LABELS = Path(__file__).with_name("labels.jsonl")
_AT_ONCE = 4


class ChangedError(Exception):
    """A package does not hold what was labelled."""


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file and what it was called; the rule is in ``docs/explanation/quality-score.md``."""

    registry: Literal["pypi", "npm", "debian"]
    package: str
    version: str
    path: str
    """Within the package."""
    sha256: str
    language: str
    label: Literal["good", "poor"]
    reason: str

    @property
    def is_good(self) -> bool:
        return self.label == "good"

    @property
    def half(self) -> Literal["tuning", "test"]:
        """Curves and weights were chosen by the tuning half alone."""
        return "test" if int(self.sha256, 16) % 2 else "tuning"


@dataclass(frozen=True)
class Labelled:
    label: Label
    file: SourceFile


def load_labels(path: Path = LABELS) -> list[Label]:
    return [msgspec.json.decode(line, type=Label) for line in path.read_text(encoding="utf-8").splitlines()]


def fetch_labelled(labels: Sequence[Label], cache: Path, advance: Callable[[], object]) -> list[Labelled]:
    """The labelled files with their contents; ``advance`` is called after each package.

    Raises:
        FetchError: a package cannot be had.
        ChangedError: one does not hold what was labelled.
    """
    by_package: dict[Package, list[Label]] = defaultdict(list)
    for label in labels:
        by_package[Package(label.registry, label.package, label.version)].append(label)
    found: list[Labelled] = []
    for package, archive in fetch_all(by_package, cache, advance):
        found += _take(by_package[package], dict(read(archive)))
    return found


def fetch_all(packages: Iterable[Package], cache: Path, advance: Callable[[], object]) -> list[tuple[Package, Path]]:
    """Each package's archive, several fetched at once; what is in the cache already is not fetched again.

    Raises:
        FetchError: a package cannot be had; those fetched before remain in the cache.
    """
    archives = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        chosen = sorted(packages)
        for package, archive in zip(chosen, pool.map(lambda one: fetch(one, cache), chosen), strict=True):
            archives.append((package, archive))
            advance()
    return archives


def _take(labels: Sequence[Label], contents: dict[str, bytes]) -> list[Labelled]:
    taken = []
    for label in labels:
        content = contents.get(label.path, b"")
        if hashlib.sha256(content).hexdigest() != label.sha256:
            raise ChangedError(f"{label.package} {label.version}: {label.path} is not the file that was labelled")
        file = SourceFile(path=label.path, content=content.decode(), language=label.language, licence=None)
        taken.append(Labelled(label, file))
    return taken

"""Each step by itself, one file after another in this process: where the CPU time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from benchmarks.files.pipeline import Clone
from codelupe import FileRule, Scorer, SourceFile
from codelupe_filters.contents import content_hash, decode, normalise, read_bytes
from codelupe_filters.file_rules import file_rules, labels_of
from codelupe_filters.judge import detect_language, in_order
from codelupe_filters.licences import Licence, find_licences, licence_of
from codelupe_filters.redaction import load_scanner, redact
from codelupe_filters.refusals import Refusal
from codelupe_filters.settings import FiltersSettings
from codelupe_filters.verdicts import readable_path
from codelupe_filters.walk import walk
from codelupe_scorers import codelupe_scorers
from codelupe_scorers.outline import outline
from codelupe_scorers.settings import ScorersSettings
from codelupe_scorers.shingles import bands, shingles
from codelupe_text.syntax import NotParsed

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Step:
    """What one step took for the files that it saw."""

    name: str
    files: int = 0
    bytes: int = 0
    cpu_seconds: float = 0.0


def measure_steps(tree: Path, clones: Sequence[Clone], folder: Path) -> list[Step]:
    """Every step from walking a clone to a file's score, in the order of the pipeline; nothing is stored."""
    way = _Way(str(folder / "secret-rules"))
    for clone in clones:
        way.take(bytes(tree / clone.path))
    return list(way.steps.values())


class _Way:
    """Takes files through, with a clock at each step."""

    def __init__(self, secrets_cache: str) -> None:
        self._settings = FiltersSettings()
        self._path_rules, self._content_rules = in_order(file_rules(self._settings))
        self._scorers: list[Scorer] = codelupe_scorers(ScorersSettings())
        self._secrets_cache = secrets_cache
        load_scanner(secrets_cache)
        self.steps: dict[str, Step] = {}

    def take(self, root: bytes) -> None:
        listing = self._clock("walk", 0, walk, root, self._settings.max_files)
        self.steps["walk"].files += len(listing.files) - 1
        licences = self._clock("find licences", 0, find_licences, root, [found.path for found in listing.files])
        for found in listing.files:
            with suppress(Refusal):
                self._take_file(root, found.path, licence_of(found.path, licences))

    def _take_file(self, root: bytes, path: bytes, licence: Licence | None) -> None:
        data = self._clock("read and hash", 0, _read, root, path, self._settings.max_file_bytes)
        self.steps["read and hash"].bytes += len(data)
        text = self._clock("decode", len(data), decode, data)
        language = self._clock("language", len(data), detect_language, path, data)
        expression = licence.expression if licence else None
        file = SourceFile(path=readable_path(path), content=text, language=language, licence=expression)
        self._clock("labels", len(data), labels_of, file.path)
        self._clock("rules on paths", len(data), _ask, self._path_rules, file)
        self._clock("secrets", len(data), redact, data, b"key", self._secrets_cache)
        self._clock("rules on contents", len(data), _ask, self._content_rules, file)
        self._score(file, len(data))

    def _score(self, file: SourceFile, size: int) -> None:
        self._clock("parse", size, _parse, file)
        for scorer in self._scorers:
            self._clock(f"score: {scorer.name}", size, scorer.score, file)
        found = self._clock("shingles", size, shingles, file.content)
        if found is not None:
            self._clock("signature", size, bands, found)

    def _clock(self, name: str, size: int, do: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        step = self.steps.setdefault(name, Step(name))
        step.files += 1
        step.bytes += size
        began = time.process_time()
        try:
            return do(*arguments, **options)
        finally:
            step.cpu_seconds += time.process_time() - began


def _read(root: bytes, path: bytes, max_bytes: int) -> bytes:
    data = normalise(read_bytes(root, path, max_bytes))
    content_hash(data)
    return data


def _ask(rules: Sequence[FileRule], file: SourceFile) -> None:
    """As a judge asks: the first objection counts."""
    for rule in rules:
        if objection := rule.check(file):
            raise Refusal(rule.name, objection, rule.version)


def _parse(file: SourceFile) -> None:
    try:
        outline(file)  # the scorers find it in the cache
    except NotParsed:
        return

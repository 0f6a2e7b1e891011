"""Judges files of a clone; everything here runs in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import enry

from codelupe import FileRule, SourceFile
from codelupe_filters.contents import Refusal, content_hash, decode, file_size, normalise, read_bytes
from codelupe_filters.file_rules import labels_of
from codelupe_filters.licences import Licences, licence_of
from codelupe_filters.verdicts import Verdict, readable_path

_MEMBERS = {"TSX": "TypeScript"}
"""Languages of enry that are dialects of another."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What decides about the files of one clone."""

    root: bytes
    languages: frozenset[str]
    """In lower case."""
    max_file_bytes: int
    rules: tuple[FileRule, ...]
    licences: Licences
    """SPDX expressions by folder."""

    def judge(self, path: bytes) -> Verdict:
        """The decision about one file; the first objection counts."""
        verdict = Verdict(path=path, size_bytes=file_size(self.root, path))
        try:
            data = normalise(read_bytes(self.root, path, self.max_file_bytes))
            verdict = replace(verdict, content_hash=content_hash(data))
            text = decode(data)
            verdict = replace(verdict, characters=len(text), language=detect_language(path, data))
            verdict = replace(verdict, licence=licence_of(path, self.licences), labels=labels_of(readable_path(path)))
            self._ask_rules(verdict, text)
        except Refusal as refusal:
            return replace(verdict, rejected_by=refusal.rule, rejected_detail=refusal.detail)
        return verdict

    def _ask_rules(self, verdict: Verdict, text: str) -> None:
        language = verdict.language
        if language is None or language.casefold() not in self.languages:
            raise Refusal("language", f"{language or 'no language that enry knows'} is not wanted")
        file = SourceFile(path=readable_path(verdict.path), content=text, language=language, licence=verdict.licence)
        for rule in self.rules:
            if detail := rule.check(file):
                raise Refusal(rule.name, detail)


def judge_files(judge: Judge, paths: Sequence[bytes]) -> list[Verdict]:
    """The decision about each of these files."""
    return [judge.judge(path) for path in paths]


def detect_language(path: bytes, data: bytes) -> str | None:
    """The language by name and content, as GitHub calls it; dialects go by the name of their language."""
    language = enry.get_language(readable_path(path), data)
    return _MEMBERS.get(language, language) or None

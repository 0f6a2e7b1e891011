"""Judges files of a clone; everything here runs in worker processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import enry

from codelupe import FileRule, Objection, SourceFile
from codelupe_filters.contents import content_hash, decode, normalise, read_bytes
from codelupe_filters.file_rules import ByPath, labels_of, lower
from codelupe_filters.licences import PERMISSIVE, Licences, is_allowed, licence_of
from codelupe_filters.redaction import MaxRedacted, redact
from codelupe_filters.refusals import READING_RULES, VERSION, WALK_RULES, Refusal
from codelupe_filters.verdicts import Verdict, readable_path
from codelupe_filters.walk import Found

_MEMBERS = {"TSX": "TypeScript"}
"""Languages of enry that are dialects of another."""


_CONSIDERED = 50 * 1024
"""How many bytes Linguist looks at, too."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What decides about the files of one clone."""

    root: bytes
    max_file_bytes: int
    licences: Licences
    rules: tuple[FileRule, ...]
    max_redacted: MaxRedacted
    redaction_key: bytes
    secrets_cache: str
    """Folder for the compiled rules of the search for secrets."""

    def judge(self, found: Found) -> Verdict:
        """The decision about one file; the first objection counts.

        Rules on what a path tells are asked first. Secrets are taken out before any other rule sees the content, so
        that no rule can quote one.
        """
        verdict = Verdict(path=found.path, size_bytes=found.size)
        try:
            data = normalise(read_bytes(self.root, found.path, self.max_file_bytes))
            verdict = replace(verdict, content_hash=content_hash(data))
            verdict = self._describe(verdict, data, decode(data))
            path_rules, content_rules = in_order(self.rules)
            _ask(path_rules, verdict, "")
            redacted = redact(data, self.redaction_key, self.secrets_cache)
            text = redacted.content.decode()
            verdict = replace(
                verdict,
                content_hash=content_hash(redacted.content),
                characters=len(text),
                redactions=redacted.counts,
            )
            _raise(self.max_redacted, self.max_redacted.check(redacted))
            _ask(content_rules, verdict, text)
        except Refusal as refusal:
            return replace(verdict, rejection=refusal.rejection)
        return replace(verdict, content=redacted.content)

    def _describe(self, verdict: Verdict, data: bytes, text: str) -> Verdict:
        licence = licence_of(verdict.path, self.licences)
        return replace(
            verdict,
            characters=len(text),
            language=detect_language(verdict.path, data),
            licence=licence,
            is_permissive=licence is not None and is_allowed(licence.expression, lower(PERMISSIVE)),
            labels=labels_of(readable_path(verdict.path)),
        )

    def rule_set(self) -> list[dict[str, Any]]:
        """Every rule in the order in which they are asked: its name, version and settings."""
        gates = [{"name": name, "version": VERSION} for name in WALK_RULES + READING_RULES]
        path_rules, content_rules = in_order(self.rules)
        asked: list[FileRule | MaxRedacted] = [*path_rules, self.max_redacted, *content_rules]
        return [*gates, *map(_describe_rule, asked)]


def judge_file(found: Found, judge: Judge) -> bytes:
    """The decision about a file, as a row for ``processed_files``."""
    return judge.judge(found).as_row()


def in_order(rules: Iterable[FileRule]) -> tuple[list[FileRule], list[FileRule]]:
    """The rules on paths, and those on contents."""
    by_path: list[FileRule] = []
    others: list[FileRule] = []
    for rule in rules:
        (by_path if isinstance(rule, ByPath) else others).append(rule)
    return by_path, others


def _ask(rules: Iterable[FileRule], verdict: Verdict, content: str) -> None:
    file = SourceFile(
        path=readable_path(verdict.path),
        content=content,
        language=verdict.language,
        licence=verdict.licence_name,
    )
    for rule in rules:
        _raise(rule, rule.check(file))


def _raise(rule: FileRule | MaxRedacted, objection: Objection | str | None) -> None:
    if objection:
        raise Refusal(rule.name, objection, rule.version)


def _describe_rule(rule: FileRule | MaxRedacted) -> dict[str, Any]:
    values = {it.name: getattr(rule, it.name) for it in fields(rule)} if is_dataclass(rule) else {}
    settings = {name: value for name, value in values.items() if _is_plain(value)}
    return {"name": rule.name, "version": rule.version, **({"settings": settings} if settings else {})}


def _is_plain(value: object) -> bool:
    plain = str | int | float | bool | None
    return isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(it, plain) for it in value))


def detect_language(path: bytes, data: bytes) -> str | None:
    """The language by name and content, as GitHub calls it; dialects go by the name of their language."""
    language = enry.get_language(readable_path(path), data[:_CONSIDERED])
    return _MEMBERS.get(language, language) or None

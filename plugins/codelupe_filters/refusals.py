"""The reasons for which there is no text to ask the rules about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codelupe import Objection

WALK_RULES = ("too-many-files", "submodule", "symbolic-link", "special-file", "unreadable")
"""What the walk refuses."""
READING_RULES = ("too-large", "binary", "undecodable", "lfs-pointer", "empty")
"""What is refused when a file is read, which the reasons of the walk may be, too."""
VERSION = 1
"""Of all these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Which rule left a file out, and what it saw: in words, and as data fit for JSON."""

    rule: str
    version: int
    detail: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {**self.evidence, "rule": self.rule, "version": self.version, "detail": self.detail}


class Refusal(Exception):
    """A file is left out, and why."""

    def __init__(self, rule: str, objection: Objection | str, version: int = VERSION) -> None:
        seen = Objection(detail=objection) if isinstance(objection, str) else objection
        super().__init__(f"{rule}: {seen.detail}")
        self.rejection = Rejection(rule=rule, version=version, detail=seen.detail, evidence=seen.evidence)

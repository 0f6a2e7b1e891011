"""Files of a repository, and the rules and scorers that judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a clone, decoded."""

    path: str
    """Relative to the clone, with ``/``."""
    content: str
    language: str | None
    licence: str | None


@dataclass(frozen=True, kw_only=True)
class Score:
    """A dimension's value from 0 (poor) to 100 (good), and what it rests on."""

    value: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Objection:
    """Why a rule leaves a file out: in words, and what it saw as data fit for JSON."""

    detail: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class FileRule(Protocol):
    """One reason to leave a file out. It is asked in worker processes, where instances arrive by :mod:`pickle`.

    Its class is therefore found at the top level of a module that can be imported there, and it opens locks, files and
    connections when it first needs them, or leaves them out in ``__getstate__``. What it keeps between two files is its
    own in each process, and may be gone at the next repository. One that cannot be pickled, or that raises, hangs or
    ends its process when it is unpickled, has failed like one that raises: its plugin is named, and it is paused after
    ``quarantine_after`` repositories in a row.

    ``version`` is raised when the rule begins to decide otherwise. Where the rule is a dataclass, those of its fields
    that are numbers, texts, truth values or tuples of these are its settings, and stored with what it decided.
    """

    name: str
    version: int

    def check(self, file: SourceFile) -> Objection | str | None:
        """Why the file is left out, or None to let it pass. Must not raise, whatever the content."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """One dimension of a file's quality. Instances are sent to worker processes: see :class:`FileRule`."""

    name: str
    version: int
    weight: float

    def score(self, file: SourceFile) -> Score | None:
        """The file's score in this dimension, or None where the dimension does not apply."""
        ...

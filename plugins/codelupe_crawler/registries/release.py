"""A package, and its newest release with source, as a registry describes it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, Self

import msgspec
from packaging.utils import canonicalize_name

from codelupe_events import GoneReason

_NAMES = {
    "pypi": re.compile(r"[A-Z0-9](?:[A-Z0-9._-]*[A-Z0-9])?", re.IGNORECASE | re.ASCII),
    "npm": re.compile(r"(?:@[A-Z0-9~][A-Z0-9._~-]*/)?[A-Z0-9_~][A-Z0-9._~-]*", re.IGNORECASE | re.ASCII),
}
_MAX_NAME = 214
_MAX_KEYWORDS, _MAX_KEYWORD = 20, 50
_MAX_LINKS, _MAX_LINK = 50, 500


@dataclass(frozen=True)
class Package:
    """A package by its registry, ``pypi`` or ``npm``, and its name there."""

    registry: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """A package as it is written in settings: ``pypi:flask``, ``npm:@scope/name``.

        Raises:
            ValueError: it is not written like that.
        """
        registry, _, name = text.partition(":")
        if registry not in _NAMES:
            raise ValueError(f"{text!r} does not begin with the registry: write `pypi:` or `npm:` before the name")
        if len(name) > _MAX_NAME or not _NAMES[registry].fullmatch(name):
            raise ValueError(f"{text!r} names no package: {name!r} cannot be a name there")
        return cls(registry, canonicalize_name(name) if registry == "pypi" else name)

    def __str__(self) -> str:
        return f"{self.registry}:{self.name}"

    @property
    def external_id(self) -> str:
        return f"{self.registry}/{self.name}"

    @property
    def client(self) -> str:
        """The program that people use to get it."""
        return {"pypi": "pip"}.get(self.registry, self.registry)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the makers of a release say about it."""

    description: str | None = None
    licence: str | None = None
    keywords: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    """Addresses of its home page and repository."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """The newest release that has source."""

    version: str
    digest: str | None
    """Of its archive, as ``sha256-…``; None where the registry does not say."""
    archive: str
    """Where the registry has it; may hold a secret."""
    created_at: datetime | None = None
    """When the package was first released."""
    published_at: datetime | None = None
    is_archived: bool = False
    about: About | None = None
    """None where only the archive says it."""

    @property
    def revision(self) -> str:
        return f"{self.version}@{self.digest[:19]}" if self.digest else self.version


class Registry(Protocol):
    """Where packages are published, asked as its own client is configured."""

    async def newest(self, name: str) -> Release:
        """The newest release with source.

        Raises:
            Withdrawn: the registry does not give the package out any more.
            NoSource: it has no release with source.
            RegistryLimits: it is asked too often.
            RegistryFailed: it cannot be asked.
        """
        ...

    async def download(self, name: str, release: Release) -> bytes:
        """Its archive, compared with the digest. Raises what :meth:`newest` does."""
        ...


class Withdrawn(Exception):
    """A registry does not give a package out; the text says why, as far as it is known."""

    def __init__(self, detail: str, *, reason: GoneReason = "deleted") -> None:
        super().__init__(detail)
        self.reason = reason


class NoSource(Exception):
    """There is nothing to read in a package; the text says why."""


class RegistryLimits(Exception):
    """A registry wants to be left alone for ``seconds``."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


class RegistryFailed(Exception):
    """A registry or its client cannot be asked; the text names no address that could hold a secret."""


def keywords_of(words: object) -> tuple[str, ...]:
    """Short texts out of what may be anything: in small letters, each once, not too many."""
    if isinstance(words, str):
        words = re.split(r"[,;]" if re.search(r"[,;]", words) else r"\s+", words)
    texts = (" ".join(word.lower().split()) for word in _texts(words))
    return tuple(dict.fromkeys(text for text in texts if 0 < len(text) <= _MAX_KEYWORD))[:_MAX_KEYWORDS]


def links_of(links: object) -> tuple[str, ...]:
    """Addresses out of what may be anything."""
    return tuple(dict.fromkeys(link.strip() for link in _texts(links) if 0 < len(link) <= _MAX_LINK))[:_MAX_LINKS]


def _texts(words: object) -> Iterable[str]:
    return (word for word in words if isinstance(word, str)) if isinstance(words, list | tuple) else ()


def time_of(text: object) -> datetime | None:
    """A time as ISO 8601 writes it, in UTC; None for anything else."""
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
        return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time and time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None

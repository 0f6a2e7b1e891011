"""The repositories that are known: which there are, which one is meant, and all that is known about it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from codelupe import CodelupeError, Database, load_queries

if TYPE_CHECKING:
    from codelupe.commands import Session

SQL = load_queries("codelupe_sql", "repositories")
HISTORY = 50
"""How many of the newest events about a repository are told."""
_PAGE = 5000
_SHOWN = 20
_DESCRIPTION = (
    *(
        "id",
        "source",
        "full_name",
        "url",
        "revision",
        "description",
        "language",
        "licence",
        "stars",
        "forks",
        "watchers",
    ),
    *("size_kib", "topics", "terms", "is_fork", "is_archived", "is_template", "is_mirror", "is_disabled"),
    *("default_branch", "created_at", "pushed_at", "discovered_at", "seen_at"),
)
_OUT = ("gone", "forgotten")


class State(StrEnum):
    """How far repositories have come."""

    DISCOVERED = "discovered"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CLONED = "cloned"
    EMPTY = "empty"
    EXTRACTED = "extracted"
    SCORED = "scored"
    GONE = "gone"
    FORGOTTEN = "forgotten"


class Sort(StrEnum):
    """Orders of repositories."""

    NAME = "name"
    STARS = "stars"
    FORKS = "forks"
    SCORE = "score"
    SIZE = "size"
    PUSHED = "pushed"
    DISCOVERED = "discovered"


class NoSuchRepository(CodelupeError):
    """No repository is called so, or several are and which is meant does not show."""

    code = "no-such-repository"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Those repositories that fit all that is given; without anything, all of them."""

    state: State | None = None
    language: str | None = None
    """Such as ``rust``, or ``unknown``."""
    licence: str | None = None
    """An SPDX expression, or ``unknown``."""
    min_stars: int | None = None
    text: str | None = None
    """In the name, the description or a topic, whatever its case."""

    def as_arguments(self) -> tuple[Any, ...]:
        """As the query takes them."""
        return self.state, self.language, self.licence, self.min_stars, self.text


async def list_repositories(
    database: Database,
    selection: Selection,
    sort: Sort = Sort.NAME,
    *,
    after: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Those selected in this order, page by page, at most ``limit``; after the one with the id ``after``."""
    left = limit
    while left is None or left > 0:
        at_most = _PAGE if left is None else min(left, _PAGE)
        rows = await database.fetch(SQL.list_repositories, *selection.as_arguments(), sort, after, at_most)
        for row in rows:
            yield dict(row)
        if len(rows) < at_most:
            return
        after = rows[-1]["id"]
        left = None if left is None else left - len(rows)


async def find_repository(database: Database, reference: str) -> str:
    """The id of a repository given by its id, its name, its URL, or the last part of its name.

    Of several with one name, the one that can still be had is meant.

    Raises:
        NoSuchRepository: none, or several.
    """
    found = await database.fetch(SQL.repositories_named, reference)
    found = found or await database.fetch(SQL.repositories_like, reference)
    if not found:
        raise await _unknown(database, reference)
    meant = (
        [row for row in found if row["id"] == reference] or [row for row in found if row["state"] not in _OUT] or found
    )
    if len(meant) > 1:
        raise _ambiguous(reference, meant)
    return str(meant[0]["id"])


async def _unknown(database: Database, reference: str) -> NoSuchRepository:
    names = [row["full_name"] for row in await database.fetch(SQL.similar_names, reference)]
    part = slice(None) if "/" in reference else slice(-1, None)
    by_part = {"/".join(name.lower().split("/")[part]): name for name in reversed(names)}
    close = [by_part[match] for match in get_close_matches(reference.lower(), by_part, n=3)]
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return NoSuchRepository(
        f"no repository {reference!r} is known{meant}",
        hint="`codelupe repos list` lists them, and with --json their ids, too.",
    )


def _ambiguous(reference: str, rows: Sequence[asyncpg.Record]) -> NoSuchRepository:
    names = [f"{row['id']}  {row['full_name']}, {row['state']}" for row in rows[:_SHOWN]]
    more = ["…"] if len(rows) > _SHOWN else []
    return NoSuchRepository(
        "\n  ".join([f"several repositories are called {reference!r}:", *names, *more]),
        hint="Give the id of one of them.",
    )


async def read_repository(database: Database, repository_id: str) -> asyncpg.Record:
    """Its row.

    Raises:
        NoSuchRepository: there is none.
    """
    row = await database.fetchrow(SQL.repository, repository_id)
    if row is None:
        raise await _unknown(database, repository_id)
    return row


async def show_repository(session: Session, repository_id: str) -> dict[str, Any]:
    """All that is known about it, what was decided, and what became of it.

    Raises:
        NoSuchRepository: there is none.
    """
    row = await read_repository(session.database, repository_id)
    forgotten = await session.database.fetchrow(SQL.why_forgotten, repository_id)
    return {
        "repository": {"state": row["state"], **{name: row[name] for name in _DESCRIPTION}},
        "verdict": recorded_verdict(row),
        "clone": _clone(row, session.directories.repositories),
        "files": await _count_files(session.database, repository_id),
        "forgotten": forgotten and dict(forgotten),
        "history": await _history(session, repository_id),
    }


def recorded_verdict(row: asyncpg.Record) -> dict[str, Any]:
    """What was last said about it, if anything was, and about which revision."""
    return {
        "verdict": row["verdict"],
        "revision": row["judged_revision"],
        "score": None if row["score"] is None else round(row["score"], 1),
        "reasons": row["reasons"],
    }


def _clone(row: asyncpg.Record, folder: Path) -> dict[str, Any] | None:
    if row["path"] is None:
        return None
    place = folder / row["path"]
    clone = {name: row[name] for name in ("commit", "size_bytes", "cloned_at")}
    return {"path": str(place), "is_there": place.is_dir(), **clone}


async def _count_files(database: Database, repository_id: str) -> dict[str, Any]:
    rows = {row["rejected_by"]: row for row in await database.fetch(SQL.files_of_repository, repository_id)}
    stored = rows.pop(None, None)
    refused = {rule: row["files"] for rule, row in rows.items()}
    return {
        "seen": sum(refused.values()) + (stored["files"] if stored else 0),
        "stored": stored["files"] if stored else 0,
        "scored": stored["scored"] if stored else 0,
        "good": stored["good"] if stored else 0,
        "mean_score": stored and stored["mean_score"],
        "rejected_by": refused,
    }


async def _history(session: Session, repository_id: str) -> list[dict[str, Any]]:
    newest: deque[dict[str, Any]] = deque(maxlen=HISTORY)
    async for event in session.log.read(stream=f"repo/{repository_id}"):
        newest.append(event.as_dict())
    return list(newest)

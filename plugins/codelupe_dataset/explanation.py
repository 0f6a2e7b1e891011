"""Why a file is stored or not, and all that was found out about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from codelupe import CodelupeError, Database
from codelupe_dataset.selection import SQL

SHOWN = 20
"""How many files of the same name, or copies of a file, are listed."""
_LARGEST_ID = 2**63 - 1


class NoSuchFile(CodelupeError):
    """Nothing is known about a file, or about several and which is meant does not show."""

    code = "no-such-file"


async def find_file(database: Database, reference: str) -> int:
    """The id of a file given by its id, ``owner/repo:path``, its path or the end of its path.

    Of a file that was looked at in several commits, the newest is meant.

    Raises:
        NoSuchFile: none, or several different ones.
    """
    if reference.isdecimal() and int(reference) <= _LARGEST_ID and await _read(database, int(reference)) is not None:
        return int(reference)
    path, found = await _files_at(database, reference)
    if not found:
        raise NoSuchFile(f"no file {reference!r} is known", hint="`codelupe files` lists them, with their ids.")
    meant = [row for row in found if row["path"] == path] or found
    if len({(row["repository"], row["path"]) for row in meant}) > 1:
        raise _ambiguous(reference, meant)
    return int(meant[0]["id"])


async def _files_at(database: Database, reference: str) -> tuple[str, list[asyncpg.Record]]:
    """The path that is meant, and the files there, or at paths that end so.

    A colon parts repository and path; a repository's id may hold colons, and so may a path.
    """
    for place in [place for place, character in enumerate(reference) if character == ":"]:
        repositories = await database.fetch(SQL.repositories_named, reference[:place])
        if repositories:
            path, ids = reference[place + 1 :], [row["id"] for row in repositories]
            return path, await database.fetch(SQL.files_at, path, ids, SHOWN + 1)
    return reference, await database.fetch(SQL.files_at, reference, None, SHOWN + 1)


def _ambiguous(reference: str, rows: Sequence[asyncpg.Record]) -> NoSuchFile:
    names = [f"{row['id']}  {row['repository']}:{row['path']} at {row['commit'][:12]}" for row in rows[:SHOWN]]
    more = ["…"] if len(rows) > SHOWN else []
    return NoSuchFile(
        "\n  ".join([f"several files are called {reference!r}:", *names, *more]),
        hint="Give the id of one of them, or owner/repo:path.",
    )


async def explain_file(database: Database, file_id: int) -> dict[str, Any]:
    """Everything that is known about the file and was decided about it.

    Raises:
        NoSuchFile: it is gone.
    """
    file = await _read(database, file_id)
    if file is None:
        raise NoSuchFile(f"no file {file_id} is known", hint="`codelupe files` lists them, with their ids.")
    rules, rejection = file.pop("rules"), file.pop("rejection")
    repository = await database.fetchrow(SQL.repository, file.pop("repository_id"))
    assert repository is not None
    licence = {"licence": file["licence"], "evidence": file.pop("licence_evidence")}
    names = ("score", "scored_at", "scores", "previous_score", "previous_scores")
    score, scored_at, scores, previous, previous_scores = (file.pop(name) for name in names)
    return {
        "file": file,
        "repository": dict(repository),
        "rules": _verdicts(rules or [], file["rejected_by"], rejection),
        "rejection": rejection,
        "licence": licence,
        "redactions": file.pop("redactions"),
        "copies": [dict(row) for row in await database.fetch(SQL.copies_of_file, file_id, SHOWN)],
        "cluster": await _cluster(database, file_id, file.pop("cluster"), survives=file.pop("is_survivor")),
        "score": {"total": score, "scored_at": scored_at, "dimensions": scores or {}},
        "previous_score": {"total": previous, "dimensions": previous_scores} if previous_scores else None,
        "batches": [dict(row) for row in await database.fetch(SQL.batches_of_file, file_id)],
    }


async def _read(database: Database, file_id: int) -> dict[str, Any] | None:
    row = await database.fetchrow(SQL.file, file_id)
    return None if row is None else dict(row)


def _verdicts(
    rules: Sequence[Mapping[str, Any]], rejected_by: str | None, rejection: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Each rule in the order in which they are asked: the first that objects is the last that is asked."""
    names = [rule["name"] for rule in rules]
    refused_at = names.index(rejected_by) if rejected_by in names else len(names)
    verdicts: list[dict[str, Any]] = []
    for place, rule in enumerate(rules):
        verdict = "passed" if place < refused_at else "refused" if place == refused_at else "not asked"
        verdicts.append(
            {
                "rule": rule["name"],
                "version": rule["version"],
                "settings": rule.get("settings", {}),
                "verdict": verdict,
                "evidence": dict(rejection or {}) if place == refused_at else {},
            }
        )
    return verdicts


async def _cluster(database: Database, file_id: int, cluster: int | None, *, survives: bool) -> dict[str, Any] | None:
    if cluster is None:
        return None
    files = [dict(row) for row in await database.fetch(SQL.cluster_files, cluster, file_id, SHOWN)]
    survivor = next((file for file in files if file["is_survivor"]), None)
    return {"id": cluster, "is_survivor": survives, "survivor": survivor, "files": files}

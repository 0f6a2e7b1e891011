"""Repositories and files put straight into the tables, for tests of what is asked about them."""

from __future__ import annotations

from typing import Any

import xxhash

from codelupe import Database

SCORES = {
    "structure": {"value": 90.0, "weight": 2.0, "version": 1, "reasons": ["no syntax error"]},
    "repetition": {"value": 60.0, "weight": 1.0, "version": 1, "reasons": ["3 repeated lines"]},
}


async def add_repository(database: Database, name: str = "owner/repo", **values: Any) -> str:
    """A scored repository of the source ``test``; returns its id."""
    columns = {
        "id": f"test:{name}",
        "source": "test",
        "full_name": name,
        "url": f"https://host/{name}",
        "revision": "1",
        "state": "scored",
        "reasons": [],
    } | values
    await _insert(database, "repositories", columns)
    return str(columns["id"])


async def add_file(database: Database, repository_id: str, path: str, **values: Any) -> int:
    """A stored file with its scores, or a refused one if ``rejected_by`` is given; returns its id."""
    content = values.get("content", f"# {repository_id} {path}\n")
    columns: dict[str, Any] = {
        "repository_id": repository_id,
        "commit": "c" * 40,
        "file_path": path,
        "language": "Python",
        "licence": "MIT",
        "content": content,
        "content_hash": xxhash.xxh3_128_digest(content.encode()),
        "size_bytes": len(content),
        "characters": len(content),
        "quality_score": 80.0,
        "scores": SCORES,
    }
    if "rejected_by" in values:
        columns |= {"content": None, "quality_score": None, "scores": None}
        columns["rejection"] = {"rule": values["rejected_by"], "version": 1, "detail": "said no"}
    return int(await _insert(database, "processed_files", columns | values))


async def add_batch(database: Database, files: list[int], model: str | None = None, state: str = "promoted") -> int:
    """A frozen batch of these files, the first of which is for validation, and the model trained on it."""
    counts = await database.fetchrow(
        "select count(*) as files, sum(characters) as characters, count(distinct repository_id) as repositories"
        " from processed_files where id = any($1)",
        files,
    )
    batch = await _insert(database, "batches", {**dict(counts or {}), "min_score": 70.0})
    for number, file in enumerate(files):
        split = "train" if number else "validation"
        await _insert(
            database, "batch_files", {"file_id": file, "batch_id": batch, "split": split}, returning="batch_id"
        )
    if model is not None:
        await _insert(database, "models", {"id": model, "batch_id": batch, "base": "base", "state": state})
    return int(batch)


async def add_evaluation_set(database: Database, files: list[int], part: str = "decides") -> int:
    """The next set, with the whole of each file as a window, and their repositories held out; returns its version."""
    version = int(await database.fetchval("select coalesce(max(version), 0) + 1 from evaluation_sets"))
    rows = await database.fetch("select * from processed_files where id = any($1) order by id", files)
    groups = {row["repository_id"] for row in rows}
    columns = {"version": version, "groups": len(groups), "windows": len(rows), "hash": "0" * 64, "settings": {}}
    await _insert(database, "evaluation_sets", columns, returning="version")
    for repository in groups:
        await database.execute(
            "insert into repository_groups values ($1, $1, true)"
            " on conflict (repository_id) do update set is_held_out = true",
            repository,
        )
    for number, row in enumerate(rows):
        window = {name: row[name] for name in ("content_hash", "repository_id", "language")}
        window |= {"version": version, "number": number, "file_id": row["id"], "group_id": row["repository_id"]}
        window |= {"first_byte": 0, "end_byte": len(row["content"].encode()), "text_hash": row["content_hash"]}
        await _insert(database, "evaluation_windows", {**window, "part": part}, returning="version")
    return version


async def _insert(database: Database, table: str, columns: dict[str, Any], returning: str = "id") -> Any:
    names = ", ".join(f'"{name}"' for name in columns)
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    return await database.fetchval(
        f"insert into {table} ({names}) values ({places}) returning {returning}", *columns.values()
    )

"""From a model back to all that it was made of, and from an event back to what caused it."""

from __future__ import annotations

from typing import Any

from codelupe.log import EventLog, Recorded
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries

_SQL = load_queries("codelupe_sql", "status")


async def trace_model(database: Database, log: EventLog, model_id: str) -> dict[str, Any] | None:
    """The model, its events, its batch, and every repository of it with commit, licence and files; None if unknown."""
    model = await database.fetchrow(_SQL.model, model_id)
    if model is None:
        return None
    batch = await database.fetchrow(_SQL.batch, model["batch"])
    return {
        "model": dict(model),
        "batch": dict(batch) if batch else None,
        "events": [event.as_dict() async for event in log.read(stream=f"batch/{model['batch']}")],
        "repositories": await _repositories(database, log, model["batch"]),
    }


async def trace_event(log: EventLog, event: Recorded) -> list[dict[str, Any]]:
    """The event and, one after another, the events that caused it."""
    chain = [event.as_dict()]
    while cause := event.metadata.get("caused_by"):
        found = await log.find(cause)
        if found is None:
            break
        event = found
        chain.append(event.as_dict())
    return chain


async def _repositories(database: Database, log: EventLog, batch_id: int) -> list[dict[str, Any]]:
    files: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in await database.fetch(_SQL.batch_file_list, batch_id):
        file = dict(row)
        files.setdefault((file.pop("repository_id"), file.pop("commit")), []).append(file)
    return [
        {
            **{name: row[name] for name in ("id", "full_name", "url", "licence", "commit")},
            "events": [event.as_dict() async for event in log.read(stream=f"repo/{row['id']}")],
            "files": files[row["id"], row["commit"]],
        }
        for row in await database.fetch(_SQL.batch_repositories, batch_id)
    ]

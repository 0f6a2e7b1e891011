"""What there is of batches and models, as data: for the status, the list of models, and the way back from a model."""

from __future__ import annotations

from collections import Counter
from typing import Any

from codelupe import Database, EventLog, Metric, StatusSection, Table, listing, load_queries
from codelupe_trainer.progress_views import progress_metrics, progress_tables

_SQL = load_queries("codelupe_sql", "trainer")


async def read_batches(database: Database) -> list[dict[str, Any]]:
    """Every batch with its size and its model, oldest first."""
    return [dict(row) for row in await database.fetch(_SQL.batches)]


async def read_models(database: Database) -> list[dict[str, Any]]:
    """Every model with its state, base, batch and losses, oldest first."""
    return [dict(row) for row in await database.fetch(_SQL.models)]


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


def status_sections() -> list[StatusSection]:
    """Batches and models."""
    return [
        StatusSection(
            name="training",
            read=read_training,
            counts=_count_trainings,
            tables=_training_tables,
            metrics=_training_metrics,
        ),
        StatusSection(name="batches", read=read_batches, counts=_count_batches),
        StatusSection(name="models", read=read_models, counts=_count_models, tables=_tables),
    ]


async def read_training(database: Database) -> dict[str, Any]:
    """How far training has come: what the seed's ``/health`` and ``/metrics`` tell, and ``progress``, which is None
    unless a training goes on.
    """
    totals, newest = await database.fetchrow(_SQL.training_totals), await database.fetchrow(_SQL.newest_model)
    under_way = await database.fetchrow(_SQL.training_under_way)
    assert totals is not None
    return {
        "status": newest["state"] if newest else "no model yet",
        "model_loaded": await database.fetchval(_SQL.promoted_model),
        "state": dict(totals),
        "train_metrics": newest["losses"] if newest else {},
        "config": {**newest["settings"], "base": newest["base"], "parent": newest["parent"]} if newest else {},
        "progress": {"model": under_way["model"], **under_way["progress"]} if under_way else None,
    }


def _count_trainings(training: dict[str, Any]) -> list[tuple[str, int, str]]:
    state = training["state"]
    in_use = training["model_loaded"] or "no model yet"
    return [("trainings", state["total_training_runs"], f"{state['total_samples_trained']:,} files; in use: {in_use}")]


def _training_metrics(training: dict[str, Any]) -> list[Metric]:
    state = training["state"]
    return [
        Metric(
            name="runs_total",
            meaning="Trainings that were completed.",
            samples=[({}, state["total_training_runs"])],
            is_counter=True,
        ),
        Metric(
            name="samples_total",
            meaning="Files that completed trainings have learned from.",
            samples=[({}, state["total_samples_trained"])],
            is_counter=True,
        ),
        Metric(
            name="loss",
            meaning="Losses of the newest model, in nats per learned token.",
            samples=[({"of": name}, loss) for name, loss in training["train_metrics"].items()],
        ),
        *progress_metrics(training["progress"]),
    ]


def _training_tables(training: dict[str, Any]) -> list[Table]:
    return progress_tables(training["progress"]) if training["progress"] else []


def _count_batches(batches: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [("batches", len(batches), f"{sum(batch['files'] for batch in batches):,} files")]


def _count_models(models: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    states = Counter(model["state"] for model in models)
    return [("models", len(models), listing(dict(sorted(states.items()))))]


def _tables(models: list[dict[str, Any]]) -> list[Table]:
    columns = ("model", "state", "batch", "steps", "train", "validation", "held out: in use", "this one")
    rows = [
        (
            model["id"],
            model["state"],
            model["batch"],
            model["steps"],
            *(model["losses"].get(name) for name in ("train", "validation")),
            *(model["metrics"].get(role, {}).get("plain") for role in ("current", "candidate")),
        )
        for model in models
    ]
    title = "models (losses in nats per token; held-out code in bits per byte)"
    return [Table(title=title, columns=columns, rows=rows)] if rows else []

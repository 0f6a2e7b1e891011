"""The models in the database, and their folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codelupe import CodelupeError, Database, load_queries
from codelupe_trainer.model_folder import CARD, UnreadableRecord, read_record
from codelupe_trainer.records import ModelRecord

SQL = load_queries("codelupe_sql", "models")
_TRAINER = load_queries("codelupe_sql", "trainer")
_NOT_TRAINED = {"training": "is still being trained", "failed": "could not be trained"}


class UnknownModel(CodelupeError):
    """There is no model of this name."""

    code = "unknown-model"


class UnusableModel(CodelupeError):
    """The model was never trained, or its folder is gone."""

    code = "unusable-model"


class UnknownRepository(CodelupeError):
    """No repository has this id, name or address."""

    code = "unknown-repository"


async def find_model(database: Database, name: str) -> dict[str, Any]:
    """The model's row.

    Raises:
        UnknownModel: there is none.
    """
    row = await database.fetchrow(_TRAINER.model, name)
    if row is None:
        raise UnknownModel(f"there is no model {name!r}", hint="`codelupe models list` names those that there are.")
    return dict(row)


def folder_of(model: Mapping[str, Any], models: Path) -> Path:
    """Where the model lies.

    Raises:
        UnusableModel: it was never trained, or its folder is gone.
    """
    hint = "`codelupe models list` shows the models and how far they are."
    if model["path"] is None or model["state"] in _NOT_TRAINED:
        raise UnusableModel(f"{model['id']} {_NOT_TRAINED.get(model['state'], 'was never trained')}", hint=hint)
    folder = models / str(model["path"])
    if not folder.is_dir():
        raise UnusableModel(
            f"{model['id']} cannot be used: its folder {folder} is gone", hint="Bring it back from a backup, or " + hint
        )
    return folder


def record_of(folder: Path) -> ModelRecord | None:
    """What the folder says about its model; None if it says nothing.

    Raises:
        UnusableModel: it cannot be understood.
    """
    try:
        return read_record(folder)
    except UnreadableRecord as error:
        raise UnusableModel(
            str(error), hint="Use the version that wrote it, or bring it back from a backup."
        ) from error


async def describe_model(database: Database, models: Path, name: str) -> dict[str, Any]:
    """All that is known of a model: its row, what its batch is made of, what its folder records, its card.

    Raises:
        UnknownModel: there is none of this name.
        UnusableModel: its record cannot be read.
    """
    model = await find_model(database, name)
    contents = await database.fetch(SQL.batch_contents, model["batch"])
    folder = models / model["path"] if model["path"] else None
    record = record_of(folder) if folder else None
    return {
        **model,
        "folder": folder,
        "languages": _sums(contents, "language"),
        "licences": _sums(contents, "licence"),
        "record": record.model_dump(mode="json") if record else None,
        "card": (folder / CARD).read_text(encoding="utf-8") if folder and (folder / CARD).exists() else None,
    }


async def compare_models(database: Database, names: tuple[str, str]) -> dict[str, Any]:
    """Both models, and each figure that is known of either.

    Raises:
        UnknownModel: there is none of one of the names.
    """
    one, other = [await find_model(database, name) for name in names]
    figures, others = _figures(one), _figures(other)
    return {
        "models": [one, other],
        "figures": {name: [figures.get(name), others.get(name)] for name in dict.fromkeys([*figures, *others])},
    }


async def affected_by(database: Database, repository: str) -> dict[str, Any]:
    """The repositories of this id, name or address, forgotten ones too, and the models that they had a part in.

    Raises:
        UnknownRepository: there is none.
    """
    repositories = [dict(row) for row in await database.fetch(SQL.repositories_named, repository)]
    if not repositories:
        raise UnknownRepository(
            f"there is no repository {repository!r}",
            hint="Give its id, owner/repo or its URL; `codelupe search` finds some.",
        )
    rows = await database.fetch(SQL.affected_models, [one["id"] for one in repositories])
    return {"repositories": repositories, "models": [dict(row) for row in rows]}


def _sums(rows: list[Any], column: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in rows:
        sums[row[column]] = sums.get(row[column], 0) + row["files"]
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _figures(model: Mapping[str, Any]) -> dict[str, float]:
    """Steps and samples, the losses in training, and what the gate measured of it."""
    losses = {name: value for name, value in model["losses"].items() if name in {"train", "validation"}}
    return flat_figures(
        {
            "steps": model["steps"],
            "samples": model["samples"],
            **{f"{name} loss": value for name, value in losses.items()},
            **(model["metrics"].get("candidate") or {}),
        }
    )


def flat_figures(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers in there by name; those within others as ``outer.inner``."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_figures(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[prefix + name] = value
    return flat

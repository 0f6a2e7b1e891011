"""Puts a model in use by hand: a fact in the log like the gate's own, and the links follow at once."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from codelupe import CodelupeError, Entry, EventLog, Reject, load_queries
from codelupe_events import ModelPromoted
from codelupe_trainer.current import put_newest_in_use
from codelupe_trainer.models.known import UnusableModel, find_model, flat_figures, folder_of

SQL = load_queries("codelupe_sql", "models")


class NothingToRollBackTo(CodelupeError):
    """No other model was in use before that could be again."""

    code = "nothing-to-roll-back-to"


async def promote(log: EventLog, models: Path, name: str) -> str:
    """Record the promotion and move the links; returns the name of the model that is in use then.

    Between the two another promotion may come, and it is the newer one that counts. If this process dies there, the
    daemon moves the links.

    Raises:
        UnknownModel, UnusableModel: it cannot be used.
    """
    model = await find_model(log.database, name)
    folder_of(model, models)
    metrics = {name: flat_figures(values) for name, values in model["metrics"].items()}
    event = ModelPromoted(batch_id=model["batch"], model_id=model["id"], metrics=metrics)
    [appended] = await log.publish_all([Entry(event=event, metadata={"by": getpass.getuser()})])
    assert appended.position is not None
    try:
        async with log.database.transaction() as connection:
            return await put_newest_in_use(connection, models, appended.position)
    except Reject as error:
        raise UnusableModel(str(error)) from error


async def previous_model(log: EventLog, models: Path) -> tuple[str, str]:
    """The model in use, and the one on the same base that was before it and is still there.

    Raises:
        NothingToRollBackTo: there is none.
    """
    hint = "`codelupe models list` names all models, `codelupe models promote MODEL` puts any in use."
    rows = [dict(row) for row in await log.database.fetch(SQL.models_in_use)]
    if not rows:
        raise NothingToRollBackTo("no model is in use, so there is none to go back to", hint=hint)
    in_use, *earlier = rows
    for model in earlier:
        if model["base"] == in_use["base"] and _is_there(model, models):
            return in_use["id"], model["id"]
    gone = [model["id"] for model in earlier if model["base"] == in_use["base"]]
    which = f" ({', '.join(gone)} were, and their folders are gone)" if gone else ""
    raise NothingToRollBackTo(f"no other model on {in_use['base']} was in use before {in_use['id']}{which}", hint=hint)


def _is_there(model: dict[str, Any], models: Path) -> bool:
    return model["path"] is not None and (models / model["path"]).is_dir()

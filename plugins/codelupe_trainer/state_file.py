"""The seed's state file, for what reads it from outside: how far training has come."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
import msgspec

from codelupe import HandlerContext, load_queries, write_file
from codelupe_events import TrainingCompleted

SQL = load_queries("codelupe_sql", "trainer")
STATE_FILE = "trainer_state_qwen.json"
"""Beside the models. Nothing of CodeLupe's reads it."""


async def write_state(_event: TrainingCompleted, context: HandlerContext) -> None:
    """Write what all completed trainings come to; the same whichever of them this is."""
    row = await context.database.fetchrow(SQL.training_totals)
    assert row is not None
    text = msgspec.json.format(msgspec.json.encode(dict(row))).decode()
    await anyio.to_thread.run_sync(partial(write_file, context.directories.models / STATE_FILE, text))

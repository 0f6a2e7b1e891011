"""Freezes evaluation sets, and keeps files that have lines of the newest one out of batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio.to_thread
import asyncpg

from codelupe import Connection, JobContext, load_queries
from codelupe_events import EvaluationSetFrozen
from codelupe_text.shared_runs import RUN_WORDS, Index, Problem
from codelupe_trainer.gate.windows import Candidate, Part, Window, cut_window, divide, fingerprint
from codelupe_trainer.settings import TrainerSettings

SQL = load_queries("codelupe_sql", "evaluation")
_AT_A_TIME = 500
_GROWTH = 1.2
"""A new version comes when there are so many times as many groups as can be measured on in the one before."""


class EvaluationSets:
    """Holds groups of repositories out, and freezes what models are compared on.

    Only the job that freezes batches uses it, so nothing is learned from between a check and what follows from it.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings
        self._limits = (settings.min_score, settings.min_characters, settings.max_characters)
        self._in_vain: tuple[int, int] | None = None
        """Groups and batches when a set was drawn last and there was too little for one."""

    async def prepare(self, context: JobContext) -> None:
        """Settle which groups are held out, freeze a set if one is due, and compare fresh files with the newest.

        To settle groups reads all copies, so it is left where nothing could come of it.
        """
        if not await context.database.fetchval(SQL.is_anything_due, *self._limits, self._settings.min_files):
            return
        await context.database.execute(SQL.settle_groups, self._settings.held_out_share)
        held_out = await context.database.fetchrow(SQL.count_held_out, *self._limits)
        assert held_out is not None
        if self._is_due(held_out):
            await self._freeze(held_out, context)
        await self._check_fresh_files(context)

    def _is_due(self, held_out: asyncpg.Record) -> bool:
        if self._in_vain == (held_out["groups"], held_out["batches"]):
            return False
        least = _GROWTH * held_out["measurable"] if held_out["version"] is not None else 1
        return bool(held_out["groups"] >= max(1, least))

    async def _freeze(self, held_out: asyncpg.Record, context: JobContext) -> None:
        windows = await self._draw_windows(context)
        parts = divide(windows, self._settings.seed)
        deciding = [window for window in windows if parts[window.file.group_id] == "decides"]
        groups = {window.file.group_id for window in deciding}
        gate = self._settings.gate
        is_enough = len(groups) >= gate.min_groups and len(deciding) >= gate.min_windows
        if not is_enough or len(parts) < _GROWTH * held_out["measurable"]:
            self._in_vain = (held_out["groups"], held_out["batches"])
            context.log.info("evaluation_set_waits", groups=len(groups), windows=len(deciding))
            return
        async with context.transaction() as connection:
            event = await self._store(connection, windows, parts)
            context.emit(event, key=str(event.evaluation_set))
        context.log.info(
            "evaluation_set_frozen", version=event.evaluation_set, groups=event.groups, windows=event.windows
        )

    async def _draw_windows(self, context: JobContext) -> list[Window]:
        """One of each held-out file, but for those that share lines with what was learned from."""
        settings, gate = self._settings, self._settings.gate
        rows = await context.database.fetch(SQL.held_out_files, *self._limits, gate.max_files, gate.young_since)
        cut = [cut_window(_candidate(row), gate.window_bytes, settings.seed) for row in rows]
        windows = [window for window in cut if window is not None]
        fresh = {str(window.file.file_id): window for window in windows if window.file.known is None}
        learned = await self._learned_from(fresh, context) if fresh else set()
        return [window for window in windows if str(window.file.file_id) not in learned]

    async def _learned_from(self, windows: dict[str, Window], context: JobContext) -> set[str]:
        """Which of these share lines with a file of any batch."""
        index = await _index((name, window.text) for name, window in windows.items())
        found = set[str]()
        after = 0
        while rows := await context.database.fetch(SQL.learned_files, after, _AT_A_TIME):
            after = rows[-1]["id"]
            shared = await anyio.to_thread.run_sync(_find, index, [row["content"] for row in rows])
            found.update(*shared)
        return found

    async def _store(
        self, connection: Connection, windows: Sequence[Window], parts: dict[str, Part]
    ) -> EvaluationSetFrozen:
        hash_ = fingerprint(windows, parts)
        version = await connection.fetchval(SQL.add_set, len(parts), len(windows), hash_, self._how_drawn())
        rows = [
            (
                *(
                    one.file.file_id,
                    one.file.content_hash,
                    one.file.repository_id,
                    one.file.group_id,
                    one.file.language,
                ),
                *(one.first_byte, one.end_byte, one.text_hash, parts[one.file.group_id], one.file.is_young),
            )
            for one in windows
        ]
        await connection.execute(SQL.add_windows, version, *map(list, zip(*rows, strict=True)))
        return EvaluationSetFrozen(evaluation_set=version, groups=len(parts), windows=len(windows), hash=hash_)

    def _how_drawn(self) -> dict[str, object]:
        own = {"min_score", "min_characters", "max_characters", "held_out_share", "seed"}
        gate = {"max_files", "window_bytes", "young_since"}
        named = self._settings.model_dump(mode="json", include=own)
        return named | self._settings.gate.model_dump(mode="json", include=gate) | {"run_words": RUN_WORDS}

    # --- what shares lines with it ---

    async def _check_fresh_files(self, context: JobContext) -> None:
        """Compare all that a batch could have with the newest set, each file once for each version."""
        version = await context.database.fetchval(SQL.newest_version)
        if version is None:
            return
        index: Index | None = None
        sharing = 0
        while rows := await context.database.fetch(SQL.unchecked_files, *self._limits, version, _AT_A_TIME):
            index = await self._index_of(version, context) if index is None else index
            shared = await anyio.to_thread.run_sync(_find, index, [row["content"] for row in rows])
            numbers = [min(map(int, names), default=None) for names in shared]
            await context.database.execute(SQL.record_checks, version, [row["id"] for row in rows], numbers)
            sharing += sum(number is not None for number in numbers)
        if sharing:
            context.log.info("files_share_lines_with_evaluation_set", files=sharing, version=version)

    async def _index_of(self, version: int, context: JobContext) -> Index:
        texts = await context.database.fetch(SQL.window_texts, version)
        return await _index((str(row["number"]), row["text"]) for row in texts)


def _candidate(row: asyncpg.Record) -> Candidate:
    names = ("repository_id", "group_id", "language", "content", "content_hash", "is_young", "part")
    known = None if row["first_byte"] is None else (row["first_byte"], row["end_byte"])
    return Candidate(file_id=row["id"], known=known, **{name: row[name] for name in names})


async def _index(texts: Iterable[tuple[str, str]]) -> Index:
    problems = [Problem(id=name, texts=(text,)) for name, text in texts]
    return await anyio.to_thread.run_sync(Index, problems)


def _find(index: Index, texts: Sequence[str]) -> list[frozenset[str]]:
    return [index.problems_in(text) for text in texts]

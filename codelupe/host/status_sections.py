"""What a plugin adds to ``codelupe status``."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import islice
from numbers import Number
from typing import Any, TypeVar

import anyio
import msgspec

from codelupe.contracts.boundary import ContributionFailed, Part
from codelupe.host.failure import describe
from codelupe.host.isolation import OneAtATime, late, result_within
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from codelupe.postgres.retry import is_unavailable
from codelupe.postgres.search_path import inside_schema
from codelupe.postgres.slots import borrowed_by

T = TypeVar("T")

_SQL = load_queries("codelupe_sql", "database")

SECTION_SECONDS = 10.0
"""How long a section may take to read, and then to make its lines, and its tables."""
_CLOSE_SECONDS = 2.0
SECTION_CONNECTIONS = 2
_DATA = "its data"
_MOST_ROWS = 10_000
_LONGEST_FAULT = 500
_METRIC_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PYTHONS_OWN = {type(None), bool, str, float, Decimal}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under a title; a cell may be a text, a number or None."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Figures for Prometheus, which knows them as ``codelupe_<section>_<name>``.

    All samples have the same labels. A counter grows, and begins again at 0; any other figure may move as it likes.
    """

    name: str
    meaning: str
    samples: Sequence[tuple[Mapping[str, str], float]]
    is_counter: bool = False


@dataclass(frozen=True, kw_only=True)
class StatusSection:
    """What came of a plugin's work.

    ``read`` returns data fit for JSON, which ``status --json`` shows under ``name``. From it ``counts`` makes lines of
    the summary, each with a name, how many, and of which kinds; ``tables`` makes tables that follow, of 10,000 rows at
    most; ``metrics`` makes figures for Prometheus, for which ``read`` is called every 15 seconds. The names
    ``subscriptions``, ``jobs`` and ``paused`` are the host's.

    Each of the four is called in a thread of its own and may take 10 seconds; one that has not ended is not called
    again until it has. ``read`` is given two connections of its own, which look for tables in the plugin's schema
    first. Of one that fails, takes longer or returns something else, ``status`` says in a line which plugin's it is and
    why, ``status --json`` has ``{"plugin", "section", "error"}`` in its place, and the rest is shown. A database that
    is away for the command itself, too, is no failure of the section's: it ends the command.
    """

    name: str
    read: Callable[[Database], Awaitable[Any]]
    counts: Callable[[Any], Sequence[tuple[str, int, str]]]
    tables: Callable[[Any], Sequence[Table]] | None = None
    metrics: Callable[[Any], Sequence[Metric]] | None = None


def listing(counts: dict[str, int]) -> str:
    """For example ``1,203 accepted, 17 rejected``."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def guard_status_section(plugin: str, section: StatusSection, schema: str | None) -> StatusSection:
    """The section with a boundary around its functions, whose statements find their tables in the schema first.

    They raise :class:`ContributionFailed`, whatever they do; but ``read`` lets pass that the database is away.

    Raises:
        TypeError: the name is no printable text, or a function cannot be called.
    """
    name: Any = section.name
    if not isinstance(name, str) or not str.isprintable(name) or not str.strip(name):
        raise TypeError(f"offers a status section with the name {name!r} where a printable text belongs")
    name = _plain(name)
    tables = _none if section.tables is None else section.tables
    metrics = _none if section.metrics is None else section.metrics
    for function in (section.read, section.counts, tables, metrics):
        if not callable(function):
            raise TypeError(f"offers the status section {name!r} with {function!r}, which cannot be called")
    part = Part(plugin, "status section", name)
    guarded = _Guarded(part, section.read, section.counts, tables, metrics, schema)
    return StatusSection(
        name=name,
        read=guarded.read,
        counts=guarded.counts,
        tables=guarded.tables,
        metrics=None if section.metrics is None else guarded.metrics,
    )


@dataclass(frozen=True)
class _Guarded:
    """Plugin code that may block, or swallow its cancellation: a thread of its own can be left behind."""

    part: Part
    inner_read: Callable[[Database], Awaitable[Any]]
    inner_counts: Callable[[Any], Iterable[Any]]
    inner_tables: Callable[[Any], Iterable[Any]]
    inner_metrics: Callable[[Any], Iterable[Any]]
    schema: str | None
    threads: defaultdict[str, OneAtATime] = field(default_factory=partial(defaultdict, OneAtATime))

    async def read(self, database: Database) -> Any:
        reading = self._begin(_DATA, partial(self._read, database.url))
        try:
            with anyio.move_on_after(SECTION_SECONDS + _CLOSE_SECONDS):
                return await asyncio.wrap_future(reading)
        except Exception as error:
            if not is_unavailable(error):
                raise
            await database.fetchval(_SQL.server_version)  # raises if it is no fault of the section's
            raise self._failed(_DATA, error) from error
        raise self._failed(_DATA, late(SECTION_SECONDS))

    def counts(self, data: Any) -> list[tuple[str, int, str]]:
        return self._in_time("its lines", lambda: _lines(self.inner_counts(data)))

    def tables(self, data: Any) -> list[Table]:
        return self._in_time("its tables", lambda: _tables(self.inner_tables(data)))

    def metrics(self, data: Any) -> list[Metric]:
        return self._in_time("its metrics", lambda: _metrics(self.inner_metrics(data)))

    def _read(self, url: str) -> Any:
        async def read() -> Any:
            patience = SECTION_SECONDS / 2
            async with Database(url, connections=SECTION_CONNECTIONS, lent=True, answer_within=patience) as database:
                with (
                    borrowed_by(self.part.full_name),
                    inside_schema(self.schema),
                    anyio.move_on_after(SECTION_SECONDS),
                ):
                    return await self.inner_read(database)
            raise late(SECTION_SECONDS)

        data = anyio.run(read)
        msgspec.json.encode(data)
        return data

    def _in_time(self, subject: str, action: Callable[[], T]) -> T:
        making = self._begin(subject, action)
        try:
            return result_within(SECTION_SECONDS, making)
        except TimeoutError as error:
            raise self._failed(subject, error) from error

    def _begin(self, subject: str, action: Callable[[], T]) -> Future[T]:
        try:
            return self.threads[subject].begin(partial(self._called, subject, action))
        except TimeoutError as error:
            raise self._failed(subject, error) from error

    def _called(self, subject: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except BaseException as error:
            if subject == _DATA and is_unavailable(error):  # lines and tables are made without the database
                raise
            raise self._failed(subject, error) from error

    def _failed(self, subject: str, error: BaseException) -> ContributionFailed:
        return ContributionFailed(self.part, subject, " ".join(describe(error).split())[:_LONGEST_FAULT])


def _none(_: Any) -> Sequence[Any]:
    return ()


def _lines(answer: Iterable[Any]) -> list[tuple[str, int, str]]:
    return [_line(each) for each in _taken(answer)]


def _line(answer: Any) -> tuple[str, int, str]:
    match answer:
        case (str(name), int(count), str(kinds)):
            return _plain(name), _plain(count), _plain(kinds)
        case _:
            raise TypeError(f"it answered {answer!r} where a name, a whole number and a text belong")


def _tables(answer: Iterable[Any]) -> list[Table]:
    return [_table(each) for each in _taken(answer)]


def _table(answer: Any) -> Table:
    if not isinstance(answer, Table):
        raise TypeError(f"it answered {answer!r} where a Table belongs")
    title, columns, rows = answer.title, _taken(answer.columns), [_taken(row) for row in _taken(answer.rows)]
    for text in (title, *columns):
        if not isinstance(text, str):
            raise TypeError(f"the title or a column of a table is {text!r}, which is no text")
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a table of {len(columns)} columns has the row {row!r}")
    plain = [[_plain(cell) for cell in row] for row in rows]
    return Table(title=_plain(title), columns=[_plain(column) for column in columns], rows=plain)


def _metrics(answer: Iterable[Any]) -> list[Metric]:
    found = [_metric(each) for each in _taken(answer)]
    if len({each.name for each in found}) < len(found):
        raise ValueError("two of its metrics have the same name")
    return found


def _metric(answer: Any) -> Metric:
    if not isinstance(answer, Metric):
        raise TypeError(f"it answered {answer!r} where a Metric belongs")
    samples = [_sample(answer.name, each) for each in _taken(answer.samples)]
    names = {tuple(sorted(labels)) for labels, _ in samples}
    if len(names) > 1:
        raise ValueError(f"the samples of the metric {answer.name!r} have different labels")
    for name in (answer.name, *next(iter(names), ())):
        if not _METRIC_NAME.fullmatch(name):
            raise ValueError(f"a metric or label has the name {name!r}, which is not made of a-z, 0-9 and _")
    return Metric(
        name=_plain(answer.name), meaning=_plain(answer.meaning), samples=samples, is_counter=bool(answer.is_counter)
    )


def _sample(metric: str, answer: Any) -> tuple[dict[str, str], float]:
    labels, value = answer
    if not isinstance(value, Number) or isinstance(value, bool | complex):
        raise TypeError(f"a sample of the metric {metric!r} is {value!r}, which is no number")
    return {_plain(name): str(_plain(text)) for name, text in labels.items()}, float(value)  # type: ignore[arg-type]


def _plain(cell: Any) -> Any:
    """The text, number or None in Python's own type, so that no code of the plugin's prints it."""
    if type(cell) in _PYTHONS_OWN:
        return cell
    match cell:
        case str():
            return str.__str__(cell)
        case int():
            number = int.__int__(cell)
            str(number)  # of too many digits it raises
            return number
        case float():
            return float.__float__(cell)
        case Number():
            return str.__str__(str(cell))
        case _:
            raise TypeError(f"a cell of a table is {cell!r}, which is neither a text nor a number nor None")


def _taken(answer: Any) -> list[Any]:
    """As a list; what has no end would take all memory."""
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("it is asynchronous: write `def`, without `async`")
    if isinstance(answer, str):
        raise TypeError(f"it answered {answer!r} where several belong")
    taken = list(islice(answer, _MOST_ROWS + 1))
    if len(taken) > _MOST_ROWS:
        raise ValueError(f"it answered more than {_MOST_ROWS:,}")
    return taken

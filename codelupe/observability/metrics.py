"""How far the log and its readers are, read from the database and served to Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

import anyio
import anyio.to_thread
import asyncpg
import structlog
from anyio.abc import TaskStatus
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from codelupe.errors import CodelupeError
from codelupe.postgres import Database
from codelupe.postgres.queries import load_queries
from codelupe.postgres.retry import retry_while_unavailable

SQL = load_queries("codelupe_sql", "metrics")
_FRESH_SECONDS = 15.0
"""An older sample is not shown: without a next one the present state is unknown."""

log = structlog.get_logger("codelupe")


class EndpointUnavailable(CodelupeError):
    """The metrics cannot be served at the address that is set."""

    code = "metrics-endpoint"


@dataclass(frozen=True, kw_only=True)
class AppendBarrier:
    """An open transaction that has appended: readers do not get past it.

    A transaction of another role hides all but its ``pid``, and a prepared one has not even that.
    """

    pid: int | None
    application: str | None
    state: str | None
    seconds: float | None
    """Since the transaction began; a hair below 0 if that was just now."""


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """How far one subscription is."""

    name: str
    undelivered: int
    """Positions after its cursor, up to the head."""
    in_log: int
    """Events before its cursor that are known to wait for a place among the tasks of their stream."""
    queued: int
    """Tasks behind another one of their stream."""
    ready: int
    running: int
    dead_lettered: int
    handled: int
    """Events ever handled to effect."""
    seconds: float
    """Age of the oldest event after its cursor or in a task that is no dead letter; 0 if there is none."""

    @property
    def lag(self) -> int:
        return self.undelivered + self.in_log + self.queued + self.ready + self.running


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The log and its readers at one moment; the oldest append barrier comes first."""

    taken_at: float
    """By :func:`time.monotonic`."""
    head: int
    high_water_mark: int
    workers: int
    append_barriers: list[AppendBarrier]
    consumers: list[Consumer]
    paused: list[tuple[str, str]]
    """By plugin, and what it is: its kind and name."""

    @property
    def oldest_barrier_seconds(self) -> float:
        """0 when there is none, NaN when its age is hidden."""
        if not self.append_barriers:
            return 0.0
        seconds = self.append_barriers[0].seconds
        return math.nan if seconds is None else max(0.0, seconds)

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.taken_at < _FRESH_SECONDS


async def read_sample(database: Database) -> Sample:
    """Look at the database now.

    Raises:
        DatabaseUnavailable: it is away.
    """
    taken_at = time.monotonic()
    async with database.connection() as connection:
        [positions] = await connection.fetch(SQL.positions)
        barriers = await connection.fetch(SQL.append_barriers)
        consumers = await connection.fetch(SQL.consumers)
        paused = await connection.fetch(SQL.paused)
    return Sample(
        taken_at=taken_at,
        **dict(positions),
        append_barriers=[AppendBarrier(**dict(row)) for row in barriers],
        consumers=[Consumer(**dict(row)) for row in consumers],
        paused=[(row["plugin"], f"{row['kind']} {row['name']}") for row in paused],
    )


async def serve_metrics(
    database: Database,
    host: str,
    port: int,
    every: float = 5,
    *,
    also: Sequence[Collector] = (),
    task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the metrics until cancelled; reports the port as started, one of its choice for port 0.

    They are read from the database again after so many seconds; ``also`` has those of this process.

    Raises:
        EndpointUnavailable: the address cannot be used.
    """
    newest = _Newest()
    server, thread = await anyio.to_thread.run_sync(_listen, [newest, *also], host, port)
    try:
        log.info("serving_metrics", host=host, port=server.server_port)
        task_status.started(server.server_port)
        await _watch(database, newest, every)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_close, server, thread)


def _listen(collectors: Sequence[Collector], host: str, port: int) -> tuple[WSGIServer, Thread]:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    try:
        return start_http_server(port, host, registry)
    except OSError as error:
        raise EndpointUnavailable(
            f"the metrics cannot be served at {host}:{port}: {error.strerror or error}",
            hint="Set metrics_host and metrics_port to an address of this machine that are free.",
        ) from error


def _close(server: WSGIServer, thread: Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()


async def _watch(database: Database, newest: _Newest, every: float) -> None:
    while True:
        await retry_while_unavailable(lambda: newest.take(database), "metrics", also=(asyncpg.PostgresError,))
        await anyio.sleep(every)


class _Newest(Collector):
    """Gives Prometheus the newest sample while it is fresh, else only that there is none."""

    def __init__(self) -> None:
        self.sample: Sample | None = None

    async def take(self, database: Database) -> None:
        """Take the next sample; there is none while the database is away.

        Raises:
            DatabaseUnavailable: it is away.
        """
        sample = None
        try:
            sample = await read_sample(database)
        finally:
            self.sample = sample

    def collect(self) -> Iterator[Metric]:
        """Called by the server's threads."""
        sample = self.sample
        is_up = sample is not None and sample.is_fresh
        yield _gauge(
            "up", "1 if the log could be read within the last 15 seconds; if 0, nothing else of it is shown.", is_up
        )
        if sample is not None and is_up:
            yield from _of_the_log(sample)
            yield from _of_the_consumers(sample.consumers)
            yield _of_the_pauses(sample.paused)


def _of_the_log(sample: Sample) -> Iterator[Metric]:
    yield _gauge(
        "oldest_open_transaction_seconds",
        "Age of the oldest open transaction that has appended events, which all consumers wait for; 0 if there is "
        "none, NaN if the server hides it from this role.",
        sample.oldest_barrier_seconds,
    )
    yield _gauge("head_position", "The highest position drawn by any appender, committed or not.", sample.head)
    yield _gauge("high_water_mark", "Consumers may read up to this position.", sample.high_water_mark)
    yield _gauge("workers", "Processes with a valid lease.", sample.workers)


def _of_the_consumers(consumers: list[Consumer]) -> Iterator[Metric]:
    events = GaugeMetricFamily(
        "eventlog_consumer_lag_events",
        "Positions from the subscription's cursor to the head, of any event type and gaps included, the events before "
        "it that wait for a place in the queue of their stream, and its tasks that are queued, ready or running.",
        labels=["subscription"],
    )
    seconds = GaugeMetricFamily(
        "eventlog_consumer_lag_seconds",
        "Age of the oldest event that the subscription has not handled: after its cursor, of any type, or in a task "
        "that is queued, ready or running. 0 if there is none. What waits behind a dead letter counts, the dead letter "
        "not.",
        labels=["subscription"],
    )
    handled = CounterMetricFamily(
        "eventlog_handled", "Events that the subscription has handled to effect.", labels=["subscription"]
    )
    tasks = GaugeMetricFamily("eventlog_tasks", "The subscription's tasks by state.", labels=["subscription", "state"])
    for one in consumers:
        events.add_metric([one.name], one.lag)
        seconds.add_metric([one.name], one.seconds)
        handled.add_metric([one.name], one.handled)
        for state in ("queued", "ready", "running", "dead_lettered"):
            tasks.add_metric([one.name, state], getattr(one, state))
    return iter([events, seconds, handled, tasks])


def _of_the_pauses(paused: list[tuple[str, str]]) -> Metric:
    metric = GaugeMetricFamily(
        "codelupe_paused",
        "1 for each part of a plugin that is paused: by hand, or since it failed over one stream after another.",
        labels=["plugin", "what"],
    )
    for plugin, what in paused:
        metric.add_metric([plugin, what], 1)
    return metric


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"eventlog_{name}", meaning, value)

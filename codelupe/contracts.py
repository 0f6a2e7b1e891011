"""What a plugin may offer, and what its code is handed when it runs.

A plugin returns these from its hooks (:mod:`codelupe.hookspecs`). Everything here is public and stays compatible.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, runtime_checkable

from codelupe_events import Event, Reason

if TYPE_CHECKING:
    from codelupe.log.context import BatchContext, HandlerContext, JobContext

T = TypeVar("T")


# --- work on the event log ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, and how far apart, a failing handler is tried before its event is parked.

    The wait before attempt n+1 is ``base * 2**(n-1)``, at most ``cap``, times a random factor of 0.5 to 1. Losing the
    worker uses up no attempt, but an event over which ``losses`` workers died is parked, too: it may have killed them.
    """

    attempts: int = 5
    losses: int = 10
    base: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(minutes=10)


Handler = Callable[[Any, "HandlerContext"], Awaitable[None]]
BatchHandler = Callable[[Sequence[Any], "BatchContext"], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Subscribed:
    """What both kinds of subscription say.

    ``name`` is unique within the plugin. ``emits`` says which events the handler may emit: it is for those who watch,
    and decides in which order stages are shown. Events of one stream are handled in order. A parked event holds back
    the rest of its stream if ``parked_blocks_stream``. A subscription seen for the first time starts at the log's
    beginning, or at its end if ``from_now``. Raising ``version`` gives replayed events new idempotency keys, so that
    what the handler emits counts as new.
    """

    name: str
    events: tuple[type[Event], ...]
    emits: tuple[type[Event], ...] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    parked_blocks_stream: bool = True
    from_now: bool = False
    replayable: bool = True
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class Subscription(Subscribed):
    """A handler for one event at a time, of milliseconds or of hours, at most ``concurrency`` at once in this process.

    Different streams are handled in parallel, over all processes on the same database; one stream's events one after
    another.
    """

    handler: Handler
    concurrency: int = 4


@dataclass(frozen=True, kw_only=True)
class BatchSubscription(Subscribed):
    """A handler for cheap work: up to ``size`` events a call, in the log's order, in one process of the cluster.

    It is called inside a transaction, and what it writes there, what it emits and how far the subscription has come
    commit together. A batch that fails is tried in smaller pieces; an event that fails alone is handled by itself
    from then on, with retries and parking as in a :class:`Subscription`, and its stream queues behind it.

    ``projects_to`` names the tables that this handler alone writes and that its events alone fill: they can be
    rebuilt beside the live ones (``codelupe replay --rebuild``).
    """

    handler: BatchHandler
    size: int = 1000
    projects_to: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work that its own schedule starts: every ``every``, in one process of the cluster at a time.

    Under ``run --until-idle`` it runs whenever the log is quiet instead, until no job brings anything new.
    """

    name: str
    every: timedelta
    run: Callable[[JobContext], Awaitable[None]]
    emits: tuple[type[Event], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Service:
    """A task that runs as long as the daemon; it is started again, with a growing pause, when it fails.

    With ``leader`` it runs in one process of the cluster at a time.
    """

    name: str
    run: Callable[[JobContext], Awaitable[None]]
    leader: bool = False


# --- repositories ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository as its source describes it; ``external_id`` is the source's own stable id."""

    source: str
    external_id: str
    full_name: str
    url: str
    revision: str
    description: str | None = None
    language: str | None = None
    licence: str | None = None
    stars: int = 0
    forks: int = 0
    size_kib: int = 0
    topics: tuple[str, ...] = ()
    is_fork: bool = False
    is_archived: bool = False
    pushed_at: datetime | None = None

    @property
    def id(self) -> str:
        return f"{self.source}:{self.external_id}"


@runtime_checkable
class RepositorySource(Protocol):
    """Where repositories come from: GitHub, a folder, a package registry."""

    name: str

    def discover(self) -> AsyncIterator[Repository]:
        """Every repository that the source knows now; seen ones may come again, the crawler tells them apart."""
        ...


@runtime_checkable
class RepositoryRule(Protocol):
    """One reason to turn a repository down."""

    name: str

    def check(self, repository: Repository) -> Reason | None:
        """Why it is turned down, or None to let it pass."""
        ...


# --- files -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a clone, decoded."""

    path: str
    """Relative to the clone, with ``/``."""
    content: str
    language: str | None
    licence: str | None


@dataclass(frozen=True, kw_only=True)
class Score:
    """A dimension's value from 0 (poor) to 100 (good), and what it rests on."""

    value: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Objection:
    """Why a rule leaves a file out: in words, and what it saw as data fit for JSON."""

    detail: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class FileRule(Protocol):
    """One reason to leave a file out. Instances are pickled into worker processes.

    ``version`` is raised when the rule begins to decide otherwise. Where the rule is a dataclass, those of its fields
    that are numbers, texts, truth values or tuples of these are its settings, and stored with what it decided.
    """

    name: str
    version: int

    def check(self, file: SourceFile) -> Objection | str | None:
        """Why the file is left out, or None to let it pass. Must not raise, whatever the content."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """One dimension of a file's quality. Instances are pickled into worker processes."""

    name: str
    version: int
    weight: float

    def score(self, file: SourceFile) -> Score | None:
        """The file's score in this dimension, or None where the dimension does not apply."""
        ...


# --- services of the host's surroundings -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SearchHit:
    """A repository that matches a query; a higher ``rank`` matches better."""

    repository_id: str
    full_name: str
    description: str | None
    language: str | None
    stars: int
    rank: float


@runtime_checkable
class SearchIndex(Protocol):
    """The index over discovered repositories."""

    name: str

    async def index(self, repositories: Sequence[Repository]) -> None:
        """Add or replace; doing it twice changes nothing."""
        ...

    async def remove(self, repository_ids: Sequence[str]) -> None:
        """Remove those of them that are there."""
        ...

    async def search(self, query: str, limit: int) -> list[SearchHit]:
        """The best matches for a query in the words of a web search (quotes, ``or``, ``-word``)."""
        ...


class Lost(Exception):
    """Work that took its worker process with it, or ran into a limit; ``reason`` says which, fit to be shown."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@runtime_checkable
class Executor(Protocol):
    """Where CPU-heavy functions run, out of the event loop's way, in processes that are kept.

    Functions are module-level ones; functions, arguments and results are pickled. What a function raises is raised
    to the caller. Cancelling the caller stops the work. The daemon enters the executor before the first call, where
    it may raise a :class:`CodelupeError`, and leaves it after the last.
    """

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """One call, without a limit on its time.

        Raises:
            Lost: it took its process with it.
        """
        ...

    async def map(self, function: Callable[..., T], items: Sequence[Any], *constants: object) -> list[T | Lost]:
        """``function(item, *constants)`` for each of the items, in as many processes as there are.

        An item that kills its process or exceeds the limits of time and memory costs only itself: in its place is a
        :class:`Lost`. A function may be called twice with an item, when the process dies of another one.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


# --- what the host hands over ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Directories:
    """Where things lie on disk; all under the state directory unless settings say otherwise."""

    state: Path
    repositories: Path
    models: Path
    work: Path
    """Scratch space that may be deleted while the daemon is stopped; only time is lost."""


@dataclass(kw_only=True)
class Offers:
    """What all plugins together bring, in the order in which the plugins were loaded."""

    sources: list[RepositorySource] = field(default_factory=list)
    repository_rules: list[RepositoryRule] = field(default_factory=list)
    file_rules: list[FileRule] = field(default_factory=list)
    scorers: list[Scorer] = field(default_factory=list)
    search_indexes: dict[str, SearchIndex] = field(default_factory=dict)
    executors: dict[str, Executor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a long piece of work has come: ``done`` of ``total`` in ``unit``, with a few figures beside it.

    ``total`` is None when nobody knows it.
    """

    done: float
    total: float | None
    unit: str
    figures: Mapping[str, float | str] = field(default_factory=dict)

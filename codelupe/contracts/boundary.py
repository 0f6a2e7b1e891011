"""The boundary around what plugins contribute: whatever goes wrong inside names the plugin that offered it.

Each contribution is wrapped where the host gathers it, and looks to those who use it as it is: its class, its fields
and its attributes are those of what is inside. What it raises, and an answer of the wrong type or out of range, comes
out as :class:`ContributionFailed`.

The boundary is in worker processes, too. A contribution travels there as bytes of its own inside of its wrapping, so
that its pickling and its unpickling can fail for it alone. The bytes are made by plain pickle, whatever pickles the
wrapping: worker processes read nothing else, also where an executor's own pickler, which brings the wrapping to another
machine, would take closures as well. On such a way the bytes are passed on unread.
"""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import anyio

from codelupe.contracts.answers import (
    faults_of_accounts,
    faults_of_forecast,
    faults_of_objection,
    faults_of_page,
    faults_of_reason,
    faults_of_repository,
    faults_of_score,
    faults_of_slices,
    is_number,
    unexpected,
)
from codelupe.contracts.files import FileRule, Objection, Score, Scorer, SourceFile
from codelupe.contracts.repositories import Repository, RepositoryRule
from codelupe.contracts.search import SearchDocument, SearchHit, SearchIndex
from codelupe.contracts.sources import (
    Forecast,
    ForecastingSource,
    Page,
    PagedSource,
    Slice,
    Source,
    SourceContext,
    SourceSession,
    Want,
)
from codelupe.errors import CodelupeError, DatabaseUnavailable, LeaseLost, Reject, RetryLater
from codelupe_events import Reason

T = TypeVar("T")

_PASSES = (RetryLater, Reject, LeaseLost, DatabaseUnavailable)
"""What asynchronous contributions say to the host by raising it."""
_LONGEST_TEXT = 2000
_SENDING = "being sent to a worker process"
_SENDING_HINT = (
    "It is pickled: define its class at the top level of a module that can be imported, and open locks, files and"
    " connections when they are first used."
)


@dataclass(frozen=True)
class Part:
    """What can fail, and be paused, by itself: a subscription, a job or a contribution of a plugin's."""

    plugin: str
    kind: str
    """Such as ``subscription`` or ``file rule``."""
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.plugin}.{self.name}"

    @property
    def only_judges(self) -> bool:
        """Whether it needs nothing but what it is given, so that trying again cannot help."""
        return self.kind in ("repository rule", "file rule", "scorer")

    def __str__(self) -> str:
        return f"{self.kind} {self.full_name}"


class ContributionFailed(CodelupeError):
    """What a plugin contributed raised something, or answered what its contract does not allow; ``part`` says who."""

    code = "contribution-failed"

    def __init__(self, part: Part, subject: str, fault: str, hint: str | None = None) -> None:
        failed = f"the {part.kind} {part.name!r} of the plugin {part.plugin!r} failed on {subject}"
        super().__init__(f"{failed}: {fault}", hint=hint)
        self.part = part
        self._arguments = part, subject, fault, hint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments, self.__dict__


_used: ContextVar[set[Part] | None] = ContextVar("used", default=None)


@contextmanager
def used_parts() -> Iterator[set[Part]]:
    """The contributions that were called inside the block, or sent to worker processes."""
    used: set[Part] = set()
    token = _used.set(used)
    try:
        yield used
    finally:
        _used.reset(token)


_on_load: ContextVar[Callable[[Part | None], None] | None] = ContextVar("on_load", default=None)


@contextmanager
def loading_at_once(on_load: Callable[[Part | None], None]) -> Iterator[None]:
    """Inside the block, contributions that arrive are unpickled at once, and not when they are first used.

    ``on_load`` is told which one is next, and None when it is there: it may end the process.
    """
    token = _on_load.set(on_load)
    try:
        yield
    finally:
        _on_load.reset(token)


def not_sent(part: Part, fault: str) -> ContributionFailed:
    """It could not be pickled, or be unpickled in a worker process."""
    return ContributionFailed(part, _SENDING, fault, _SENDING_HINT)


def is_cancelled_by_host() -> bool:
    """Whether the host is cancelling the task that runs now."""
    return anyio.current_effective_deadline() == -math.inf


def part_of(contribution: object) -> Part | None:
    """Who offered it; None if it was not gathered from plugins."""
    return contribution._part if isinstance(contribution, _Guarded) else None  # noqa: SLF001 - it is of this module


_loading = threading.RLock()
"""Only one thread at a time unpickles what arrived; this may load further contributions."""


class _Guarded:
    """Looks like the contribution inside.

    Raises:
        TypeError: an attribute that its contract names is of the wrong type.
        ValueError: it is out of range.
    """

    kind: str

    def __init__(self, plugin: str, inner: Any, name: str | None = None) -> None:
        self.name: str = _checked_name(inner.name if name is None else name)
        self._part = Part(plugin, self.kind, self.name)
        self._inner = inner

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._inner)

    @property
    def __dataclass_fields__(self) -> Mapping[str, Any]:
        return getattr(self._inner, "__dataclass_fields__", {})

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":
            return self._load()
        if name in ("_part", "_sent"):
            raise AttributeError(f"this {type(self).__name__} has not been made yet: it has no {name}")
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return f"{self._part} ({self._inner!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        self._note_use()
        state = dict(self.__dict__)
        if "_inner" in state:
            state["_sent"] = self._pickled(state.pop("_inner"))
        return _restore, (type(self), state)

    def __copy__(self) -> _Guarded:
        return _restore(type(self), self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Guarded:
        copied = memo[id(self)] = _restore(type(self), {})
        copied.__dict__.update(copy.deepcopy(dict(self.__dict__), memo))
        return copied

    def _pickled(self, inner: Any) -> bytes:
        try:
            return pickle.dumps(inner, pickle.HIGHEST_PROTOCOL)
        except BaseException as error:
            raise self._not_sent(error) from error

    def _load(self) -> Any:
        """What is inside, which arrived as bytes, unless another thread has loaded it by now."""
        with _loading:
            if "_inner" not in self.__dict__:
                self._inner = self._unpickled(self._sent)
                self.__dict__.pop("_sent", None)
            return self._inner

    def _unpickled(self, sent: bytes) -> Any:
        on_load = _on_load.get() or _ignore
        on_load(self._part)
        try:
            inner = pickle.loads(sent)  # noqa: S301 - from the parent
        except MemoryError:  # a worker process ends by it
            raise
        except BaseException as error:
            raise self._not_sent(error) from error
        on_load(None)
        return inner

    def _not_sent(self, error: BaseException) -> ContributionFailed:
        return not_sent(self._part, _describe(error))

    def _note_use(self) -> None:
        used = _used.get()
        if used is not None:
            used.add(self._part)

    def _failed(self, subject: str, fault: str) -> ContributionFailed:
        return ContributionFailed(self._part, subject, fault)

    def _raised(self, subject: str, error: BaseException) -> ContributionFailed:
        """It says what to do, and ends a command, as an error of ours does that came of it."""
        if not isinstance(error, CodelupeError):
            return self._failed(subject, _describe(error))
        try:
            failed = ContributionFailed(self._part, subject, error.message, error.hint)
            failed.exit_code = int(error.exit_code)
        except BaseException:  # a class of the plugin's that is made otherwise than ours
            return self._failed(subject, _describe(error))
        return failed

    def _called(self, method: str, argument: object, subject: str, faults: Callable[[Any], str]) -> Any:
        """What its method answers, if ``faults`` finds nothing wrong with it."""
        self._note_use()
        inner = self._inner
        try:
            answer = getattr(inner, method)(argument)
            fault = faults(answer)
        except BaseException as error:
            raise self._raised(subject, error) from error
        if fault:
            raise self._failed(subject, fault)
        return answer

    @contextmanager
    def _awaited(self, subject: str) -> Iterator[None]:
        """Inside the block, what is raised is the contribution's, except for what it says to the host."""
        self._note_use()
        try:
            yield
        except (*_PASSES, ContributionFailed):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled_from_outside():
                raise
            raise self._raised(subject, error) from error


def _ignore(part: Part | None) -> None: ...


def _restore(kind: type[_Guarded], state: dict[str, Any]) -> _Guarded:
    guarded = kind.__new__(kind)
    guarded.__dict__.update(state)
    if _on_load.get() is not None and "_sent" in state:
        guarded._load()  # noqa: SLF001 - it is of this module
    return guarded


class _InWorkerProcesses(_Guarded):
    """A contribution that worker processes call; these end by a ``MemoryError``, which is the limit's."""

    def __init__(self, plugin: str, inner: Any) -> None:
        super().__init__(plugin, inner)
        version = inner.version
        if not isinstance(version, int) or isinstance(version, bool):
            raise TypeError(f"the {self._part} has the version {version!r}, which is no whole number")
        self.version = int(version)

    def _called(self, method: str, argument: object, subject: str, faults: Callable[[Any], str]) -> Any:
        try:
            return super()._called(method, argument, subject, faults)
        except ContributionFailed as failure:
            if isinstance(failure.__cause__, MemoryError):
                raise failure.__cause__ from None
            raise


class _FileRule(_InWorkerProcesses):
    kind = "file rule"

    def check(self, file: SourceFile) -> Objection | str | None:
        answer: Objection | str | None = self._called("check", file, file.path, faults_of_objection)
        return answer


class _Scorer(_InWorkerProcesses):
    kind = "scorer"

    def __init__(self, plugin: str, inner: Any) -> None:
        super().__init__(plugin, inner)
        weight = inner.weight
        if not is_number(weight):
            raise TypeError(f"the {self._part} has the weight {weight!r}, which is no number")
        if not 0 <= weight < math.inf:
            raise ValueError(f"the {self._part} has the weight {weight!r}, which is not 0 or more")
        self.weight: float = int(weight) if isinstance(weight, int) else float(weight)

    def score(self, file: SourceFile) -> Score | None:
        answer: Score | None = self._called("score", file, file.path, faults_of_score)
        return answer


class _RepositoryRule(_Guarded):
    kind = "repository rule"

    def check(self, repository: Repository) -> Reason | None:
        answer: Reason | None = self._called("check", repository, repository.id, faults_of_reason)
        return answer


class _Source(_Guarded):
    kind = "source"

    async def discover(self) -> AsyncIterator[Repository]:
        with self._awaited("its discovery"):
            found = self._inner.discover()
            if not isinstance(found, AsyncIterator):
                raise self._failed("its discovery", unexpected(found, "an asynchronous iterator"))
        try:
            while True:
                with self._awaited("its discovery"):
                    try:
                        repository = await anext(found)
                    except StopAsyncIteration:
                        return
                    if fault := faults_of_repository(repository):
                        raise self._failed("its discovery", fault)
                yield repository
        finally:
            if (close := getattr(found, "aclose", None)) is not None:
                with self._awaited("the end of its discovery"):
                    await close()


class _PagedSource(_Guarded):
    kind = "source"

    async def accounts(self, context: SourceContext) -> Sequence[str]:
        return cast(
            "Sequence[str]", await self.answered(self._inner, "its accounts", faults_of_accounts, "accounts", context)
        )

    async def plan(self, want: Want, context: SourceContext) -> Sequence[Slice]:
        return cast(
            "Sequence[Slice]", await self.answered(self._inner, "its plan", faults_of_slices, "plan", want, context)
        )

    @asynccontextmanager
    async def open(self, account: str, context: SourceContext) -> AsyncIterator[SourceSession]:
        with self._awaited(f"the account {account!r}"):
            around = self._inner.open(account, context)
            session = await around.__aenter__()
        try:
            yield _Session(self, session)
        finally:
            with self._awaited("the end of its session"):
                await around.__aexit__(None, None, None)

    async def answered(
        self, inner: Any, subject: str, faults: Callable[[Any], str], method: str, *arguments: object
    ) -> Any:
        """What the asynchronous method answers, if ``faults`` finds nothing wrong with it."""
        with self._awaited(subject):
            answer = await getattr(inner, method)(*arguments)
            if fault := faults(answer):
                raise self._failed(subject, fault)
            return answer


class _ForecastingSource(_PagedSource):
    async def forecast(self, want: Want, slices: Sequence[Slice], context: SourceContext) -> Forecast:
        subject, arguments = "its forecast", (want, slices, context)
        return cast("Forecast", await self.answered(self._inner, subject, faults_of_forecast, "forecast", *arguments))


class _Session:
    """A session of a source, whose failures are the source's."""

    def __init__(self, source: _PagedSource, inner: Any) -> None:
        self._source = source
        self._inner = inner

    async def ask(self, slice: Slice, cursor: str | None) -> Page:  # noqa: A002 - as in the contract
        subject = f"the slice {slice.query!r}"
        return cast("Page", await self._source.answered(self._inner, subject, faults_of_page, "ask", slice, cursor))


class _SearchIndex(_Guarded):
    kind = "search index"

    async def index(self, documents: Sequence[SearchDocument]) -> None:
        with self._awaited(f"{len(documents)} repositories to index"):
            await self._inner.index(documents)

    async def remove(self, versions: Mapping[str, int]) -> None:
        with self._awaited(f"{len(versions)} repositories to remove"):
            await self._inner.remove(versions)

    async def search(self, query: str, limit: int, **options: Any) -> list[SearchHit]:
        with self._awaited(f"the query {query!r}"):
            hits = await self._inner.search(query, limit, **options)
            if not isinstance(hits, list) or not all(isinstance(hit, SearchHit) for hit in hits):
                raise self._failed(f"the query {query!r}", unexpected(hits, "a list of SearchHit"))
            return hits


class _Executor(_Guarded):
    """What a function raises belongs to the caller; so does ``WorkerLost``."""

    kind = "executor"

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        with self._only_exceptions():
            return cast("T", await self._inner.run(function, *arguments))

    async def map(self, function: Callable[..., T], items: Sequence[Any], *constants: object) -> list[T]:
        with self._only_exceptions():
            outcomes = await self._inner.map(function, items, *constants)
            if not isinstance(outcomes, list) or len(outcomes) != len(items):
                raise self._failed("its answer", unexpected(outcomes, f"a list of {len(items)} results"))
            return outcomes

    async def __aenter__(self) -> Self:
        with self._awaited("its start"):
            await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        with self._awaited("its end"):
            await self._inner.__aexit__(*error)

    @contextmanager
    def _only_exceptions(self) -> Iterator[None]:
        caught: Exception | None = None
        with self._awaited("a call"):
            try:
                yield
            except Exception as error:  # raised below, outside the boundary
                caught = error
        if caught is not None:
            raise caught


def guard_file_rule(plugin: str, rule: FileRule) -> FileRule:
    return _FileRule(plugin, rule)


def guard_scorer(plugin: str, scorer: Scorer) -> Scorer:
    return _Scorer(plugin, scorer)


def guard_repository_rule(plugin: str, rule: RepositoryRule) -> RepositoryRule:
    return _RepositoryRule(plugin, rule)


def guard_source(plugin: str, source: Source) -> Source:
    if isinstance(source, ForecastingSource):
        return _ForecastingSource(plugin, source)
    return _PagedSource(plugin, source) if isinstance(source, PagedSource) else _Source(plugin, source)


def guard_search_index(plugin: str, index: SearchIndex) -> SearchIndex:
    return _SearchIndex(plugin, index)


def guard_executor(plugin: str, name: str, executor: Any) -> Any:
    return _Executor(plugin, executor, name)


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise TypeError(f"offers the name {name!r} where a printable text belongs")
    return str.__str__(name)  # of no class of the plugin's, which other processes may not know


def _describe(error: BaseException) -> str:
    try:
        text = str(error)[:_LONGEST_TEXT]
    except BaseException:
        text = "it cannot say what"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_cancelled_from_outside() -> bool:
    """By the host, or by a time limit that the caller has set."""
    task = asyncio.current_task()
    return is_cancelled_by_host() or (task is not None and task.cancelling() > 0)

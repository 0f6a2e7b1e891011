"""The boundary around each kind of contribution, and the answers that its contract allows."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self, TypeVar, cast

from codelupe.contracts.answers import (
    faults_of_accounts,
    faults_of_forecast,
    faults_of_objection,
    faults_of_page,
    faults_of_problems,
    faults_of_reason,
    faults_of_repository,
    faults_of_sample,
    faults_of_score,
    faults_of_scored_text,
    faults_of_slices,
    faults_of_verdict,
    is_number,
    unexpected,
)
from codelupe.contracts.boundary import ContributionFailed, Guarded
from codelupe.contracts.evaluators import Evaluator, LikelihoodEvaluator, Problem, ProblemEvaluator, ScoredText
from codelupe.contracts.files import FileRule, Objection, Score, Scorer, SourceFile
from codelupe.contracts.repositories import Repository, RepositoryRule
from codelupe.contracts.samples import Sample, SampleFormat, SampleRequest
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
from codelupe_events import Reason

T = TypeVar("T")


class _InWorkerProcesses(Guarded):
    """A contribution that worker processes call; these end by a ``MemoryError``, which is the limit's."""

    def __init__(self, plugin: str, inner: Any) -> None:
        super().__init__(plugin, inner)
        version = inner.version
        if not isinstance(version, int) or isinstance(version, bool):
            raise TypeError(f"the {self._part} has the version {version!r}, which is no whole number")
        self.version = int(version)

    def _called(self, subject: str, faults: Callable[[Any], str], method: str, *arguments: object) -> Any:
        try:
            return super()._called(subject, faults, method, *arguments)
        except ContributionFailed as failure:
            if isinstance(failure.__cause__, MemoryError):
                raise failure.__cause__ from None
            raise


class _FileRule(_InWorkerProcesses):
    kind = "file rule"

    def check(self, file: SourceFile) -> Objection | str | None:
        answer: Objection | str | None = self._called(file.path, faults_of_objection, "check", file)
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
        answer: Score | None = self._called(file.path, faults_of_score, "score", file)
        return answer


class _WithControlTokens(_InWorkerProcesses):
    """A contribution whose texts speak to a model by tokens that it must know."""

    def __init__(self, plugin: str, inner: Any) -> None:
        super().__init__(plugin, inner)
        tokens = inner.control_tokens
        if isinstance(tokens, str) or not all(isinstance(token, str) and token for token in tokens):
            raise TypeError(f"the {self._part} has the control tokens {tokens!r}, which are no texts")
        self.control_tokens: Sequence[str] = tuple(tokens)


class _SampleFormat(_WithControlTokens):
    kind = "sample format"

    def make(self, request: SampleRequest) -> Sample | None:
        answer: Sample | None = self._called(request.file.path, faults_of_sample, "make", request)
        return answer


class _LikelihoodEvaluator(_WithControlTokens):
    kind = "evaluator"

    def text(self, request: SampleRequest) -> ScoredText | None:
        answer: ScoredText | None = self._called(request.file.path, faults_of_scored_text, "text", request)
        return answer


class _ProblemEvaluator(_InWorkerProcesses):
    kind = "evaluator"

    def __init__(self, plugin: str, inner: Any) -> None:
        super().__init__(plugin, inner)
        most = inner.max_tokens
        if not isinstance(most, int) or isinstance(most, bool):
            raise TypeError(f"the {self._part} has max_tokens {most!r}, which is no whole number")
        if most < 1:
            raise ValueError(f"the {self._part} has max_tokens {most!r}, which is not 1 or more")
        self.max_tokens = int(most)

    def problems(self) -> Sequence[Problem]:
        return cast("Sequence[Problem]", self._called("its problems", faults_of_problems, "problems"))

    def is_solved(self, problem: str, answer: str) -> bool:
        subject = f"the problem {problem!r}"
        return cast("bool", self._called(subject, faults_of_verdict, "is_solved", problem, answer))


class _RepositoryRule(Guarded):
    kind = "repository rule"

    def check(self, repository: Repository) -> Reason | None:
        answer: Reason | None = self._called(repository.id, faults_of_reason, "check", repository)
        return answer


class _Source(Guarded):
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


class _PagedSource(Guarded):
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


class _SearchIndex(Guarded):
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


class _Executor(Guarded):
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


def guard_sample_format(plugin: str, sample_format: SampleFormat) -> SampleFormat:
    return _SampleFormat(plugin, sample_format)


def guard_evaluator(plugin: str, evaluator: Evaluator) -> Evaluator:
    """Raises also ``TypeError`` where it is of both kinds."""
    if not isinstance(evaluator, ProblemEvaluator):
        return _LikelihoodEvaluator(plugin, evaluator)
    if isinstance(evaluator, LikelihoodEvaluator):
        raise TypeError(f"offered {evaluator!r}, which is a LikelihoodEvaluator and a ProblemEvaluator: make two of it")
    return _ProblemEvaluator(plugin, evaluator)


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

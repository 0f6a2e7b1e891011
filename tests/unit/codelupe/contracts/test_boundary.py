"""What a plugin contributes: whatever goes wrong inside of it is its own, and names it."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import sqlite3
import threading
import types
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from codelupe import (
    Forecast,
    ForecastingSource,
    LikelihoodEvaluator,
    Objection,
    PagedSource,
    Problem,
    ProblemEvaluator,
    Repository,
    RepositorySource,
    RetryLater,
    SampleRequest,
    Score,
    ScoredText,
    SearchFilter,
    SearchSort,
    SourceFile,
)
from codelupe.contracts import boundary
from codelupe.contracts.boundary import (
    ContributionFailed,
    Part,
    loading_at_once,
    part_of,
    used_parts,
)
from codelupe.contracts.guards import (
    guard_evaluator,
    guard_executor,
    guard_file_rule,
    guard_repository_rule,
    guard_sample_format,
    guard_scorer,
    guard_search_index,
    guard_source,
)
from codelupe.errors import CodelupeError
from codelupe_events import Reason
from codelupe_filters.file_rules import ByPath
from tests.unit.codelupe_trainer.samples.requests import request

pytestmark = pytest.mark.anyio

FILE = SourceFile(path="a/b.py", content="x = 1\n", language="Python", licence=None)
REPOSITORY = Repository(source="test", external_id="r", full_name="o/r", url="u", revision="1")


@dataclass
class Offered:
    """A rule or a scorer, by what it does when it is called."""

    act: Callable[[], Any]
    name: str = "it"
    version: int = 3
    weight: float = 2.0

    def check(self, judged: object) -> Any:
        return self.act()

    score = check


def answering(answer: Any) -> Callable[[], Any]:
    return lambda: answer


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


class Mute(BaseException):
    def __str__(self) -> str:
        raise SystemExit


class MadeOtherwise(CodelupeError):
    """One of ours that lacks what ours have."""

    def __init__(self) -> None: ...


class Markup(str):
    """A text of a library's own, which JSON does not know."""

    __slots__ = ()


def lone_surrogate() -> str:
    return "\ud800"


async def asynchronous() -> None: ...


RAISED = [ValueError("bad"), KeyboardInterrupt(), SystemExit(0), asyncio.CancelledError(), GeneratorExit(), Mute()]
RAISED.append(MadeOtherwise())
NO_SCORES = [
    *(math.nan, 1, "good", True, (), object()),
    *(Score(value=value) for value in (math.nan, math.inf, -0.5, 100.5, 10**400)),
    *(Score(value=value) for value in ("7", None, True)),  # type: ignore[arg-type]
    *(Score(value=7, reasons=reasons) for reasons in ("text", None, (1,), ("nul\0",), ("\ud800",), (Markup(),))),  # type: ignore[arg-type]
]
NO_EVIDENCE: list[Any] = [None, [], {"a": object()}, {"a": "\0"}, {1j: 1}]
NO_OBJECTIONS = [
    *(True, 0, ("why",), Score(value=1), "nul\0", "\ud800", Objection(detail=None)),  # type: ignore[arg-type]
    *(Markup("why"), Objection(detail=Markup("why"))),
    *(Objection(detail="why", evidence=evidence) for evidence in NO_EVIDENCE),
]
NO_REASONS = ["why", True, Objection(detail="why"), Reason(rule="r", detail=None)]  # type: ignore[arg-type]
NO_REASONS.append(Reason(rule="r", detail=Markup("why")))


@pytest.mark.parametrize("error", RAISED, ids=lambda it: type(it).__name__)
def test_whatever_a_rule_or_scorer_raises_names_plugin_contribution_and_file(error: BaseException) -> None:
    offered = Offered(raising(error))
    for guarded, kind in ((guard_file_rule, "file rule"), (guard_scorer, "scorer")):
        it: Any = guarded("acme", offered)
        with pytest.raises(ContributionFailed) as raised:
            (it.score if kind == "scorer" else it.check)(FILE)
        assert raised.value.part == Part("acme", kind, "it")
        assert f"the {kind} 'it' of the plugin 'acme' failed on a/b.py: {type(error).__name__}" in str(raised.value)
    with pytest.raises(ContributionFailed, match="'acme' failed on test:r"):
        guard_repository_rule("acme", offered).check(REPOSITORY)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("answer", [*NO_SCORES, asynchronous], ids=lambda it: type(it).__name__)
def test_an_answer_that_is_no_score_is_a_failure(answer: Any) -> None:
    offered = Offered(answer if answer is asynchronous else answering(answer))
    with pytest.raises(ContributionFailed, match=r"of the plugin 'acme' failed on a/b\.py: ."):
        guard_scorer("acme", offered).score(FILE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("answer", [*NO_OBJECTIONS, asynchronous], ids=lambda it: type(it).__name__)
def test_an_answer_that_is_no_objection_is_a_failure(answer: Any) -> None:
    offered = Offered(answer if answer is asynchronous else answering(answer))
    with pytest.raises(ContributionFailed, match=r"of the plugin 'acme' failed on a/b\.py: ."):
        guard_file_rule("acme", offered).check(FILE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("answer", [*NO_REASONS, asynchronous], ids=lambda it: type(it).__name__)
def test_an_answer_that_is_no_reason_is_a_failure(answer: Any) -> None:
    offered = Offered(answer if answer is asynchronous else answering(answer))
    with pytest.raises(ContributionFailed, match=r"of the plugin 'acme' failed on test:r: ."):
        guard_repository_rule("acme", offered).check(REPOSITORY)


def test_right_answers_come_through() -> None:
    for score in (None, Score(value=0), Score(value=100), Score(value=7.5, reasons=("ä",))):
        assert guard_scorer("acme", Offered(answering(score))).score(FILE) is score
    for objection in (None, "why", Objection(detail="why", evidence={"n": [1, "ä"]})):
        assert guard_file_rule("acme", Offered(answering(objection))).check(FILE) is objection


def test_a_worker_process_ends_by_its_memory_limit() -> None:
    for guard in (guard_file_rule, guard_scorer):
        with pytest.raises(MemoryError):
            it: Any = guard("acme", Offered(raising(MemoryError())))
            (it.score if guard is guard_scorer else it.check)(FILE)
    with pytest.raises(ContributionFailed):
        guard_repository_rule("acme", Offered(raising(MemoryError()))).check(REPOSITORY)


@dataclass(frozen=True)
class ByName(ByPath):
    """At home where pickle finds it."""

    names: tuple[str, ...] = ("a",)
    name = "by-name"
    version = 7

    def check(self, file: SourceFile) -> str | None:
        return "wrong" if file.path in self.names else None


def test_it_looks_like_what_is_inside_also_in_another_process() -> None:
    guarded = guard_file_rule("acme", ByName(("x", "a/b.py")))
    both: list[Any] = [guarded, pickle.loads(pickle.dumps(guarded, pickle.HIGHEST_PROTOCOL))]
    for it in both:
        assert (isinstance(it, ByPath), is_dataclass(it)) == (True, True)
        assert {one.name: getattr(it, one.name) for one in fields(it)} == {"names": ("x", "a/b.py")}
        assert (it.name, it.version, it.check(FILE)) == ("by-name", 7, "wrong")
        assert part_of(it) == Part("acme", "file rule", "by-name")
    plain: Any = guard_scorer("acme", _Plain())
    assert not fields(plain)


class _Plain:
    name, version, weight = "plain", 1, 1.0

    def score(self, file: SourceFile) -> None: ...


def test_the_failure_itself_comes_through_pickling() -> None:
    failure = ContributionFailed(Part("acme", "scorer", "it"), "a.py", "ValueError: bad")
    failure.add_note("In the worker process:")
    again = pickle.loads(pickle.dumps(failure))
    assert (str(again), again.part, again.__notes__) == (str(failure), failure.part, failure.__notes__)


def test_what_was_called_or_sent_to_another_process_was_used() -> None:
    called, sent, asked = (guard_scorer("acme", _Named(name)) for name in ("called", "sent", "asked"))
    with used_parts() as used:
        called.score(FILE)
        pickle.dumps((sent,))
        assert asked.weight == 1
    assert {part.name for part in used} == {"called", "sent"}


class _Named(_Plain):
    def __init__(self, name: str) -> None:
        self.name = name


# --- on their way to worker processes ---

SENT = "failed on being sent to a worker process: "


class Holding(_Named):
    """It holds something that pickle may refuse."""

    def __init__(self, held: object, name: str = "holding") -> None:
        super().__init__(name)
        self.held = held

    def check(self, judged: object) -> None: ...


class RaisingWhenPickled(Holding):
    def __getstate__(self) -> Any:
        assert isinstance(self.held, BaseException)
        raise self.held


class RaisingWhenReduced(Holding):
    def __reduce__(self) -> Any:
        assert isinstance(self.held, BaseException)
        raise self.held


def local_class() -> Any:
    class Local(Holding): ...

    return Local(1)


def nested(depth: int) -> list[Any]:
    it: list[Any] = []
    for _ in range(depth):
        it = [it]
    return it


def of_a_module_that_is_gone() -> Any:
    return type("Gone", (Holding,), {"__module__": "no_such_module"})(1)


ERRORS_ON_THE_WAY = [*RAISED, MemoryError(), RecursionError(), BaseExceptionGroup("", [SystemExit()])]
CANNOT_BE_PICKLED = [
    *map(Holding, (lambda: 1, threading.Lock(), sqlite3.connect(":memory:"), (n for n in range(1)), nested(100_000))),
    *(kind(error) for kind in (RaisingWhenPickled, RaisingWhenReduced) for error in ERRORS_ON_THE_WAY),
    local_class(),
    of_a_module_that_is_gone(),
]
GUARDS: list[Any] = [guard_file_rule, guard_scorer, guard_repository_rule]


@pytest.mark.parametrize("offered", CANNOT_BE_PICKLED, ids=lambda it: type(it).__name__)
def test_what_cannot_be_pickled_is_the_offering_plugin_s(offered: Any) -> None:
    for guard in GUARDS:
        it = guard("acme", offered)
        with pytest.raises(ContributionFailed, match=f"{it.name!r} of the plugin 'acme' {SENT}.") as failed:
            pickle.dumps({"rules": (guard("fine", _Named("fine")), it)}, pickle.HIGHEST_PROTOCOL)
        assert failed.value.part == Part("acme", it._part.kind, it.name)
        assert "open locks, files and connections when they are first used" in str(failed.value.hint)


def test_an_open_file_is_the_offering_plugin_s(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file, pytest.raises(ContributionFailed, match=SENT):
        pickle.dumps(guard_scorer("acme", Holding(file)))


class RaisingOnArrival(Holding):
    def __setstate__(self, state: dict[str, Any]) -> None:
        raise state["held"]


class Restored(Holding):
    """``held`` says how often."""

    times = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        Restored.times += 1
        self.__dict__.update(state)


def ignore(part: Part | None) -> None: ...


@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), ImportError("gone"), KeyboardInterrupt(), SystemExit(0)],
    ids=lambda it: type(it).__name__,
)
def test_what_cannot_be_unpickled_is_the_offering_plugin_s(error: BaseException) -> None:
    for guard in GUARDS:
        sent = pickle.dumps([guard("fine", _Named("fine")), guard("acme", RaisingOnArrival(error, "it"))])
        with loading_at_once(ignore), pytest.raises(ContributionFailed, match=f"'acme' {SENT}") as failed:
            pickle.loads(sent)
        assert failed.value.part.full_name == "acme.it"
        fine, it = pickle.loads(sent)
        assert (fine.version, it.name) == (1, "it")
        for _ in range(2):
            with pytest.raises(ContributionFailed, match=f"'it' of the plugin 'acme' {SENT}"):
                _ = it.held


def test_a_worker_process_ends_by_its_memory_limit_also_while_it_unpickles() -> None:
    parts: list[Part | None] = []
    sent = pickle.dumps(guard_scorer("acme", RaisingOnArrival(MemoryError(), "it")))
    with loading_at_once(parts.append), pytest.raises(MemoryError):
        pickle.loads(sent)
    assert parts == [Part("acme", "scorer", "it")], "it is known until the end"


def test_it_is_unpickled_where_it_arrives_and_passed_on_unread_before() -> None:
    Restored.times = 0
    passed_on = pickle.dumps(pickle.loads(pickle.dumps((guard_scorer("acme", Restored("x")),))))
    assert Restored.times == 0
    parts: list[Part | None] = []
    with loading_at_once(parts.append):
        [it] = pickle.loads(passed_on)
    assert parts == [Part("acme", "scorer", "holding"), None]
    assert (it.held, it.score(FILE), Restored.times) == ("x", None, 1)


def test_another_pickler_that_would_take_closures_sends_the_same() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    it = pickle.loads(cloudpickle.dumps(guard_scorer("acme", Holding("x"))))
    assert it.held == "x"
    with pytest.raises(ContributionFailed, match=SENT):
        cloudpickle.dumps(guard_scorer("acme", Holding(lambda: 1)))


def test_what_it_holds_may_change_between_two_calls() -> None:
    offered = Holding([1])
    guarded: Any = guard_scorer("acme", offered)
    pickle.dumps(guarded)
    offered.held = [1, 2]
    assert pickle.loads(pickle.dumps(guarded)).held == [1, 2]


def test_it_can_be_copied_whether_it_can_be_pickled_or_not() -> None:
    guarded: Any = guard_scorer("acme", Holding([lambda: 1]))
    shallow, deep = copy.copy(guarded), copy.deepcopy([guarded])[0]
    assert shallow.held is guarded.held
    assert (deep.held is guarded.held, deep.held == guarded.held) == (False, True)
    assert part_of(shallow) == part_of(deep) == part_of(guarded)
    arrived = copy.deepcopy(pickle.loads(pickle.dumps(guard_scorer("acme", Holding("x")))))
    assert arrived.held == "x"


class Meeting:
    """A lock before which both threads wait for each other, once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._both = threading.Barrier(2)
        self._met = threading.local()

    def meet(self) -> None:
        if not hasattr(self._met, "before"):
            self._met.before = True
            self._both.wait(10)

    def __enter__(self) -> None:
        self.meet()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class MeetsOnArrival(Holding):
    meet: Callable[[], None]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.meet()
        self.__dict__.update(state)


def test_threads_that_both_use_it_first_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = Meeting()
    monkeypatch.setattr(MeetsOnArrival, "meet", meeting.meet, raising=False)
    monkeypatch.setattr(boundary, "_loading", meeting, raising=False)
    it: Any = pickle.loads(pickle.dumps(guard_scorer("acme", MeetsOnArrival(["x"]))))
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: it.held, range(2))
    assert one == ["x"]
    assert one is other


def test_one_that_is_half_made_lacks_its_attributes() -> None:
    made: Any = guard_scorer("acme", Holding("x"))
    half: Any = object.__new__(type(made))
    for name in ("_inner", "_part", "_sent", "name", "held"):
        with pytest.raises(AttributeError):
            getattr(half, name)
    half.__dict__["_sent"] = pickle.dumps(made)
    with pytest.raises(AttributeError, match="_part"):
        _ = half.held
    assert not isinstance(half, Holding)


def test_what_refers_to_itself_through_its_wrapping_can_be_copied() -> None:
    offered = Holding(None)
    guarded: Any = guard_scorer("acme", offered)
    offered.held = [guarded]
    copied = copy.deepcopy(guarded)
    assert copied is not guarded
    assert copied.held == [copied]


def test_its_attributes_are_plain_values_there() -> None:
    class Name(str):
        __slots__ = ()

    class Version(IntEnum):
        FIRST = 1

    class Weight(float): ...

    offered: Any = types.SimpleNamespace(name=Name("it"), version=Version.FIRST, weight=Weight(2.5), score=None)
    guarded = guard_scorer("acme", offered)
    assert [type(value) for value in (guarded.name, guarded.version, guarded.weight)] == [str, int, float]
    assert (guarded.name, guarded.version, guarded.weight) == ("it", 1, 2.5)
    assert type(guard_scorer("acme", _Named("it")).weight) is float


def test_what_arrives_as_something_else_is_the_offering_plugin_s() -> None:
    class Odd(Holding):
        def __reduce__(self) -> Any:
            return int, (7,)

    for guard, method in ((guard_file_rule, "check"), (guard_scorer, "score")):
        it: Any = pickle.loads(pickle.dumps(guard("acme", Odd(1))))
        with pytest.raises(ContributionFailed, match=r"of the plugin 'acme' failed on a/b\.py: AttributeError: .*"):
            getattr(it, method)(FILE)


@pytest.mark.parametrize(
    "attributes",
    [
        *({"name": name} for name in (None, 7, "", "a\nb")),
        *({"version": version} for version in (None, "1", 1.5, True)),
        *({"weight": weight} for weight in (None, "1", True, math.nan, -1, math.inf)),
    ],
    ids=lambda it: type(it).__name__,
)
def test_attributes_that_the_contract_does_not_allow_are_found_when_it_is_gathered(attributes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        guard_scorer("acme", Offered(lambda: None, **attributes))


# --- evaluators ---


class Perplexity:
    name, version = "perplexity", 2

    def __init__(self, control_tokens: Any = ("<|fim_prefix|>",), answer: Any = None) -> None:
        self.control_tokens = control_tokens
        self.answer = answer

    def text(self, request: SampleRequest) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Quiz:
    name, version = "quiz", 2

    def __init__(self, max_tokens: Any = 8, answer: Any = None) -> None:
        self.max_tokens = max_tokens
        self.answer = answer

    def problems(self) -> Any:
        return self.is_solved("", "")

    def is_solved(self, problem: str, answer: str) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Both(Perplexity, Quiz):
    max_tokens = 8


def test_each_kind_of_evaluator_comes_through_and_is_known_in_another_process() -> None:
    text, problems = ScoredText(prompt="p", scored="s", form="text"), [Problem(id="1", prompt="p", form="chat")]
    offered: list[Any] = [Perplexity(answer=text), Quiz(answer=problems), Quiz(answer=True)]
    guarded: list[Any] = [guard_evaluator("acme", each) for each in offered]
    perplexity, quiz, verdict = pickle.loads(pickle.dumps(guarded))
    for it in (guarded[0], perplexity):
        assert (isinstance(it, LikelihoodEvaluator), isinstance(it, ProblemEvaluator)) == (True, False)
        assert (it.version, it.control_tokens, it.text(request("x = 1"))) == (2, ("<|fim_prefix|>",), text)
        assert part_of(it) == Part("acme", "evaluator", "perplexity")
    for it in (guarded[1], quiz):
        assert (isinstance(it, LikelihoodEvaluator), isinstance(it, ProblemEvaluator)) == (False, True)
        assert (it.version, it.max_tokens, it.problems()) == (2, 8, problems)
        assert part_of(it) == Part("acme", "evaluator", "quiz")
    assert verdict.is_solved("1", "2") is True


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("answer", [*RAISED, "text", object(), 1, []], ids=lambda it: type(it).__name__)
def test_an_evaluator_that_fails_is_named_with_what_it_failed_on(answer: Any) -> None:
    perplexity: Any = guard_evaluator("acme", cast("Any", Perplexity(answer=answer)))
    quiz: Any = guard_evaluator("acme", cast("Any", Quiz(answer=answer)))
    failed = r"the evaluator '{}' of the plugin 'acme' failed on {}: .".format
    with pytest.raises(ContributionFailed, match=failed("perplexity", r"one\.py")):
        perplexity.text(request("x = 1"))
    with pytest.raises(ContributionFailed, match=failed("quiz", "its problems")):
        quiz.problems()
    with pytest.raises(ContributionFailed, match=failed("quiz", "the problem 'sum'")):
        quiz.is_solved("sum", "2")


@pytest.mark.parametrize(
    ("offered", "error", "words"),
    [
        *((Quiz(most), TypeError, "no whole number") for most in (None, "8", 8.0, True)),
        *((Quiz(most), ValueError, "not 1 or more") for most in (0, -1)),
        *((Perplexity(tokens), TypeError, "no texts") for tokens in ("<|fim_prefix|>", (1,), ("",))),
        (Both(), TypeError, "a LikelihoodEvaluator and a ProblemEvaluator: make two of it"),
    ],
)
def test_evaluators_that_the_contract_does_not_allow_are_found_when_they_are_gathered(
    offered: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        guard_evaluator("acme", offered)


def test_sample_formats_name_their_control_tokens_alike() -> None:
    offered: Any = types.SimpleNamespace(name="f", version=1, control_tokens=["<|fim_prefix|>"], make=None)
    assert guard_sample_format("acme", offered).control_tokens == ("<|fim_prefix|>",)
    offered.control_tokens = "<|fim_prefix|>"
    with pytest.raises(TypeError, match=r"the sample format acme\.f has the control tokens .*, which are no"):
        guard_sample_format("acme", offered)


# --- asynchronous contributions ---


class Source:
    name = "shop"

    def __init__(self, discover: Callable[[], Any]) -> None:
        self.discover = discover


async def half_way() -> AsyncIterator[Any]:
    yield REPOSITORY
    raise SystemExit(3)


async def cancelled() -> AsyncIterator[Any]:
    yield REPOSITORY
    raise asyncio.CancelledError


async def another_type() -> AsyncIterator[Any]:
    yield REPOSITORY
    yield "owner/name"


def described(**values: Any) -> Callable[[], AsyncIterator[Any]]:
    async def discover() -> AsyncIterator[Any]:
        yield REPOSITORY
        yield replace(REPOSITORY, **values)

    return discover


UNFIT = [
    described(**values)
    for values in (
        {"stars": 10**10},
        {"forks": -1},
        {"size_kib": 2**63},
        {"stars": "many"},
        {"external_id": ""},
        {"external_id": "x" * 901},
        {"url": "x" * 100_001},
        {"topics": ("x" * 50_001,) * 2},
        {"pushed_at": 5},
        {"url": Markup("u")},
        {"description": Markup("d")},
    )
]
"""What the log or the table could not hold."""


async def no_iterator() -> list[Any]:
    return []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("discover", [half_way, cancelled, another_type, *UNFIT, no_iterator, lambda: [REPOSITORY]])
async def test_a_source_that_fails_is_named_and_what_came_before_is_kept(discover: Callable[[], Any]) -> None:
    found = []
    with pytest.raises(ContributionFailed, match="the source 'shop' of the plugin 'acme'"):
        async for repository in cast("RepositorySource", guard_source("acme", Source(discover))).discover():
            found.append(repository)  # noqa: PERF401 - up to the failure
    assert found == ([REPOSITORY] if discover in (half_way, cancelled, another_type, *UNFIT) else [])


class Paged:
    name = "shop"

    async def accounts(self, context: object) -> list[str]:
        return ["one"]

    async def plan(self, want: object, context: object) -> list[Any]:
        return []

    def open(self, account: str, context: object) -> Any: ...


class Forecasting(Paged):
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def forecast(self, want: object, slices: object, context: object) -> Any:
        return self._answer


FORECAST = Forecast(least=2, most=10, spacing=timedelta(seconds=2), rate="the anonymous rate")


async def forecast(answer: Any) -> Any:
    guarded = guard_source("acme", Forecasting(answer))
    assert isinstance(guarded, ForecastingSource)
    return await guarded.forecast(cast("Any", None), [], cast("Any", None))


async def test_a_forecast_comes_through_from_a_source_that_has_one() -> None:
    assert await forecast(FORECAST) == FORECAST
    assert await forecast(replace(FORECAST, most=None)) == replace(FORECAST, most=None)
    assert not isinstance(guard_source("acme", cast("PagedSource", Paged())), ForecastingSource)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        replace(FORECAST, least=-1),
        replace(FORECAST, most=1),
        replace(FORECAST, least=cast("int", "2")),
        replace(FORECAST, spacing=timedelta(seconds=-1)),
        replace(FORECAST, spacing=cast("timedelta", 2)),
        replace(FORECAST, rate="a\0b"),
    ],
)
async def test_a_forecast_that_says_nothing_is_the_source_s_failure(answer: Any) -> None:
    with pytest.raises(ContributionFailed, match="the source 'shop' of the plugin 'acme' failed on its forecast"):
        await forecast(answer)


class Index:
    name = "fast"

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    async def index(self, documents: object) -> None:
        self._act()

    async def remove(self, versions: object) -> None:
        self._act()

    async def search(
        self,
        query: str,
        limit: int,
        *,
        where: SearchFilter | None = None,
        sort: SearchSort = "relevance",
        after: str | None = None,
    ) -> Any:
        assert (where, sort, after) in ((None, "relevance", None), (SearchFilter(min_stars=3), "name", "there"))
        return self._act()


async def test_a_search_index_that_fails_is_named_unless_it_asks_for_later() -> None:
    for error in (ValueError("bad"), SystemExit(1), asyncio.CancelledError()):
        index = guard_search_index("acme", Index(raising(error)))
        for call in (index.index([]), index.remove({}), index.search("q", 1)):
            with pytest.raises(ContributionFailed, match="the search index 'fast' of the plugin 'acme'"):
                await call
    with pytest.raises(RetryLater):
        await guard_search_index("acme", Index(raising(RetryLater("away", after=timedelta(1))))).index([])
    for answer in (None, "text", [1]):
        with pytest.raises(ContributionFailed):
            await guard_search_index("acme", Index(answering(answer))).search("q", 1)
    guarded = guard_search_index("acme", Index(answering([])))
    assert await guarded.search("q", 1, where=SearchFilter(min_stars=3), sort="name", after="there") == []


async def test_a_time_limit_of_the_caller_is_no_failure_of_the_contribution() -> None:
    class Slow(Index):
        async def index(self, documents: object) -> None:
            await anyio.sleep_forever()

    index = guard_search_index("acme", Slow(lambda: None))
    with anyio.move_on_after(0.01) as scope:
        await index.index([])
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await index.index([])


async def test_an_executor_answers_as_often_as_it_is_asked_and_functions_fail_for_themselves() -> None:
    class Short:
        async def run(self, function: Callable[..., Any], *arguments: object) -> Any:
            return function(*arguments)

        async def map(self, function: Callable[..., Any], items: Any, *constants: object) -> list[Any]:
            return [function(item) for item in items[1:]]

        async def __aenter__(self) -> Any:
            raise SystemExit(1)

        async def __aexit__(self, *_: object) -> None: ...

    executor = guard_executor("acme", "far", Short())
    with pytest.raises(ContributionFailed, match="the executor 'far' of the plugin 'acme'"):
        await executor.map(str, [1, 2])
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: 1 / 0)
    with pytest.raises(ContributionFailed):
        async with executor:
            pass

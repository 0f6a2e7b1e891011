"""What a section makes of its data is checked, in time, and whatever goes wrong names the plugin that offers it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from codelupe import Database, Metric, StatusSection, Table
from codelupe.contracts.boundary import ContributionFailed
from codelupe.errors import DatabaseUnavailable
from codelupe.host import status_sections
from codelupe.host.status_sections import guard_status_section
from tests.processes import HANGS


async def read(database: Database) -> Any: ...


def section(
    counts: Callable[[Any], Any] = lambda data: [], tables: Callable[[Any], Any] | None = None
) -> StatusSection:
    return guard_status_section("stranger", StatusSection(name="odd", read=read, counts=counts, tables=tables), None)


def raiser(error: BaseException) -> Callable[[Any], Any]:
    def make(data: Any) -> Any:
        raise error

    return make


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit


async def never(data: Any) -> Any: ...


ANSWERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "raises": (raiser(ValueError("no\nnumbers")), "ValueError: no numbers"),
    "leaves": (raiser(SystemExit(3)), "SystemExit: 3"),
    "interrupts": (raiser(KeyboardInterrupt()), "KeyboardInterrupt"),
    "cancels": (raiser(asyncio.CancelledError()), "CancelledError"),
    "group": (raiser(BaseExceptionGroup("several", [SystemExit(5)])), "SystemExit: 5"),
    "stops": (raiser(StopIteration()), "StopIteration"),
    "mute": (raiser(Mute()), "Mute"),
    "nothing": (lambda data: None, "TypeError"),
    "text": (lambda data: "abc", "'abc'"),
    "endless": (lambda data: itertools.repeat(("a", 1, "b")), "more than 10,000"),
    "asynchronous": (never, "it is asynchronous"),
}
LINES: dict[str, tuple[Callable[[Any], Any], str]] = {
    **ANSWERS,
    "short": (lambda data: [("a", 1)], "('a', 1)"),
    "swapped": (lambda data: [(1, "a", "b")], "(1, 'a', 'b')"),
    "no number": (lambda data: [("a", "1", "b")], "('a', '1', 'b')"),
    "digits": (lambda data: [("a", 10**5000, "b")], "ValueError"),
}
TABLES: dict[str, tuple[Callable[[Any], Any], str]] = {
    **ANSWERS,
    "no table": (lambda data: [5], "answered 5"),
    "title": (lambda data: [Table(title=5, columns=["a"], rows=[])], "is 5"),  # type: ignore[arg-type]
    "column": (lambda data: [Table(title="t", columns=[None], rows=[])], "is None"),  # type: ignore[list-item]
    "ragged": (lambda data: [Table(title="t", columns=["a", "b"], rows=[[1, 2], [3]])], "the row [3]"),
    "cell": (lambda data: [Table(title="t", columns=["a"], rows=[[b"x"]])], "b'x'"),
    "digits": (lambda data: [Table(title="t", columns=["a"], rows=[[10**5000]])], "ValueError"),
    "rows": (lambda data: [Table(title="t", columns=["a"], rows=itertools.repeat([1]))], "10,000"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", LINES)
def test_what_goes_wrong_with_the_lines_is_said_in_one(name: str) -> None:
    counts, cause = LINES[name]
    with pytest.raises(ContributionFailed) as failure:
        section(counts).counts({})
    said = failure.value.message
    assert "the status section 'odd' of the plugin 'stranger' failed on its lines" in said
    assert (cause in said, "\n" in said) == (True, False), said


@pytest.mark.parametrize("name", TABLES)
def test_what_goes_wrong_with_the_tables_is_said_in_one(name: str) -> None:
    tables, cause = TABLES[name]
    guarded = section(tables=tables)
    assert guarded.tables is not None
    with pytest.raises(ContributionFailed) as failure:
        guarded.tables({})
    said = failure.value.message
    assert "the status section 'odd' of the plugin 'stranger' failed on its tables" in said
    assert (cause in said, "\n" in said) == (True, False), said


def test_what_has_not_ended_in_time_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_sections, "SECTION_SECONDS", 0.01)
    end = threading.Event()
    try:
        with pytest.raises(ContributionFailed, match=r"not done within 0\.01 s"):
            section(lambda data: end.wait(HANGS)).counts({})
    finally:
        end.set()


@pytest.mark.parametrize("kind", ["counts", "tables"])
def test_what_has_not_ended_is_not_called_again_until_it_has(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(status_sections, "SECTION_SECONDS", 0.01)
    end = threading.Event()
    calls: list[Any] = []

    def block(data: Any) -> list[Any]:
        calls.append(data)
        end.wait(HANGS)
        return []

    guarded = section(**{kind: block})
    call = getattr(guarded, kind)
    try:
        with pytest.raises(ContributionFailed, match=r"not done within 0\.01 s"):
            call("first")
        for _ in range(3):
            with pytest.raises(ContributionFailed, match=r"still not done since \d\d:\d\d:\d\d$"):
                call("again")
        assert calls == ["first"]
    finally:
        end.set()
    for thread in threading.enumerate():
        if thread.name == "plugin":
            thread.join(HANGS)
    monkeypatch.setattr(status_sections, "SECTION_SECONDS", HANGS)
    assert (call("anew"), calls) == ([], ["first", "anew"])


def test_no_database_is_away_from_what_has_none() -> None:
    with pytest.raises(ContributionFailed, match="failed on its lines: it is gone"):
        section(raiser(DatabaseUnavailable("it is gone"))).counts({})


class Odd(str):
    """A text that fails when it is shown."""

    __slots__ = ()

    def fail(self, *_: object) -> Any:
        raise ValueError

    __str__ = __repr__ = __format__ = __len__ = __iter__ = __hash__ = isprintable = strip = translate = fail


class Counted(int):
    def fail(self, *_: object) -> Any:
        raise ValueError

    __str__ = __repr__ = __format__ = __int__ = fail


class Measured(float):
    __round__ = __format__ = Counted.fail


class Exact(Decimal):
    shown = 0

    def __str__(self) -> str:
        self.shown += 1
        return "2.5" if self.shown == 1 else Counted.fail(self)  # type: ignore[arg-type]


def test_what_is_shown_is_of_python_s_own_types() -> None:
    table = Table(title=Odd("t"), columns=[Odd("a")], rows=[[Odd("x")], [Counted(1)], [Measured(1.5)], [Exact()]])
    odd = StatusSection(name=Odd("odd"), read=read, counts=lambda _: [(Odd("a"), Counted(2), Odd("b"))])
    guarded = guard_status_section("stranger", replace(odd, tables=lambda _: [table]), None)
    assert guarded.tables is not None
    [shown], [line] = guarded.tables({}), guarded.counts({})
    assert line == ("a", 2, "b")
    assert shown == Table(title="t", columns=["a"], rows=[["x"], [1], [1.5], ["2.5"]])
    assert [type(each) for each in (guarded.name, *line, shown.title, *shown.columns)] == [str, str, int, str, str, str]
    assert [type(cell) for [cell] in shown.rows] == [str, int, float, str]


def test_what_is_right_comes_through() -> None:
    table = Table(title="t", columns=("a", "b"), rows=(("x", None), (1.5, Decimal("2.50"))))
    guarded = section(lambda data: [("files", len(data), "3 good")], lambda data: [table])
    assert guarded.tables is not None
    assert guarded.counts({"a": 1}) == [("files", 1, "3 good")]
    assert guarded.tables({}) == [Table(title="t", columns=["a", "b"], rows=[["x", None], [1.5, Decimal("2.50")]])]


def metrics_section(*metrics: Any) -> StatusSection:
    it = StatusSection(name="odd", read=read, counts=lambda data: [], metrics=lambda data: metrics)
    return guard_status_section("stranger", it, None)


def metric(*samples: Any, name: Any = "size") -> Metric:
    return Metric(name=name, meaning="How large it is.", samples=samples)


@pytest.mark.parametrize(
    ("metrics", "fault"),
    [
        ([1], "where a Metric belongs"),
        ([metric(({}, "many"))], "'many', which is no number"),
        ([metric(({}, True))], "True, which is no number"),
        ([metric(({"a": "1"}, 1), ({"b": "1"}, 1))], "different labels"),
        ([metric(({"not-so": "1"}, 1))], "the name 'not-so'"),
        ([metric(name="Size")], "the name 'Size'"),
        ([metric(), metric()], "the same name"),
        ([metric(({"a": "1"},))], "ValueError"),
    ],
)
def test_metrics_that_prometheus_could_not_read_are_the_plugin_s_failure(metrics: list[Any], fault: str) -> None:
    made = metrics_section(*metrics).metrics
    assert made is not None
    with pytest.raises(ContributionFailed, match="its metrics") as failed:
        made(None)
    assert fault in failed.value.message
    assert failed.value.part.plugin == "stranger"


def test_good_metrics_come_through() -> None:
    made = metrics_section(metric(({"state": "new"}, Decimal("1.5")), ({"state": "old"}, 2))).metrics
    assert made is not None
    [found] = made(None)
    assert found.samples == [({"state": "new"}, 1.5), ({"state": "old"}, 2.0)]
    assert section().metrics is None

"""What contributions may not answer, and how the answer is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest

from codelupe import Gone, Page, Problem, Repository, Sample, ScoredText, Slice, faults_of_repository
from codelupe.contracts.answers import (
    faults_of_accounts,
    faults_of_page,
    faults_of_problems,
    faults_of_sample,
    faults_of_scored_text,
    faults_of_slices,
    faults_of_verdict,
)

REPOSITORY = Repository(source="shop", external_id="1", full_name="o/n", url="https://host/o/n", revision="r1")
AHEAD = timezone(timedelta(hours=12))


def generated() -> Iterator[Any]:
    yield REPOSITORY


@pytest.mark.parametrize(
    "page",
    [
        Page(),
        Page(repositories=[REPOSITORY], next="2", total=7),
        Page(repositories=(REPOSITORY,), total=0, note="\N{ROCKET}"),
        Page(instead=[Slice(query="a"), Slice(query="b", total=2**31 - 1)]),
        Page(gone=[Gone(external_id="1", reason="deleted")]),
    ],
    ids=str,
)
def test_what_a_page_may_hold(page: Page) -> None:
    assert faults_of_page(page) == ""


@pytest.mark.parametrize(
    ("page", "word"),
    [
        (None, "a Page"),
        (Page(repositories=cast("Any", generated())), "a list of Repository"),
        (Page(repositories=cast("Any", None)), "a list of Repository"),
        (Page(repositories=[REPOSITORY, cast("Any", {"full_name": "o/n"})]), "a Repository"),
        (Page(repositories=[replace(REPOSITORY, stars=-1)]), "stars -1"),
        (Page(gone=cast("Any", generated())), "a list of Gone"),
        (Page(gone=[cast("Any", "1")]), "a Gone"),
        (Page(gone=[Gone(external_id="1", reason=cast("Any", "sold"))]), "'sold'"),
        (Page(instead=cast("Any", generated())), "a list of Slice"),
        (Page(instead=[Slice(query="a"), Slice(query="a")]), "same query"),
        (Page(instead=[Slice(query="a", total=2**31)]), "2147483648"),
        (Page(instead=[Slice(query="a", total=cast("Any", "7"))]), "'7'"),
        (Page(repositories=[REPOSITORY], instead=[Slice(query="a")]), "slices in its place"),
        (Page(total=-1), "-1"),
        (Page(total=2**31), "2147483648"),
        (Page(total=cast("Any", 2.0)), "2.0"),
        (Page(total=cast("Any", True)), "True"),
        (Page(next="a\0b"), "NUL"),
        (Page(next=cast("Any", 2)), "2 is no text"),
        (Page(note="a\0b"), "NUL"),
        (Page(note=cast("Any", ValueError("x"))), "is no text"),
    ],
)
def test_what_a_page_may_not_hold(page: Any, word: str) -> None:
    assert word in faults_of_page(page)


@pytest.mark.parametrize("page", [Page(next="\ud800"), Page(note="\udfff")])
def test_what_cannot_be_written_raises(page: Page) -> None:
    with pytest.raises(UnicodeEncodeError):
        faults_of_page(page)


@pytest.mark.parametrize("name", ["pushed_at", "created_at"])
@pytest.mark.parametrize(
    ("time", "word"),
    [
        (datetime(2026, 1, 1), "without a time zone"),  # noqa: DTZ001 - what it is about
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))), "no time by UTC"),
        (datetime.min.replace(tzinfo=AHEAD), "no time by UTC"),
    ],
    ids=str,
)
def test_times_that_do_not_come_back_from_the_database_as_they_were(name: str, time: datetime, word: str) -> None:
    changes: dict[str, Any] = {name: time}
    assert word in faults_of_repository(replace(REPOSITORY, **changes))


def test_times_of_any_zone_do() -> None:
    for time in (datetime(2026, 1, 1, tzinfo=AHEAD), datetime.max.replace(tzinfo=UTC), None):
        assert faults_of_repository(replace(REPOSITORY, pushed_at=time)) == ""


@pytest.mark.parametrize(
    ("accounts", "word"),
    [
        ([], "one at least"),
        ("ann", "a list of names"),
        (None, "a list of names"),
        ([None], "is no text"),
        (["ann", "bob", "ann"], "same name"),
        (["a\0b"], "NUL"),
    ],
)
def test_what_accounts_may_not_be(accounts: Any, word: str) -> None:
    assert word in faults_of_accounts(accounts)
    assert faults_of_accounts(["ann", "bob"]) == ""


def test_slices_are_checked_where_they_are_planned_as_where_they_are_parted() -> None:
    assert "-1" in faults_of_slices([Slice(query="a", total=-1)])


# --- samples and evaluators ---

SAMPLE = Sample(prompt="p", answer="a", form="chat", ends=True, is_cut=False)
TEXT = ScoredText(prompt="p", scored="s", form="text")
PROBLEM = Problem(id="1", prompt="p", form="chat")
ODD: Any = object()


def changed(what: Any, **changes: object) -> Any:
    """The same with values that its types do not allow."""
    return replace(what, **changes)


@pytest.mark.parametrize(
    ("sample", "word"),
    [
        ("text", "a Sample or None"),
        (changed(SAMPLE, prompt=None), "is no text"),
        (changed(SAMPLE, answer=""), "answer is empty"),
        (changed(SAMPLE, form="code"), "the sample's form is 'code'"),
        (changed(SAMPLE, ends=1), "no truth values"),
    ],
)
def test_what_a_sample_may_not_be(sample: Any, word: str) -> None:
    assert word in faults_of_sample(sample)
    assert faults_of_sample(SAMPLE) == faults_of_sample(None) == ""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("text", "a ScoredText or None"),
        (PROBLEM, "a ScoredText or None"),
        (changed(TEXT, prompt=7), "7 is no text"),
        (changed(TEXT, lead=None), "None is no text"),
        (changed(TEXT, scored="\0"), "NUL"),
        (changed(TEXT, scored=""), "what is to be scored is empty"),
        (changed(TEXT, form=None), "the text's form is None, neither 'chat' nor 'text'"),
    ],
)
def test_what_a_scored_text_may_not_be(text: Any, word: str) -> None:
    assert word in faults_of_scored_text(text)
    assert faults_of_scored_text(changed(TEXT, lead="l")) == faults_of_scored_text(None) == ""


@pytest.mark.parametrize(
    ("problems", "word"),
    [
        (None, "a list of Problem"),
        ((each for each in [PROBLEM]), "a list of Problem"),
        ([], "no problems"),
        ([PROBLEM, "2"], "answered '2', where a Problem belongs"),
        ([changed(PROBLEM, id=2)], "2 is no text"),
        ([changed(PROBLEM, id="")], "an empty id"),
        ([PROBLEM, replace(PROBLEM, id="2"), replace(PROBLEM, prompt="q")], "two problems have the id '1'"),
        ([changed(PROBLEM, prompt=None)], "None is no text"),
        ([changed(PROBLEM, form=["chat"])], "the problem's form is ['chat']"),
    ],
)
def test_what_problems_may_not_be(problems: Any, word: str) -> None:
    assert word in faults_of_problems(problems)
    assert faults_of_problems((PROBLEM, replace(PROBLEM, id="2"))) == ""


@pytest.mark.parametrize("verdict", [None, 1, 0.5, "yes", ODD])
def test_what_a_verdict_may_not_be(verdict: Any) -> None:
    assert "where True or False belongs" in faults_of_verdict(verdict)
    assert faults_of_verdict(True) == faults_of_verdict(False) == ""

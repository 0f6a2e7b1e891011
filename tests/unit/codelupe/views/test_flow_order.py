"""Stages are shown as the events flow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from codelupe import Subscription
from codelupe.views.flow_order import flow_order
from codelupe_events import Event, FilesExtracted, FilesScored, RepoAccepted, RepoCloned, RepoDiscovered

CHAIN: list[type[Event]] = [RepoDiscovered, RepoAccepted, RepoCloned, FilesExtracted, FilesScored]


def handles(name: str, consumes: type[Event], *emits: type[Event]) -> Subscription:
    async def handle(event: object, context: object) -> None: ...

    return Subscription(name=name, events=(consumes,), emits=emits, handler=handle)


def test_a_stage_comes_after_those_whose_events_it_consumes() -> None:
    stages = [
        handles("score", FilesExtracted, FilesScored),
        handles("extract", RepoCloned, FilesExtracted),
        handles("clone", RepoAccepted, RepoCloned),
        handles("judge", RepoDiscovered, RepoAccepted),
    ]
    assert flow_order(stages) == ["judge", "clone", "extract", "score"]


def test_stages_that_have_nothing_to_do_with_each_other_stay_as_they_are() -> None:
    stages = [handles(name, RepoDiscovered) for name in "cab"]
    assert flow_order(stages) == ["c", "a", "b"]
    later = [
        handles("second", RepoAccepted),
        handles("b", RepoDiscovered),
        handles("first", RepoDiscovered, RepoAccepted),
    ]
    assert flow_order(later) == ["b", "first", "second"]


def test_a_stage_that_feeds_itself_is_no_circle() -> None:
    assert flow_order([handles("b", RepoCloned, RepoCloned), handles("a", RepoAccepted, RepoCloned)]) == [
        "a",
        "b",
    ]


def test_in_a_circle_stages_stay_as_they_are() -> None:
    stages = [handles("b", RepoCloned, RepoAccepted), handles("a", RepoAccepted, RepoCloned)]
    assert flow_order(stages) == ["b", "a"]


def test_there_may_be_no_stages() -> None:
    assert flow_order([]) == []


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12).map(
        lambda pairs: [(min(pair), max(pair)) for pair in pairs]
    )
)
def test_whatever_the_stages_each_is_named_once_after_its_sources(pairs: list[tuple[int, int]]) -> None:
    stages = [
        handles(f"{number}", CHAIN[consumes], *([CHAIN[emits]] if emits != consumes else []))
        for number, (consumes, emits) in enumerate(pairs)
    ]
    order = flow_order(stages)
    assert sorted(order) == sorted(one.name for one in stages)
    for source in stages:
        for target in stages:
            if set(source.emits) & set(target.events):
                assert order.index(source.name) < order.index(target.name)

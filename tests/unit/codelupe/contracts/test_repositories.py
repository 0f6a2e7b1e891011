"""One description of a repository: the record, the event and the row spell the same fields."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe import Database, Repository, load_queries
from codelupe_events import RepoDiscovered

CRAWLER = load_queries("codelupe_sql", "crawler")
FULL = Repository(
    source="local",
    external_id="a:b",
    full_name="owner/name",
    url="https://host/owner/name",
    revision="r1",
    description="Says what it is.",
    language="Go",
    licence="MIT",
    stars=1,
    forks=2,
    size_kib=3,
    topics=("x", "y"),
    is_fork=True,
    is_archived=True,
    pushed_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    default_branch="trunk",
    created_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    watchers=4,
    is_template=True,
    is_mirror=True,
    is_disabled=True,
    terms=("web framework",),
    handle="R_kgDO",
)
"""No field has its default, so that one which is lost on the way shows."""
LISTS = {"topics": ["x", "y"], "terms": ["web framework"]}
"""As the database gives them."""


def test_the_example_leaves_no_field_at_its_default() -> None:
    assert [each.name for each in fields(Repository) if getattr(FULL, each.name) == each.default] == []


def test_the_record_and_the_event_have_the_same_fields_but_for_the_id() -> None:
    of_record = {each.name for each in fields(Repository)} - {"external_id", "handle"}
    assert of_record == set(RepoDiscovered.__struct_fields__) - {"repository_id"}


def test_a_repository_survives_the_way_through_its_event() -> None:
    event = FULL.to_event(RepoDiscovered)
    assert event.repository_id == FULL.id == "local:a:b"
    assert Repository.from_event(event) == replace(FULL, handle=None)


@given(event=st.from_type(RepoDiscovered))
def test_an_event_survives_the_way_through_the_repository(event: RepoDiscovered) -> None:
    known = msgspec.structs.replace(event, repository_id=f"{event.source}:{event.repository_id}")
    assert Repository.from_event(known).to_event(RepoDiscovered) == known


@pytest.mark.anyio
async def test_every_field_has_a_column_and_is_written_to_it(database: Database) -> None:
    row = FULL.to_row()
    assert set(row) == {"id", *(each.name for each in fields(Repository))} - {"external_id"}
    await database.execute(CRAWLER.write_repositories, [row], [FULL.id])
    stored = await database.fetchrow("select * from repositories")
    assert stored is not None
    assert {name: stored[name] for name in row} == row | LISTS


@pytest.mark.anyio
async def test_a_new_revision_replaces_every_field_and_what_was_decided(database: Database) -> None:
    first = Repository(source="local", external_id="a:b", full_name="old", url="u", revision="r0").to_row()
    await database.execute(CRAWLER.write_repositories, [first], [FULL.id])
    await database.execute("update repositories set state = 'scored', score = 3, reasons = '[1]', path = 'clone'")
    await database.execute(CRAWLER.write_repositories, [FULL.to_row()], [FULL.id])
    stored = await database.fetchrow("select * from repositories")
    assert stored is not None
    assert {name: stored[name] for name in FULL.to_row()} == FULL.to_row() | {
        "topics": ["x", "y"],
        "terms": ["web framework"],
    }
    assert (stored["state"], stored["score"], stored["reasons"], stored["path"]) == ("discovered", None, [], "clone")


@pytest.mark.anyio
async def test_moved_metadata_replaces_every_field_and_leaves_what_was_decided(database: Database) -> None:
    first = Repository(source="local", external_id="a:b", full_name="old", url="u", revision="r1").to_row()
    await database.execute(CRAWLER.write_repositories, [first], [FULL.id])
    await database.execute("update repositories set state = 'scored', score = 3, reasons = '[1]', path = 'clone'")
    await database.execute(CRAWLER.write_repositories, [FULL.to_row()], [])
    stored = await database.fetchrow("select * from repositories")
    assert stored is not None
    assert {name: stored[name] for name in FULL.to_row()} == FULL.to_row() | LISTS
    assert (stored["state"], stored["score"], stored["reasons"], stored["path"]) == ("scored", 3, [1], "clone")
    assert Repository.from_row(stored) == FULL

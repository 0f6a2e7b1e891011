"""The Postgres search index: its own behaviour, and its filling by a real daemon."""

from __future__ import annotations

from dataclasses import replace

import pytest

import codelupe_search
from codelupe import Database, Repository
from codelupe_events import RepoDiscovered, RepoForgotten
from codelupe_search.postgres import PostgresIndex
from tests.conftest import RunUntilIdle

pytestmark = pytest.mark.anyio

BASE = Repository(source="test", external_id="0", full_name="owner/base", url="https://host", revision="r")
REPOSITORIES = [
    replace(BASE, external_id="1", full_name="scikit-learn/scikit-learn", description="Machine learning in Python"),
    replace(BASE, external_id="2", full_name="pallets/flask", topics=("web", "wsgi"), language="Python", stars=60),
    replace(BASE, external_id="3", full_name="someone/toy", description="A toy beside flask", stars=9000),
    replace(BASE, external_id="4", full_name="tokio-rs/tokio", description="Async for Rust", language="Rust", stars=20),
    replace(BASE, external_id="5", full_name="python/typing_extensions", language="Python"),
    replace(BASE, external_id="6", full_name="zope/zope.interface", language="Python", stars=3),
]


@pytest.fixture
async def index(database: Database) -> PostgresIndex:
    it = PostgresIndex(database)
    await it.index(REPOSITORIES)
    return it


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("flask", ["pallets/flask", "someone/toy"]),
        ("wsgi", ["pallets/flask"]),
        ("scikit-learn", ["scikit-learn/scikit-learn"]),
        ("scikit", ["scikit-learn/scikit-learn"]),
        ("tokio-rs/tokio", ["tokio-rs/tokio"]),
        ("pallets/flask", ["pallets/flask"]),
        ("TOKIO", ["tokio-rs/tokio"]),
        ("typing_extensions", ["python/typing_extensions"]),
        ("extensions", ["python/typing_extensions"]),
        ("zope.interface", ["zope/zope.interface"]),
        ("interface", ["zope/zope.interface"]),
        ('"machine learning"', ["scikit-learn/scikit-learn"]),
        ('"learning machine"', []),
        ("flask -toy", ["pallets/flask"]),
        ("tokio or wsgi", ["pallets/flask", "tokio-rs/tokio"]),
        ("rust", ["tokio-rs/tokio"]),
        ("", []),
        ("'; drop table repository_search; --", []),
        ("fl\x00ask \ud800", []),
        ("!&|<->():*", []),
    ],
)
async def test_queries_in_the_words_of_a_web_search(index: PostgresIndex, query: str, expected: list[str]) -> None:
    hits = await index.search(query, 10)
    assert sorted(hit.full_name for hit in hits) == sorted(expected)
    assert [hit.rank for hit in hits] == sorted((hit.rank for hit in hits), reverse=True)


async def test_a_name_outweighs_a_description_and_stars_decide_between_equals(
    index: PostgresIndex, database: Database
) -> None:
    assert [hit.full_name for hit in await index.search("flask", 10)] == ["pallets/flask", "someone/toy"]
    twins = [
        replace(BASE, external_id=f"t{stars}", full_name=f"o/twin{stars}", description="equal", stars=stars)
        for stars in (5, 70, 6)
    ]
    await index.index(twins)
    assert [hit.stars for hit in await index.search("equal", 2)] == [70, 6]


async def test_indexing_again_replaces(index: PostgresIndex, database: Database) -> None:
    await index.index([*REPOSITORIES, replace(REPOSITORIES[1], full_name="pallets/renamed", description=None)])
    assert await database.fetchval("select count(*) from repository_search") == len(REPOSITORIES)
    [hit] = await index.search("renamed", 10)
    assert (hit.repository_id, hit.language, hit.stars, hit.description) == ("test:2", "Python", 60, None)
    await index.index([])


async def test_a_description_of_any_length_is_indexed(index: PostgresIndex) -> None:
    long = " ".join(f"word{number}" for number in range(300_000))
    await index.index([replace(BASE, external_id="7", description=long, topics=(long,))])
    assert len(await index.search("word7", 10)) == 1


async def test_discovered_repositories_can_be_found(run_until_idle: RunUntilIdle, database: Database) -> None:
    events = [
        RepoDiscovered(
            repository_id="local:a:b", source="local", full_name=name, url="u", revision=name, topics=("http",), stars=4
        )
        for name in ("pypi/before", "pypi/after")
    ]
    await run_until_idle({"search": codelupe_search}, events=events)
    [hit] = await PostgresIndex(database).search("http", 10)
    assert (hit.repository_id, hit.full_name, hit.stars) == ("local:a:b", "pypi/after", 4)


@pytest.mark.parametrize("at_once", [True, False])
async def test_forgotten_repositories_can_be_found_no_more(
    run_until_idle: RunUntilIdle, database: Database, at_once: bool
) -> None:
    found = [
        RepoDiscovered(repository_id=f"local:{n}", source="local", full_name=f"pypi/{n}", url="u", revision="1")
        for n in ("gone", "kept")
    ]
    forgotten = RepoForgotten(
        repository_id="local:gone",
        full_name="pypi/gone",
        url="u",
        by="me",
        reason="",
        files=0,
        kept_without_content=0,
        models=(),
    )
    if not at_once:
        await run_until_idle({"search": codelupe_search}, events=found)
    await run_until_idle({"search": codelupe_search}, events=[*found, forgotten] if at_once else [forgotten])
    assert [hit.full_name for hit in await PostgresIndex(database).search("pypi", 10)] == ["pypi/kept"]

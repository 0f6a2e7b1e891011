"""What every search index does: one suite, exercised on Postgres and on a server that speaks as Elasticsearch."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from codelupe import FOR_EVER, Database, SearchFilter, SearchIndex, SearchSort
from codelupe_search.cursor import InvalidCursor
from tests.elasticsearch import Server
from tests.search_indexes import KINDS, documents, make_index, repository

pytestmark = pytest.mark.anyio

REPOSITORIES = [
    repository(1, full_name="scikit-learn/scikit-learn", description="Machine learning in Python"),
    repository(2, full_name="pallets/flask", topics=("web", "wsgi"), language="Python", stars=60),
    repository(3, full_name="someone/toy", description="A toy beside flask", stars=9000),
    repository(4, full_name="tokio-rs/tokio", description="Async for Rust", language="Rust", stars=20),
    repository(5, full_name="python/typing_extensions", language="Python"),
    repository(6, full_name="zope/zope.interface", language="Python", stars=3),
    repository(7, full_name="tokio-rs/axum", topics=("http", "web service"), language="Rust", stars=18_000),
    repository(8, full_name="fastapi/fastAPI", topics=("async", "web"), language="Python", stars=70_000),
    repository(9, full_name="кто-то/Жук", description="Ловит ошибки", language="C++", stars=1),
]


@pytest.fixture(params=KINDS)
async def index(request: pytest.FixtureRequest, database: Database, elasticsearch_server: Server) -> SearchIndex:
    return make_index(request.param, database, elasticsearch_server)


async def names(index: SearchIndex, query: str, **options: Any) -> list[str]:
    return [hit.full_name for hit in await index.search(query, 100, **options)]


# --- what is found ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("flask", ["pallets/flask", "someone/toy"]),
        ("wsgi", ["pallets/flask"]),
        ("scikit-learn", ["scikit-learn/scikit-learn"]),
        ("scikit", ["scikit-learn/scikit-learn"]),
        ("tokio-rs/tokio", ["tokio-rs/tokio"]),
        ("axum", ["tokio-rs/axum"]),
        ("tokio", ["tokio-rs/axum", "tokio-rs/tokio"]),
        ("fastapi", ["fastapi/fastAPI"]),
        ("FastAPI", ["fastapi/fastAPI"]),
        ("TOKIO axum", ["tokio-rs/axum"]),
        ("pallets/flask", ["pallets/flask"]),
        ("typing_extensions", ["python/typing_extensions"]),
        ("extensions", ["python/typing_extensions"]),
        ("zope.interface", ["zope/zope.interface"]),
        ("interface", ["zope/zope.interface"]),
        ('"machine learning"', ["scikit-learn/scikit-learn"]),
        ('"learning machine"', []),
        ('"web service"', ["tokio-rs/axum"]),
        ('"http web"', []),
        ('"axum http"', []),
        ("flask -toy", ["pallets/flask"]),
        ('web -"web service"', ["pallets/flask", "fastapi/fastAPI"]),
        ("wsgi or interface", ["pallets/flask", "zope/zope.interface"]),
        ("web python or жук", ["pallets/flask", "fastapi/fastAPI", "кто-то/Жук"]),
        ("or wsgi or", ["pallets/flask"]),
        ("-python -rust", ["someone/toy", "кто-то/Жук"]),
        ("-python", ["someone/toy", "кто-то/Жук", "tokio-rs/tokio", "tokio-rs/axum"]),
        ("rust", ["tokio-rs/tokio", "tokio-rs/axum"]),
        ("ЛОВИТ", ["кто-то/Жук"]),
        ("nothing", []),
        ("", []),
        ('"', []),
        ('"unclosed flask', []),
        ("'; drop table repository_search; --", []),
        ("fl\x00ask \ud800", []),
        ("!&|<->():*", []),
        ("flask\\' | 'x':*", []),
    ],
)
async def test_queries_in_the_words_of_a_web_search(index: SearchIndex, query: str, expected: list[str]) -> None:
    await index.index(documents(*REPOSITORIES))
    hits = await index.search(query, 100)
    assert sorted(hit.full_name for hit in hits) == sorted(expected)
    assert [hit.rank for hit in hits] == sorted((hit.rank for hit in hits), reverse=True)


async def test_a_name_outweighs_a_topic_that_a_description_that_a_language(index: SearchIndex) -> None:
    await index.index(
        documents(
            repository(1, language="Zig"),
            repository(2, description="written in Zig"),
            repository(3, topics=("zig",)),
            repository(4, full_name="zig/lang"),
        )
    )
    hits = await index.search("zig", 10)
    assert [hit.repository_id for hit in hits] == ["test:4", "test:3", "test:2", "test:1"]
    assert [hit.rank / hits[-1].rank for hit in hits] == pytest.approx([10, 4, 2, 1])


async def test_stars_decide_between_equals_and_ids_between_those(index: SearchIndex) -> None:
    stars = {"b": 5, "d": 70, "a": 5, "c": 6}
    await index.index(documents(*(repository(id_, description="equal", stars=n) for id_, n in stars.items())))
    assert [hit.repository_id for hit in await index.search("equal", 10)] == ["test:d", "test:c", "test:a", "test:b"]


async def test_a_hit_shows_what_the_source_says(index: SearchIndex) -> None:
    pushed_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    shown = replace(REPOSITORIES[1], licence="MIT", pushed_at=pushed_at, description="Small\x00 \ud800")
    await index.index(documents(shown))
    [hit] = await index.search("flask", 10)
    assert (hit.repository_id, hit.full_name, hit.url, hit.language) == ("test:2", "pallets/flask", shown.url, "Python")
    assert (hit.licence, hit.stars, hit.topics, hit.pushed_at) == ("MIT", 60, ("web", "wsgi"), pushed_at)
    assert hit.description == "Small\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"


async def test_texts_of_any_length_are_taken(index: SearchIndex) -> None:
    long = " ".join(f"word{number}" for number in range(300_000))
    endless = "x" * 100_000
    await index.index(
        documents(
            repository(1, description=long, topics=(long,)),
            repository(
                2, full_name=endless, language=endless, licence=endless, topics=(endless,) * 500, stars=2**31 - 1
            ),
            repository(3, description=endless),
        )
    )
    assert await names(index, "word7") == ["owner/name1"]
    assert len(await index.search(endless[:255], 10)) == 2


# --- filters ---


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (SearchFilter(languages=("rust",)), [3, 4]),
        (SearchFilter(languages=("RUST", "c++")), [3, 4, 5]),
        (SearchFilter(topics=("ASYNC",)), [1, 3]),
        (SearchFilter(topics=("async", "web framework")), [3]),
        (SearchFilter(topics=("web",)), []),
        (SearchFilter(licences=("mit",)), [1, 2, 4]),
        (SearchFilter(licences=("Apache-2.0 OR MIT", "bsd-3-clause")), [2, 3]),
        (SearchFilter(licences=("Apache-2.0", "BSD-3-Clause")), [2, 3]),
        (SearchFilter(licences=("or",)), []),
        (SearchFilter(min_stars=10), [2, 3, 4]),
        (SearchFilter(pushed_since=datetime(2026, 1, 1, tzinfo=UTC)), [2, 3]),
        (SearchFilter(pushed_since=datetime(1970, 1, 1, tzinfo=UTC)), [1, 2, 3]),
        (SearchFilter(languages=("rust",), topics=("async",), licences=("bsd-3-clause",), min_stars=11), [3]),
        (SearchFilter(languages=("rust' or '1'='1",)), []),
    ],
)
async def test_filters(index: SearchIndex, where: SearchFilter, expected: list[int]) -> None:
    moments = [datetime(year, 1, 1, tzinfo=UTC) for year in (2025, 2026, 2027)]
    found = [
        repository(1, language="Go", topics=("Async",), licence="MIT", stars=9, pushed_at=moments[0]),
        repository(2, language="Go", licence="Apache-2.0 OR MIT", stars=10, pushed_at=moments[1]),
        repository(3, language="Rust", topics=("async", "web framework"), licence="BSD-3-Clause", stars=11,
                   pushed_at=moments[2]),
        repository(4, language="rust", licence="mit", stars=12),
        repository(5, language="C++"),
    ]  # fmt: skip
    await index.index(documents(*found))
    hits = await index.search("owner", 100, where=where)
    assert sorted(hit.repository_id for hit in hits) == [f"test:{number}" for number in expected]


# --- order and pages ---


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("relevance", [4, 2, 3, 1]), ("stars", [2, 3, 4, 1]), ("pushed", [3, 1, 2, 4]), ("name", [4, 3, 1, 2])],
)
async def test_orders(index: SearchIndex, sort: SearchSort, expected: list[int]) -> None:
    found = [
        repository(1, full_name="o/c", description="thing", stars=1, pushed_at=datetime(2025, 1, 1, tzinfo=UTC)),
        repository(2, full_name="o/D", topics=("thing",), stars=9, pushed_at=datetime(1999, 1, 1, tzinfo=UTC)),
        repository(3, full_name="o/B", description="thing", stars=9, pushed_at=datetime(2026, 1, 1, tzinfo=UTC)),
        repository(4, full_name="o/a-thing", stars=8),
    ]
    await index.index(documents(*found))
    assert [hit.repository_id for hit in await index.search("thing", 10, sort=sort)] == [f"test:{n}" for n in expected]


@pytest.mark.parametrize("sort", ["relevance", "stars", "pushed", "name"])
async def test_pages_neither_repeat_nor_miss_anything_while_others_come_and_go(
    index: SearchIndex, sort: SearchSort
) -> None:
    chance = random.Random(7)
    lasting = [
        repository(
            f"{number:03}",
            full_name=f"o/same{number % 7}",
            description="page" if number % 2 else "page and page",
            topics=("page",) if number % 3 else (),
            stars=chance.choice([0, 1, 50, 123_456]),
            pushed_at=chance.choice([None, datetime(2026, 1, number % 9 + 1, tzinfo=UTC)]),
        )
        for number in range(60)
    ]
    passing = [replace(each, external_id=f"{each.external_id}-passing") for each in lasting]
    await index.index(documents(*lasting, *passing))
    everything = [hit.repository_id for hit in await index.search("page", 1000, sort=sort)]
    seen: list[str] = []
    after = None
    while hits := await index.search("page", 7, sort=sort, after=after):
        seen += [hit.repository_id for hit in hits]
        after = hits[-1].cursor
        if len(passing) > 50:
            await index.remove({passing.pop().id: 2})
            await index.index(documents(repository(f"{len(seen):03}-coming", description="page")))
    ids = {each.id for each in lasting}
    assert [each for each in seen if each in ids] == [each for each in everything if each in ids]
    assert len(seen) == len(set(seen))


async def test_a_cursor_belongs_to_its_order(index: SearchIndex) -> None:
    await index.index(documents(*REPOSITORIES))
    [hit] = await index.search("flask", 1)
    with pytest.raises(InvalidCursor, match="sorted by relevance, not by stars"):
        await index.search("flask", 1, sort="stars", after=hit.cursor)
    for text in ("", "nonsense", "WzFd", "\ud800", "W251bGxd"):
        with pytest.raises(InvalidCursor):
            await index.search("flask", 1, after=text)


# --- versions ---


async def test_late_and_repeated_writes_never_win(index: SearchIndex) -> None:
    def named(name: str) -> Any:
        return repository(1, full_name=f"owner/{name}", description=None)

    await index.index(documents(named("fifth"), version=5))
    await index.index(documents(named("third"), version=3))
    await index.index(documents(named("again"), version=5))
    await index.remove({"test:1": 5})
    await index.remove({"test:1": 2})
    assert await names(index, "owner") == ["owner/fifth"]
    await index.index(documents(named("sixth"), version=6))
    assert await names(index, "owner") == ["owner/sixth"]


async def test_of_several_documents_for_one_repository_the_newest_wins_wherever_it_stands(index: SearchIndex) -> None:
    versions = [(3, "third"), (5, "fifth"), (4, "fourth")]
    await index.index(
        [one for version, name in versions for one in documents(repository(1, full_name=f"o/{name}"), version=version)]
    )
    assert await names(index, "o") == ["o/fifth"]


async def test_a_removal_holds_against_what_was_written_before_it_and_comes_after(index: SearchIndex) -> None:
    await index.index(documents(repository(1), repository(2), version=3))
    await index.remove({"test:1": 7, "test:unknown": 7})
    await index.index(documents(repository(1), repository("unknown"), version=6))
    assert await names(index, "owner") == ["owner/name2"]
    assert await names(index, "-other") == ["owner/name2"]
    await index.index(documents(repository(1, full_name="owner/back"), version=8))
    assert sorted(await names(index, "owner")) == ["owner/back", "owner/name2"]


async def test_a_forgotten_repository_never_comes_back(index: SearchIndex) -> None:
    await index.index(documents(repository(1), version=3))
    await index.remove({"test:1": FOR_EVER})
    await index.index(documents(repository(1), version=2**53))
    await index.remove({"test:1": FOR_EVER})
    assert await names(index, "owner") == []


async def test_nothing_to_write_is_no_failure(index: SearchIndex) -> None:
    await index.index([])
    await index.remove({})
    assert await names(index, "owner") == []

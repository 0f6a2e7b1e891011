"""The search index as a real daemon fills it, in Postgres and in Elasticsearch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import codelupe_search
from codelupe import Database, SearchFilter, SearchIndex
from codelupe.log import EventLog
from codelupe.postgres.migrate import migrate, own_migrations
from codelupe_events import Event, RepoChanged, RepoDiscovered, RepoForgotten, RepoGone
from codelupe_search.postgres import PostgresIndex
from tests.conftest import RunUntilIdle
from tests.elasticsearch import Server
from tests.integration.servers import empty_database
from tests.search_indexes import KINDS, PromptIndex, documents, make_index, repository

pytestmark = pytest.mark.anyio


def discovered(id_: str, name: str, **values: Any) -> RepoDiscovered:
    return RepoDiscovered(repository_id=id_, source="local", full_name=name, url="u", revision=name, **values)


def changed(id_: str, name: str, **values: Any) -> RepoChanged:
    return RepoChanged(repository_id=id_, source="local", full_name=name, url="u", revision=name, **values)


def gone(id_: str) -> RepoGone:
    return RepoGone(repository_id=id_, full_name=id_, url="u", reason="deleted")


def forgotten(id_: str) -> RepoForgotten:
    return RepoForgotten(
        repository_id=id_, full_name=id_, url="u", by="me", reason="", files=0, kept_without_content=0, models=()
    )


class Daemon:
    """A daemon with nothing but the search plugin, run until it is idle."""

    def __init__(self, index: SearchIndex, run: RunUntilIdle) -> None:
        self.index = index
        self._run = run

    async def handle(self, *events: Event) -> None:
        settings = {}
        if isinstance(self.index, PromptIndex):
            settings = {"search": {"elasticsearch": self.index.settings.model_dump(include={"urls", "alias"})}}
        await self._run({"search": codelupe_search}, settings, events, search_index=self.index.name)

    async def names(self, query: str) -> list[str]:
        return [hit.full_name for hit in await self.index.search(query, 10)]


@pytest.fixture(params=KINDS)
async def daemon(
    request: pytest.FixtureRequest, database: Database, elasticsearch_server: Server, run_until_idle: RunUntilIdle
) -> Daemon:
    return Daemon(make_index(request.param, database, elasticsearch_server), run_until_idle)


async def test_what_is_discovered_is_found_as_it_was_described_last(daemon: Daemon) -> None:
    await daemon.handle(
        discovered("local:a:b", "pypi/before", topics=("http",), stars=3),
        discovered("local:a:b", "pypi/after", topics=("http",), stars=4),
    )
    [hit] = await daemon.index.search("http", 10)
    assert (hit.repository_id, hit.full_name, hit.stars) == ("local:a:b", "pypi/after", 4)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_renamed_repository_is_found_under_its_new_name_alone(daemon: Daemon, at_once: bool) -> None:
    events = [discovered("local:1", "owner/former", stars=9), changed("local:1", "owner/latter", stars=500)]
    for some in [events] if at_once else [[one] for one in events]:
        await daemon.handle(*some)
    [hit] = await daemon.index.search("owner", 10)
    assert (hit.full_name, hit.stars) == ("owner/latter", 500)
    assert await daemon.names("former") == []


@pytest.mark.parametrize("end", [gone, forgotten])
@pytest.mark.parametrize("at_once", [True, False])
async def test_what_has_left_is_found_no_more(daemon: Daemon, end: Any, at_once: bool) -> None:
    found = [discovered("local:gone", "pypi/gone"), discovered("local:kept", "pypi/kept")]
    batches: Sequence[Sequence[Event]] = [[*found, end("local:gone")]] if at_once else [found, [end("local:gone")]]
    for events in batches:
        await daemon.handle(*events)
    assert await daemon.names("pypi") == ["pypi/kept"]


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_gone_may_come_back_and_what_is_forgotten_may_not(daemon: Daemon, at_once: bool) -> None:
    events = [
        *(discovered(f"local:{each}", f"pypi/{each}") for each in ("gone", "forgotten")),
        gone("local:gone"),
        forgotten("local:forgotten"),
        *(discovered(f"local:{each}", f"pypi/{each}-back") for each in ("gone", "forgotten")),
    ]
    for some in [events] if at_once else [[one] for one in events]:
        await daemon.handle(*some)
    assert await daemon.names("pypi") == ["pypi/gone-back"]


async def test_replaying_changes_nothing(daemon: Daemon, database: Database) -> None:
    await daemon.handle(discovered("local:1", "o/one"), changed("local:1", "o/uno"), forgotten("local:2"))
    before = await daemon.index.search("o", 10)
    await database.execute("select rewind_subscription('search.index', 0)")
    await daemon.handle()
    assert await daemon.index.search("o", 10) == before
    assert await EventLog(database).high_water_mark() == 3


async def test_what_is_kept_of_a_removed_repository_is_its_id_and_the_version(
    daemon: Daemon, database: Database
) -> None:
    await daemon.handle(discovered("local:1", "owner/secret", description="secret", topics=("secret",)))
    await daemon.handle(forgotten("local:1"))
    if isinstance(daemon.index, PromptIndex):
        [(_, source)] = (await daemon.index.stored()).values()
        assert source == {"repository_id": "local:1", "removed": True}
    else:
        [row] = await database.fetch("select row_to_json(repository_search)::text as json from repository_search")
        assert "secret" not in row["json"]


OLD_DOCUMENT = """
    setweight(to_tsvector('simple', concat_ws(
        ' ', full_name, replace(full_name, '/', ' '), regexp_replace(full_name, '[/_.-]+', ' ', 'g'))), 'A')
    || setweight(to_tsvector('simple', coalesce(description, '')), 'C')
"""
"""What the search plugin wrote up to the migration 0019."""


async def test_what_an_earlier_version_indexed_is_found_and_filtered_and_replaced_by_what_is_new(
    postgres_url: str,
) -> None:
    async with empty_database(postgres_url) as url, Database(url) as database:
        await migrate(database, [one for one in own_migrations() if one.number < 20])
        await database.execute(
            "insert into repositories"
            " (id, source, full_name, url, revision, language, licence, stars, topics, pushed_at)"
            " select 'local:' || n, 'local', 'tokio-rs/axum' || n, 'https://host', '1', 'Rust', 'MIT', n, '{Async}',"
            " timestamptz '2026-01-01Z' + n * interval '1 day' from generate_series(1, 4) as n"
        )
        await database.execute(
            "insert into repository_search (repository_id, full_name, description, language, stars, document)"
            f" select id, full_name, description, language, stars, {OLD_DOCUMENT} from repositories"
        )
        await database.execute(
            "insert into forgotten (repository_id, full_name, url, forgotten_by, reason) values"
            " ('local:4', 'n', 'u', 'me', '')"
        )
        await migrate(database, own_migrations())
        index = PostgresIndex(database)
        where = SearchFilter(languages=("rust",), topics=("async",), licences=("mit",), min_stars=2)
        hits = await index.search("tokio-rs", 10, where=where, sort="pushed")
        assert [(hit.repository_id, hit.url, hit.topics) for hit in hits] == [
            ("local:3", "https://host", ("Async",)),
            ("local:2", "https://host", ("Async",)),
        ]
        await index.index(documents(repository("x"), version=1))
        late = replace(repository("x"), source="local", external_id="4")
        await index.index(documents(late, replace(late, external_id="3"), version=1))
        assert [hit.repository_id for hit in await index.search("owner", 10)] == ["local:3", "test:x"]

"""``codelupe search``: what it takes, what it prints, and what it says when there is nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import anyio
import pytest

from codelupe import Database, SearchIndex
from tests.elasticsearch import Server
from tests.search_indexes import KINDS, PromptIndex, documents, make_index, repository

pytestmark = pytest.mark.anyio

Command = Callable[..., Awaitable[CompletedProcess[bytes]]]

REPOSITORIES = [
    repository(1, full_name="tokio-rs/axum", description="Web framework", language="Rust", stars=18_000,
               topics=("async", "http"), licence="MIT"),
    repository(2, full_name="actix/actix-web", description="A web framework", language="Rust", stars=21_000,
               topics=("async",), licence="Apache-2.0 OR MIT"),
    repository(3, full_name="someone/tiny", description="A web framework", language="Rust", stars=3,
               topics=("async",)),
    repository(4, full_name="pallets/flask", description="web framework", language="Python", stars=66_000),
    repository(5, full_name="a/reindex", description="[red]odd[/red] \x1b[31m"),
]  # fmt: skip


@pytest.fixture(params=KINDS)
async def index(request: pytest.FixtureRequest, database: Database, elasticsearch_server: Server) -> SearchIndex:
    it = make_index(request.param, database, elasticsearch_server)
    await it.index(documents(*REPOSITORIES))
    if isinstance(it, PromptIndex):
        await it.refresh()
    return it


@pytest.fixture
def command(index: SearchIndex, database_url: str, tmp_path: Path) -> Command:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CODELUPE_")}
    environment = {
        **clean,
        "COLUMNS": "200",
        "CODELUPE_DISABLED_PLUGINS": '["crawler", "dataset", "downloader", "filters", "ray", "scorers", "trainer"]',
        "CODELUPE_STATE_DIR": str(tmp_path / "state"),
        "CODELUPE_DATABASE_URL": database_url,
        "CODELUPE_SEARCH_INDEX": index.name,
    }
    if isinstance(index, PromptIndex):
        environment["CODELUPE_PLUGINS__SEARCH__ELASTICSEARCH__URLS"] = json.dumps(index.settings.urls)
        environment["CODELUPE_PLUGINS__SEARCH__ELASTICSEARCH__ALIAS"] = index.settings.alias

    async def run(*arguments: str, **more: str) -> CompletedProcess[bytes]:
        return await anyio.run_process(
            [sys.executable, "-m", "codelupe", "search", *arguments], check=False, env={**environment, **more}
        )

    return run


async def found(command: Command, *arguments: str) -> list[dict[str, Any]]:
    ended = await command(*arguments, "--json")
    assert (ended.returncode, ended.stderr) == (0, b"")
    hits: list[dict[str, Any]] = json.loads(ended.stdout)
    return hits


async def test_the_example_of_the_documentation(command: Command) -> None:
    options = ["--language", "rust", "--min-stars", "500", "--topic", "async", "--sort", "stars"]
    hits = await found(command, "web framework", *options)
    assert [hit["full_name"] for hit in hits] == ["actix/actix-web", "tokio-rs/axum"]
    assert hits[1].keys() == {
        *("repository_id", "full_name", "description", "language", "stars", "rank", "url", "licence", "topics"),
        *("pushed_at", "cursor"),
    }
    assert hits[1]["topics"] == ["async", "http"]


async def test_options_may_come_first_and_words_need_no_quotes(command: Command) -> None:
    hits = await found(command, "--language=python", "--language", "RUST", "--licence", "mit", "web", "framework")
    assert sorted(hit["full_name"] for hit in hits) == ["actix/actix-web", "tokio-rs/axum"]


async def test_pages(command: Command) -> None:
    first = await command("framework", "-n", "3", "--sort", "name")
    assert first.stdout.decode().splitlines()[1].startswith("actix/actix-web")
    hint = first.stderr.decode()
    assert hint.startswith("For more: --after ")
    rest = await found(command, "framework", "--sort", "name", "--after", hint.split()[-1])
    assert [hit["full_name"] for hit in rest] == ["tokio-rs/axum"]
    wrong = await command("framework", "--after", hint.split()[-1])
    assert wrong.returncode == 1
    assert b"sorted by name, not by relevance" in wrong.stderr


async def test_nothing_found(command: Command) -> None:
    ended = await command("nothing-of-that-kind")
    assert (ended.returncode, ended.stdout) == (0, b"Nothing found.\n")
    assert b"codelupe status" in ended.stderr
    assert b"Fewer words or conditions" in (await command("axum", "--min-stars", "1000000")).stderr
    assert await found(command, "nothing-of-that-kind") == []


async def test_a_query_may_be_the_name_of_a_command(command: Command) -> None:
    hits = await found(command, "query", "reindex")
    assert [hit["full_name"] for hit in hits] == ["a/reindex"]
    shown = (await command("query", "reindex")).stdout
    assert b"[red]odd[/red]" in shown
    assert b"\x1b" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["web", "--sort", "size"], "relevance"),
        (["web", "--min-stars", "-1"], "min-stars"),
        (["web", "--limit", "0"], "limit"),
        (["web", "--pushed-since", "yesterday"], "pushed-since"),
        (["web", "--langauge", "rust"], "--language"),
        (["--json"], "Missing argument"),
    ],
)
async def test_wrong_usage(command: Command, arguments: list[str], message: str) -> None:
    ended = await command(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr.decode()


async def test_a_reindex(command: Command, index: SearchIndex) -> None:
    """The log has none of these repositories: an index that is built from it is empty."""
    ended = await command("reindex")
    assert ended.returncode == 0
    assert ended.stderr.endswith(b"The search index has been built anew.\n")
    is_built_beside = isinstance(index, PromptIndex)
    assert (await found(command, "framework") == []) == is_built_beside


async def test_an_index_that_is_away(command: Command, index: SearchIndex) -> None:
    if not isinstance(index, PromptIndex):
        pytest.skip("it is in the database")
    nobody_there = json.dumps(["http://127.0.0.1:1"])
    for arguments in (["web"], ["reindex"]):
        ended = await command(*arguments, CODELUPE_PLUGINS__SEARCH__ELASTICSEARCH__URLS=nobody_there)
        assert ended.returncode == 69
        assert b"Elasticsearch cannot be reached at http://127.0.0.1:1" in ended.stderr
        assert b"Traceback" not in ended.stderr


async def test_an_index_that_no_plugin_offers(command: Command) -> None:
    ended = await command("web", CODELUPE_SEARCH_INDEX="solr")
    assert ended.returncode == 78
    assert b"no plugin offers the search index 'solr'" in ended.stderr

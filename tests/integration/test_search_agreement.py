"""Postgres and Elasticsearch show the same, on real repositories: those in the recordings of github3.py's own tests.

Their topics are not recorded; some words of their descriptions stand in.
"""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from codelupe import Database, Repository, SearchFilter, SearchIndex
from codelupe_search.postgres import PostgresIndex
from codelupe_search.words import words
from tests.elasticsearch import Server
from tests.made_once import made_once, shared_temporary_folder
from tests.search_indexes import PromptIndex, documents, settings_for

pytestmark = pytest.mark.anyio

QUERIES = [
    "library",
    "python api",
    "github",
    "web framework",
    "django",
    "flask or bottle",
    '"machine learning"',
    "vim plugin",
    "test -github",
    "http client",
    "command line tool",
    "json parser",
    "async",
    "kennethreitz",
    "requests-oauthlib",
    "a simple",
    "python -api -django",
    "dotfiles",
    "openstack or ansible",
    "data science or statistics",
]
FILTERS = [
    SearchFilter(languages=("python",)),
    SearchFilter(min_stars=10),
    SearchFilter(languages=("ruby", "C"), min_stars=1),
    SearchFilter(licences=("mit", "apache-2.0")),
    SearchFilter(topics=("python",)),
    SearchFilter(topics=("library", "python"), min_stars=1),
    SearchFilter(pushed_since=datetime.fromisoformat("2018-01-01T00:00:00Z")),
]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Repository]:
    def fetch(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "github3.py"]
        subprocess.run([*command, "--dest", str(folder), "github3.py==4.0.1"], check=True, capture_output=True)

    folder = made_once(shared_temporary_folder(tmp_path_factory) / "github3", fetch)
    [archive] = folder.glob("*.tar.gz")
    found: dict[int, dict[str, Any]] = {}
    with tarfile.open(archive) as it:
        for member in it:
            if "/tests/cassettes/" in member.name and (file := it.extractfile(member)) is not None:
                for answer in _answers(json.load(file)):
                    found |= {each["id"]: each for each in _repositories(answer)}
    return [_described(each) for each in found.values()]


def _answers(recording: dict[str, Any]) -> Iterator[Any]:
    for exchange in recording["http_interactions"]:
        body = exchange["response"]["body"]
        text = body.get("string") or ""
        if encoded := body.get("base64_string"):
            raw = base64.b64decode(encoded)
            text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode(errors="replace")
        if text.lstrip()[:1] in ("{", "["):
            yield json.loads(text)


def _repositories(answer: Any) -> Iterator[dict[str, Any]]:
    if isinstance(answer, dict):
        if {"full_name", "stargazers_count", "forks_count"} <= answer.keys():
            yield answer
        answer = list(answer.values())
    if isinstance(answer, list):
        for each in answer:
            yield from _repositories(each)


def _described(recorded: dict[str, Any]) -> Repository:
    pushed_at = recorded.get("pushed_at")
    return Repository(
        source="github",
        external_id=str(recorded["id"]),
        full_name=recorded["full_name"],
        url=recorded["html_url"],
        revision="1",
        description=recorded["description"],
        language=recorded["language"],
        licence=(recorded.get("license") or {}).get("spdx_id"),
        stars=recorded["stargazers_count"],
        forks=recorded["forks_count"],
        topics=tuple(word for word in words(recorded["description"] or "") if len(word) > 5)[:3],
        pushed_at=datetime.fromisoformat(pushed_at) if pushed_at else None,
    )


@pytest.fixture
async def both(
    corpus: list[Repository], database: Database, elasticsearch_server: Server
) -> tuple[SearchIndex, SearchIndex]:
    indexes = PostgresIndex(database), PromptIndex(settings_for(elasticsearch_server), database)
    for index in indexes:
        await index.index(documents(*corpus))
    return indexes


async def ids(index: SearchIndex, query: str, limit: int, where: SearchFilter | None = None) -> list[str]:
    return [hit.repository_id for hit in await index.search(query, limit, where=where)]


@pytest.mark.slow
async def test_the_first_ten_of_twenty_queries_and_all_that_filters_let_pass(
    both: tuple[SearchIndex, SearchIndex], corpus: list[Repository]
) -> None:
    assert len(corpus) > 1200
    assert len(QUERIES) == 20
    sizes = []
    for query in QUERIES:
        first, second = [await ids(index, query, 10) for index in both]
        assert len(first) == len(second)
        assert len(set(first) & set(second)) >= min(8, len(first)), query
        sizes.append(len(first))
    assert sum(size == 10 for size in sizes) >= 10, "most of the queries say something"
    matched = 0
    for query in QUERIES:
        for where in FILTERS:
            first, second = [await ids(index, query, 5000, where) for index in both]
            assert sorted(first) == sorted(second), (query, where)
            matched += len(first)
    assert matched > 1000

"""Requests checked by GitHub's own descriptions of its APIs, and answers of the real API that others recorded.

Prism serves the OpenAPI description and refuses a request that breaks it; the GraphQL schema judges the documents.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from graphql import GraphQLSchema, build_schema, parse, validate
from pydantic import SecretStr

from codelupe import KnownRepository, Slice
from codelupe_crawler.github.descriptions import from_rest
from codelupe_crawler.github.limits import limit_of
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_crawler.github.source import ANONYMOUS, GitHubSource
from codelupe_crawler.recording import storable_repository
from codelupe_events import RepoDiscovered
from tests.made_once import made_once, shared_temporary_folder
from tests.processes import HANGS
from tests.published import (
    FETCHED_S,
    GRAPHQL,
    OPENAPI,
    Recorded,
    published,
    recorded_by_github3,
    recorded_by_pygithub,
    repositories_in,
    unavailable,
)
from tests.simulated_github.client import simulated
from tests.simulated_github.github import Request
from tests.simulated_github.shapes import node_id
from tests.source_context import FakeContext

PRISM = "@stoplight/prism-cli@5.14.2"
PATHS = ("/search/repositories", "/user", "/repos/{owner}/{repo}")
SPAN = "language:Go created:2020-01-01T00:00:00Z..2020-02-01T00:00:00Z stars:>=10"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(2 * FETCHED_S),
    pytest.mark.xdist_group("published"),
]


# --- REST: Prism serves GitHub's OpenAPI description ---


@pytest.fixture(scope="module")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its command line, installed without running anything of any package."""

    def install(folder: Path) -> None:
        if shutil.which("npm") is None:
            unavailable("npm is not on this machine; `apt-get install npm` brings it")
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), PRISM]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCHED_S, check=False)
        if done.returncode:
            unavailable(f"{PRISM} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")

    folder = made_once(shared_temporary_folder(tmp_path_factory) / "prism", install)
    return folder / "node_modules/@stoplight/prism-cli/dist/index.js"


def sliced(description: dict[str, Any]) -> dict[str, Any]:
    """The description of the paths that are asked for, with all that it refers to."""
    paths = {path: {"get": description["paths"][path]["get"]} for path in PATHS}
    components: dict[str, dict[str, Any]] = {}
    texts = [json.dumps(paths)]
    while texts:
        for kind, name in re.findall(r'"#/components/(\w+)/([^"]+)"', texts.pop()):
            if name not in components.setdefault(kind, {}):
                components[kind][name] = description["components"][kind][name]
                texts.append(json.dumps(components[kind][name]))
    return {**{key: description[key] for key in ("openapi", "info")}, "paths": paths, "components": components}


@pytest.fixture(scope="module")
async def api_url(prism: Path, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[str]:
    description = json.loads(published(OPENAPI, "package/generated/api.github.com.json", tmp_path_factory))
    file = tmp_path_factory.mktemp("openapi") / "github.json"
    file.write_text(json.dumps(sliced(description)), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["node", str(prism), "mock", "--errors", "--host", "127.0.0.1", "--port", str(port), str(file)]
    process = await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with anyio.fail_after(HANGS):
            while not await listens(port):
                assert process.returncode is None
                await anyio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def listens(port: int) -> bool:
    try:
        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


def source_at(api_url: str, *tokens: str) -> GitHubSource:
    settings = GitHubSettings(tokens=tuple(map(SecretStr, tokens)), api_url=api_url)
    return GitHubSource(settings, lambda *_: ("web",))


async def test_a_search_is_one_that_openapi_describes_and_its_example_is_read(api_url: str) -> None:
    async with source_at(api_url).open(ANONYMOUS, FakeContext()) as session:
        page = await session.ask(Slice(query=SPAN, budget="search", total=1), "1")
    assert [each.terms for each in page.repositories] == [("web",)]
    assert page.repositories[0].id.removeprefix("github:").isdecimal()


async def test_the_account_of_a_token_is_asked_for_as_openapi_describes_it(api_url: str) -> None:
    assert await source_at(api_url, "token").accounts(FakeContext()) == ["octocat"]


async def test_prism_refuses_what_openapi_does_not_describe(api_url: str) -> None:
    async with source_at(api_url).open(ANONYMOUS, FakeContext()) as session:
        client = session._client
        for wrong in ({"q": "a", "sort": "banana"}, {"q": "a", "per_page": "abc"}, {"sort": "updated"}):
            assert (await client.get("search", "/search/repositories", wrong)).status_code == 422


# --- GraphQL: GitHub's schema ---


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> GraphQLSchema:
    text = published(GRAPHQL, "package/schema.graphql", tmp_path_factory).decode()
    return build_schema(text, assume_valid=True)


class Documents(httpx2.AsyncBaseTransport):
    """The simulated GitHub, which keeps what it is asked."""

    def __init__(self) -> None:
        self._github = simulated().github
        self.asked: list[dict[str, Any]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/graphql":
            self.asked.append(json.loads(request.content))
        answer = self._github.handle(
            Request(request.method, str(request.url), dict(request.headers.items()), request.content)
        )
        return httpx2.Response(answer.status, headers=dict(answer.headers), content=answer.body, request=request)


async def test_counts_and_descriptions_are_asked_for_by_documents_of_github_s_schema(schema: GraphQLSchema) -> None:
    documents, context = Documents(), FakeContext()
    source = GitHubSource(GitHubSettings(tokens=(SecretStr("a1"),)), lambda *_: (), documents)
    [account] = await source.accounts(context)
    async with source.open(account, context) as session:
        await session.ask(Slice(query=SPAN.replace("2020-02", "2026-02"), budget="graphql"), None)
        await session._described([known(documents)])
    counts, nodes = (parse(asked["query"]) for asked in documents.asked)
    for document in (counts, nodes):
        assert validate(schema, document) == []
    assert len(documents.asked[0]["variables"]) == 50
    wrong = parse(documents.asked[1]["query"].replace("nameWithOwner", "fullName"))
    assert len(validate(schema, wrong)) == 1


def known(documents: Documents) -> KnownRepository:
    number = int(documents._github.world.id[5])
    return KnownRepository(external_id=str(number), full_name="a/b", url="https://host", handle=node_id(number))


# --- recordings of the real API ---


@pytest.fixture(scope="module", params=[recorded_by_github3, recorded_by_pygithub], ids=["github3.py", "PyGithub"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Recorded]:
    return list(request.param(tmp_path_factory))


def whole(answers: list[Recorded]) -> Iterator[dict[str, Any]]:
    """Repositories, but for those that were shortened by hand, or lack counts, as in GitHub's beginnings."""
    found = (one for answer in answers for one in repositories_in(answer.content))
    return (one for one in found if "forks_count" in one and one["html_url"].startswith("https://"))


def test_every_recorded_repository_is_read_and_can_be_recorded(answers: list[Recorded]) -> None:
    read = [storable_repository(from_rest(one, lambda *_: ())) for one in whole(answers)]
    assert len(read) > 100
    for each in read:
        event = each.to_event(RepoDiscovered)
        assert event.url.startswith("https://")
        assert event.url.endswith(f"/{event.full_name}.git")
    assert {each.licence for each in read} & {"MIT", "Apache-2.0"} or len(read) < 500
    assert not {each.licence for each in read} & {"NOASSERTION", "other", ""}


def test_of_the_recorded_answers_those_are_limits_that_say_so(answers: list[Recorded]) -> None:
    now = FakeContext().now()
    limits = [answer for answer in answers if limit_of(answer.status, answer.headers, answer.content, now)]
    texts = sorted(answer.content["message"] for answer in limits)
    refused = [answer for answer in answers if answer.status in (403, 429)]
    assert {answer.status for answer in limits} <= {403, 429}
    assert len(limits) < len(refused)
    assert all(re.search("(?i)rate limit exceeded|abuse detection|login attempt", text) for text in texts)

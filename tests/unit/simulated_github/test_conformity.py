"""What the simulated GitHub answers has the shape that GitHub publishes, and that was recorded of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from graphql import BreakingChange, build_schema, find_breaking_changes
from graphql.utilities import BreakingChangeType
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.published import FETCHED_S, GRAPHQL, OPENAPI, Recorded, published, recorded_by_github3, repositories_in
from tests.simulated_github.client import Client, content, simulated
from tests.simulated_github.graphql import SCHEMA
from tests.simulated_github.world import Shape

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * FETCHED_S), pytest.mark.xdist_group("published")]


# --- REST: GitHub's OpenAPI description ---


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    description = json.loads(published(OPENAPI, "package/generated/api.github.com.json", tmp_path_factory))
    assert description["openapi"].startswith("3.0")
    paths = description["paths"]
    return {"paths": as_json_schema(paths), "components": as_json_schema(description["components"])}


def as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says ``nullable`` where JSON schema has another type."""
    if isinstance(node, list):
        return [as_json_schema(one) for one in node]
    if not isinstance(node, dict):
        return node
    rest = {key: as_json_schema(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [rest, {"type": "null"}]} if node.get("nullable") is True else rest


def errors(components: Mapping[str, Any], path: str, status: int, answer: Any) -> list[str]:
    """How an answer differs from what the description has for this path and status."""
    steps = ("paths", path, "get", "responses", str(status))
    found: Any = components
    for step in steps:
        found = found[step]
    if "$ref" in found:
        found = components["components"]["responses"][found["$ref"].rpartition("/")[2]]
    schema = {**found["content"]["application/json"]["schema"], "components": components["components"]}
    return [f"{one.json_path}: {one.message[:200]}" for one in Draft202012Validator(schema).iter_errors(answer)]


REPOSITORY, SEARCH = "/repos/{owner}/{repo}", "/search/repositories"


def test_searches_and_repositories_are_as_openapi_describes_them(components: dict[str, Any]) -> None:
    client = simulated(shape=Shape(repositories=4_000, largest_burst=50, odd_names=0.1))
    world = client.github.world
    page = client.search("stars:>=10 fork:true", per_page=100)
    assert {None, "NOASSERTION"} <= {item["license"] and item["license"]["spdx_id"] for item in page["items"]}
    assert errors(components, SEARCH, 200, page) == []
    for index in range(20):
        answer = content(client.get(f"/repos/{world.name_of(index)}"))
        assert errors(components, REPOSITORY, 200, answer) == []


def test_the_user_and_the_limits_are_as_openapi_describes_them(components: dict[str, Any]) -> None:
    client = simulated()
    assert errors(components, "/user", 200, content(client.get("/user"))) == []
    assert errors(components, "/rate_limit", 200, content(client.get("/rate_limit"))) == []


def test_refusals_are_as_openapi_describes_them(components: dict[str, Any]) -> None:
    client = simulated()
    world = client.github.world
    former = world.name_of(1)
    world.rename(1, "new/name")
    world.change(2, "deleted")
    world.change(3, "disabled")
    refusals = {
        (SEARCH, 422): client.get("/search/repositories", q=""),
        (REPOSITORY, 301): client.get(f"/repos/{former}"),
        (REPOSITORY, 404): client.get(f"/repos/{world.name_of(2)}"),
        (REPOSITORY, 403): client.get(f"/repos/{world.name_of(3)}"),
    }
    client.token = "of another"
    refusals["/user", 401] = client.get("/user")
    for (path, status), answer in refusals.items():
        assert answer.status == status
        assert errors(components, path, status, content(answer)) == []


def test_a_difference_is_found(components: dict[str, Any]) -> None:
    page = simulated().search("stars:>=10")
    page["items"][0]["stargazers_count"] = "many"
    del page["items"][1]["node_id"]
    page["items"][2]["name"] = None
    assert len(errors(components, SEARCH, 200, page)) == 3


# --- GraphQL: GitHub's schema ---


def test_the_schema_is_a_part_of_github_s(tmp_path_factory: pytest.TempPathFactory) -> None:
    theirs = build_schema(published(GRAPHQL, "package/schema.graphql", tmp_path_factory).decode(), assume_valid=True)
    assert find_breaking_changes(SCHEMA, theirs) == []
    wrong = build_schema("type Query { viewer: User! nodes(ids: [ID!]!): Int } type User { login: Int! }")
    found: list[BreakingChange] = find_breaking_changes(wrong, theirs)
    assert [one.type for one in found] == [BreakingChangeType.FIELD_CHANGED_KIND] * 2


# --- recordings of the real API ---


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Recorded]:
    """What github3.py's tests recorded."""
    return list(recorded_by_github3(tmp_path_factory))


@pytest.fixture(scope="module")
def repositories(answers: list[Recorded]) -> list[dict[str, Any]]:
    """Those that were recorded whole."""
    found = [one for answer in answers for one in repositories_in(answer.content)]
    assert len(found) > 500
    return found


def items(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.search("stars:>=10 fork:true", per_page=100)["items"]
    return found


def test_items_have_what_all_recorded_repositories_have(repositories: list[dict[str, Any]]) -> None:
    always = set.intersection(*(set(one) for one in repositories))
    of_owners = set.intersection(*(set(one["owner"]) for one in repositories))
    assert len(always) > 60
    for item in items(simulated()):
        assert always - set(item) == set()
        assert of_owners - set(item["owner"]) == set()


def test_values_are_of_the_types_that_were_recorded(repositories: list[dict[str, Any]]) -> None:
    types: dict[str, set[type]] = {}
    for one in repositories:
        for name, value in one.items():
            types.setdefault(name, set()).add(type(value))
    for item in items(simulated()):
        for name in item.keys() & types.keys():
            assert type(item[name]) in types[name] | {type(None)}, name


def test_headers_are_named_and_written_as_those_that_were_recorded(answers: list[Recorded]) -> None:
    client = simulated()
    ours = client.get("/search/repositories", q="stars:>=10").headers
    for name, value in ours.items():
        written = {pattern(answer.headers[name]) for answer in answers if name in answer.headers}
        assert written, name
        if name in ("link", "date") or name.startswith("x-ratelimit"):
            assert pattern(value) in written, name


def pattern(value: str) -> str:
    """Words and figures by their kind, so that two values of the same form are equal."""
    links = re.findall(r"<[^>]+>; rel=", value)
    return "links" if links else re.sub(r"[A-Z][a-z]{2}", "Abc", re.sub(r"\d+", "1", value)).replace("core", "search")

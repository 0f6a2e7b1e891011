"""Look-ups of repositories and the user, and GraphQL, of the simulated GitHub."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulated_github.client import Client, content, simulated
from tests.simulated_github.faults import Faults
from tests.simulated_github.world import Change

COUNT = 'search(query: "language:Go stars:>=10", type: REPOSITORY)'


def look_up(client: Client, index: int) -> tuple[int, dict[str, Any]]:
    answer = client.get(f"/repositories/{client.github.world.id[index]}")
    return answer.status, content(answer)


def test_the_user_is_the_token_s() -> None:
    client = simulated()
    assert content(client.get("/user"))["login"] == "ann"
    client.token = "a2"
    assert content(client.get("/user"))["login"] == "ann"
    client.token = "b1"
    assert content(client.get("/user"))["login"] == "bob"
    client.token = None
    assert client.get("/user").status == 401
    client.token = "of another"
    assert client.get("/user").status == 401


def test_watchers_are_told_by_the_repository_alone() -> None:
    client = simulated()
    item = client.search("stars:>=100")["items"][0]
    status, repository = look_up(client, client.github.world.index_of(item["id"]) or 0)
    assert status == 200
    assert item["watchers_count"] == item["stargazers_count"] == repository["stargazers_count"]
    assert "subscribers_count" not in item
    assert 0 < repository["subscribers_count"] < item["watchers_count"]


def test_a_former_name_leads_to_the_number() -> None:
    client = simulated()
    world = client.github.world
    former = world.name_of(5)
    world.rename(5, "new/name")
    moved = client.get(f"/repos/{former}")
    assert moved.status == 301
    assert moved.headers["location"] == f"https://api.github.com/repositories/{world.id[5]}"
    assert content(client.get(moved.headers["location"].removeprefix("https://api.github.com")))["id"] == world.id[5]
    assert content(client.get("/repos/NEW/name"))["full_name"] == "new/name"


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [("deleted", 404, None), ("private", 404, None), ("blocked", 451, "dmca"), ("disabled", 403, "tos")],
)
def test_what_is_gone_says_why_as_far_as_github_does(change: Change, status: int, reason: str | None) -> None:
    """caarlos0/fork-cleaner#33: 451."""
    client = simulated()
    world = client.github.world
    name, number = world.name_of(5), int(world.id[5])
    world.change(5, change)
    for path in (f"/repositories/{number}", f"/repos/{name}"):
        answer = client.get(path)
        assert (answer.status, content(answer).get("block", {}).get("reason")) == (status, reason)
        assert client.search(f"repo:{name}")["total_count"] == 0


def test_numbers_and_names_that_there_are_not() -> None:
    client = simulated()
    future = len(client.github.world.id) - 1
    assert look_up(client, future)[0] == 404
    for path in ("/repositories/1", "/repos/no/such", "/repos/alone", "/users/ann"):
        assert client.get(path).status == 404


@pytest.mark.parametrize(("version", "status"), [("2022-11-28", 200), ("2026-03-10", 200), ("2020-01-01", 400)])
def test_versions_of_the_api(version: str, status: int) -> None:
    assert simulated().get("/user", {"x-github-api-version": version}).status == status


def test_a_user_agent_is_mandatory() -> None:
    answer = simulated().get("/user", {"user-agent": ""})
    assert answer.status == 403
    assert b"User-Agent" in answer.body


def test_fifty_counts_in_one_request() -> None:
    client = simulated()
    counts = " ".join(f'c{n}: search(query: "stars:{n}", type: REPOSITORY) {{ repositoryCount }}' for n in range(50))
    data = content(client.graphql(f"{{ {counts} }}"))["data"]
    assert len(data) == 50
    assert data["c12"] == {"repositoryCount": client.search("stars:12")["total_count"]}
    assert client.github.requests["graphql"] == 1


def test_nodes_are_null_where_a_repository_vanished() -> None:
    client = simulated()
    world = client.github.world
    world.change(1, "deleted")
    world.change(2, "blocked")
    ids = [f"R_kg{world.id[index]:x}" for index in (0, 1, 2, 3)] + ["nonsense", f"R_kg{world.id[-1]:x}"]
    answer = content(client.graphql("query($i: [ID!]!) { nodes(ids: $i) { ...a } }" + NODE, i=ids))
    assert [node and node["databaseId"] for node in answer["data"]["nodes"]] == [
        *(int(world.id[0]), None, None, int(world.id[3]), None, None)
    ]
    assert [(one["type"], one["path"]) for one in answer["errors"]] == [
        ("NOT_FOUND", ["nodes", at]) for at in (1, 2, 4, 5)
    ]


NODE = """
fragment a on Repository {
  databaseId nameWithOwner stargazerCount isFork primaryLanguage { name } licenseInfo { spdxId }
  repositoryTopics(first: 20) { nodes { topic { name } } } watchers { totalCount }
  defaultBranchRef { name target { oid ... on Commit { id } } }
}
"""


def test_graphql_and_rest_say_the_same() -> None:
    client = simulated()
    item = client.search("stars:>=10 language:Rust")["items"][0]
    asked = "query($id: ID!) { node(id: $id) { __typename ...a } }" + NODE
    node = content(client.graphql(asked, id=item["node_id"]))["data"]["node"]
    assert node["__typename"] == "Repository"
    assert node["nameWithOwner"] == item["full_name"]
    assert node["stargazerCount"] == item["stargazers_count"]
    assert [one["topic"]["name"] for one in node["repositoryTopics"]["nodes"]] == item["topics"]
    owner, name = item["full_name"].split("/")
    asked = f'{{ repository(owner: "{owner}", name: "{name}") {{ databaseId owner {{ login }} }} viewer {{ login }} }}'
    assert content(client.graphql(asked))["data"] == {
        "repository": {"databaseId": item["id"], "owner": {"login": owner}},
        "viewer": {"login": "ann"},
    }


def test_a_head_moves_with_a_push_alone() -> None:
    client = simulated()
    world = client.github.world
    asked = (
        f'{{ node(id: "R_kg{world.id[3]:x}") {{ ... on Repository {{ defaultBranchRef {{ target {{ oid }} }} }} }} }}'
    )
    first = client.graphql(asked).body
    world.change(3, "starred")
    assert client.graphql(asked).body == first
    world.change(3, "pushed")
    assert client.graphql(asked).body != first


def test_graphql_searches_page_by_page_up_to_a_thousand() -> None:
    client = simulated()
    asked = """
        query($after: String) {
          search(query: "stars:>=10 sort:updated-desc", type: REPOSITORY, first: 100, after: $after) {
            repositoryCount pageInfo { hasNextPage endCursor } nodes { ... on Repository { databaseId } }
          }
        }
    """
    seen: set[int] = set()
    after, pages = None, 0
    while True:
        found = content(client.graphql(asked, after=after))["data"]["search"]
        seen |= {node["databaseId"] for node in found["nodes"]}
        pages, after = pages + 1, found["pageInfo"]["endCursor"]
        if not found["pageInfo"]["hasNextPage"]:
            break
    assert found["repositoryCount"] > 1_000
    assert (pages, len(seen)) == (10, 1_000)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("{ no_such_field }", "Cannot query field"),
        ("{ search { repositoryCount } }", "is required"),
        ("{ viewer ", "Syntax Error"),
        (f"{{ {COUNT} {{ nodes {{ __typename }} }} }}", "`first`"),
        ('{ search(query: "stars:many", type: REPOSITORY) { repositoryCount } }', "is no range"),
        ("{ nodes(ids: [" + '"a" ' * 101 + "]) { id } }", "more than 100"),
        ('{ repository(owner: "no", name: "such") { id } }', "Could not resolve to a Repository"),
    ],
)
def test_what_graphql_refuses_it_refuses_at_http_200(asked: str, said: str) -> None:
    answer = simulated().graphql(asked)
    assert answer.status == 200
    assert said in content(answer)["errors"][0]["message"]


def test_graphql_pages_lack_items_and_hold_nulls_as_those_of_rest_do() -> None:
    """cartography#2008."""
    client = simulated(Faults(lacking=1.0, nulls=1.0))
    asked = '{ search(query: "stars:30", type: REPOSITORY, first: 100) { repositoryCount nodes { __typename } } }'
    first, second = (content(client.graphql(asked))["data"]["search"] for _ in range(2))
    assert first["nodes"].count(None) == 1
    assert len(first["nodes"]) < first["repositoryCount"] == len(second["nodes"])
    assert None not in second["nodes"]

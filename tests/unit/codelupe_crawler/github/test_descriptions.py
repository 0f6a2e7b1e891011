"""What REST and GraphQL say of a repository is read as the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from codelupe import Repository
from codelupe_crawler.github.descriptions import from_node, from_rest
from codelupe_crawler.recording import storable_repository
from codelupe_events import RepoDiscovered
from tests.simulated_github.shapes import as_item, as_node, as_repository
from tests.simulated_github.world import ODD_TEXTS, Shape, World

WORLD = World(3, 1_790_000_000.0, Shape(repositories=2_000, odd_names=0.2))


def no_terms(*_: object) -> tuple[str, ...]:
    return ()


def rest(**changes: object) -> Repository:
    return from_rest(without_missing(as_item(WORLD, 0), changes), no_terms)


def node(**changes: object) -> Repository:
    return from_node(without_missing(as_node(WORLD, 0), changes), no_terms)


MISSING = object()


def without_missing(described: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in {**described, **changes}.items() if value is not MISSING}


def test_both_ways_to_ask_describe_the_same_repository() -> None:
    for index in range(WORLD.shape.repositories):
        by_search = from_rest(as_item(WORLD, index), no_terms)
        by_id = from_rest(as_repository(WORLD, index), no_terms)
        by_node = from_node(as_node(WORLD, index), no_terms)
        assert by_search.watchers is None
        assert by_node == by_id == replace(by_search, watchers=by_node.watchers)


def test_the_identity_is_the_number_and_the_handle_is_the_node_s_id() -> None:
    for read in (rest(id=7, node_id="R_7"), node(databaseId=7, id="R_7")):
        assert (read.id, read.handle) == ("github:7", "R_7")
        assert read.url == f"https://github.com/{read.full_name}.git"


@pytest.mark.parametrize("described", ["", *ODD_TEXTS, "\x00", "\ud800", "\u202etxt.exe", "a" * 5_000, "שלום"])
def test_any_description_can_be_recorded(described: str) -> None:
    assert rest(description=described).description == node(description=described).description
    event = storable_repository(rest(description=described)).to_event(RepoDiscovered)
    assert msgspec.json.decode(msgspec.json.encode(event), type=RepoDiscovered) == event
    assert "\x00" not in (event.description or "")


def test_no_description_is_none_however_it_is_said() -> None:
    assert {rest(description=each).description for each in (None, "", MISSING)} == {None}
    assert {node(description=each).description for each in (None, "", MISSING)} == {None}


@pytest.mark.parametrize(
    ("spdx_id", "licence"),
    [("MIT", "MIT"), ("NOASSERTION", None), ("other", None), ("NONE", None), ("", None), (None, None)],
)
def test_rest_api_description_4310_hub4j_797_a_licence_is_an_spdx_id_or_unknown(
    spdx_id: str | None, licence: str | None
) -> None:
    said = {"key": "other", "name": "Other", "spdx_id": spdx_id, "url": None, "node_id": "MDc6TGljZW5zZTA="}
    assert rest(license=said).licence == licence
    assert node(licenseInfo={"spdxId": spdx_id}).licence == licence


@pytest.mark.parametrize("said", [None, MISSING, {}])
def test_there_may_be_no_licence(said: object) -> None:
    assert rest(license=said).licence is None
    assert node(licenseInfo=said).licence is None


def test_topics_are_in_one_order() -> None:
    topics = [{"topic": {"name": name}} for name in ("web", "api")]
    assert rest(topics=["web", "api"]).topics == ("api", "web")
    assert node(repositoryTopics={"nodes": [*topics, None]}).topics == ("api", "web")


def test_what_an_empty_repository_lacks_is_none() -> None:
    created = {"created_at": "2020-01-02T03:04:05Z", "pushed_at": None}
    empty = rest(**created, language=None, topics=None, size=0, default_branch=None)
    of_graph = {"createdAt": "2020-01-02T03:04:05Z", "pushedAt": None, "primaryLanguage": None, "diskUsage": None}
    assert replace(empty, watchers=0) == replace(
        node(**of_graph, repositoryTopics=None, defaultBranchRef=None), watchers=0
    )
    assert (empty.pushed_at, empty.revision) == (None, "2020-01-02T03:04:05Z")
    assert empty.created_at == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value", "flag"),
    [
        ("fork", True, "is_fork"),
        ("archived", True, "is_archived"),
        ("disabled", True, "is_disabled"),
        ("is_template", True, "is_template"),
        ("mirror_url", "git://host/a", "is_mirror"),
    ],
)
def test_flags(name: str, value: object, flag: str) -> None:
    plain = dict.fromkeys(("fork", "archived", "disabled", "is_template"), False)
    assert getattr(rest(**{**plain, name: value}), flag) is True
    assert getattr(rest(**plain, mirror_url=None), flag) is False


OPTIONAL_IN_REST = (
    *("description", "language", "license", "topics", "size", "fork", "archived", "pushed_at", "default_branch"),
    *("is_template", "mirror_url", "disabled", "node_id", "subscribers_count", "visibility", "score"),
)
OPTIONAL_IN_GRAPHQL = (
    *("description", "primaryLanguage", "licenseInfo", "repositoryTopics", "diskUsage", "pushedAt"),
    *("defaultBranchRef", "watchers"),
)


@pytest.mark.parametrize(
    ("read", "names"), [(rest, OPTIONAL_IN_REST), (node, OPTIONAL_IN_GRAPHQL)], ids=["rest", "graphql"]
)
def test_what_is_not_always_said_may_be_missing_or_null(
    read: Callable[..., Repository], names: tuple[str, ...]
) -> None:
    for nothing in (None, MISSING):
        for name in names:
            assert read(**{name: nothing}).id == read().id
        assert read(**dict.fromkeys(names, nothing)).id == read().id


@pytest.mark.parametrize("name", ["id", "full_name", "html_url", "stargazers_count"])
def test_what_is_always_said_must_be_there(name: str) -> None:
    with pytest.raises(KeyError):
        rest(**{name: MISSING})
    with pytest.raises(TypeError):
        rest(id=None)
    with pytest.raises(TypeError):
        node(databaseId=None)


def test_terms_are_looked_for_in_name_description_and_topics() -> None:
    asked = []

    def terms(*texts: object) -> tuple[str, ...]:
        asked.append(texts)
        return ("web",)

    item = as_item(WORLD, 1) | {"full_name": "a/b", "description": "c", "topics": ["d"]}
    assert from_rest(item, terms).terms == ("web",)
    assert asked == [("a/b", "c", ("d",))]

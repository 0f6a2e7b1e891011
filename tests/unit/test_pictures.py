"""The pictures in docs/explanation/architecture.md show the code as it is: its rooms, the flow, an event's way."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import grimp
import pytest

from codelupe.config.directories import locate_directories
from codelupe.config.sources import Layer, RawSettings, validate
from codelupe.host.extensions import Extensions
from codelupe.postgres import Database
from scripts.reference import first_party_plugins

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/architecture.md").read_text()

_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EDGE = re.compile(r"^ +(.+?) (?:-- (\w+) )?--> (.+)$", re.MULTILINE)
_NODE = re.compile(r"(\w+)(?:\(\[(?P<outside>[^\]]+)\]\)|\[(?P<label>[^\]]+)\])?$")
_LINKED_NAME = re.compile(r"^\d+\. \[`([\w.]+)`\]\(\.\./\.\./([^)]+)\)", re.MULTILINE)
MOST_HOPS = 6


class Edge(NamedTuple):
    """An arrow; an end outside the code, drawn with round corners, is None."""

    source: str | None
    label: str
    target: str | None


def section(heading: str) -> str:
    return re.split(r"^## ", PAGE, flags=re.MULTILINE)[1 + _headings().index(heading)]


def _headings() -> list[str]:
    return re.findall(r"^## (.+)$", PAGE, re.MULTILINE)


def edges(text: str) -> set[Edge]:
    """The arrows of the pictures in the text."""
    found = set()
    for block in _BLOCK.findall(text):
        sides = [(left.split(" & "), label, right.split(" & ")) for left, label, right in _EDGE.findall(block)]
        names = dict(_names(node for left, _, right in sides for node in (*left, *right)))
        for left, label, right in sides:
            found |= {Edge(names[_id(source)], label, names[_id(target)]) for source in left for target in right}
    return found


def _names(nodes: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """The label of each node's id; a node may be labelled anywhere in its picture."""
    matches = [match for node in nodes if (match := _NODE.match(node))]
    yield from ((match[1], match[1]) for match in matches)
    yield from ((match[1], match["label"]) for match in matches if match["label"] or match["outside"])


def _id(node: str) -> str:
    return node.partition("[")[0].partition("(")[0]


# --- the rooms ---


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("codelupe")


def contract() -> dict[str, Any]:
    """import-linter's contract about the rooms."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(one for one in contracts if one.get("containers") == ["codelupe"])


def layers() -> list[set[str]]:
    """The layers of the contract, the highest first."""
    return [set(layer.split(" | ")) for layer in contract()["layers"]]


def imports_between_rooms(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    rooms = {module.partition(".")[2] for module in graph.find_children("codelupe")}
    rooms -= set(contract()["exhaustive_ignores"])
    return {
        room: {
            other
            for other in rooms
            if other != room
            and graph.direct_import_exists(importer=f"codelupe.{room}", imported=f"codelupe.{other}", as_packages=True)
        }
        for room in rooms
    }


def without_implied(imports: dict[str, set[str]]) -> set[Edge]:
    """The arrows that no other ones imply."""

    def reached(room: str) -> set[str]:
        return {far for near in imports[room] for far in {near} | reached(near)}

    implied = {room: {far for near in imports[room] for far in reached(near)} for room in imports}
    return {Edge(room, "", other) for room in imports for other in imports[room] - implied[room]}


def test_the_picture_of_the_rooms_shows_what_they_import(graph: grimp.ImportGraph) -> None:
    assert edges(section("The rooms of the host")) == without_implied(imports_between_rooms(graph))


def test_a_planted_import_makes_the_picture_stale() -> None:
    changed = grimp.build_graph("codelupe")
    changed.add_import(importer="codelupe.config.settings", imported="codelupe.executor.pool")
    drawn = edges(section("The rooms of the host"))
    assert without_implied(imports_between_rooms(changed)) - drawn == {Edge("config", "", "executor")}


def test_the_table_of_the_rooms_has_the_layers_of_the_contract(graph: grimp.ImportGraph) -> None:
    table: dict[int, set[str]] = {}
    for number, room in re.findall(r"^\| (\d+) \| \[(\w+)\]", section("The rooms of the host"), re.MULTILINE):
        table.setdefault(int(number), set()).add(room)
    assert table == dict(enumerate(layers(), start=1))
    assert set.union(*layers()) == imports_between_rooms(graph).keys()


# --- the flow ---


@pytest.fixture(scope="module")
def extensions() -> Extensions:
    """What CodeLupe's own plugins offer with the default settings."""
    host = first_party_plugins()
    settings = validate(RawSettings([Layer("", {})]), host.settings_models(), environment={}).settings
    return host.gather(settings.plugins, Database("postgresql:///unused"), locate_directories(settings))


def flow(extensions: Extensions) -> set[Edge]:
    """From each that emits an event to each that handles it; None where there is no such one."""
    emitted = {(one.name, event) for one in [*extensions.subscriptions, *extensions.jobs] for event in one.emits}
    handled = {(event, one.name) for one in extensions.subscriptions for event in one.events}
    inner = {Edge(by, event.__name__, to) for by, event in emitted for known, to in handled if known is event}
    ends = {Edge(by, event.__name__, None) for by, event in emitted if event not in {known for known, _ in handled}}
    begins = {Edge(None, event.__name__, to) for event, to in handled if event not in {known for _, known in emitted}}
    return inner | ends | begins


def test_the_picture_of_the_flow_shows_what_the_plugins_offer(extensions: Extensions) -> None:
    assert edges(section("The flow")) == flow(extensions)


def test_a_subscription_left_out_makes_the_picture_stale(extensions: Extensions) -> None:
    fewer = Extensions(subscriptions=extensions.subscriptions[1:], jobs=extensions.jobs)
    assert edges(section("The flow")) != flow(fewer)


def test_the_table_of_the_flow_describes_nothing_that_is_not_there(extensions: Extensions) -> None:
    names = {one.name for one in [*extensions.subscriptions, *extensions.jobs]}
    assert set(re.findall(r"^\| `([\w.-]+)`", section("The flow"), re.MULTILINE)) <= names


# --- an event's way ---


def test_each_hop_of_an_events_way_leads_to_the_next() -> None:
    way = _LINKED_NAME.findall(section("An event's way to its handler"))
    assert 1 <= len(way) - 1 <= MOST_HOPS
    missing = [(here, there) for (here, path), (there, _) in pairwise(way) if not _calls(path, here, there)]
    assert missing == []


def test_a_hop_that_is_not_made_is_noticed() -> None:
    assert not _calls("codelupe/work/consumer.py", "Consumer.accept", "Attempt.run")


def _calls(path: str, function: str, called: str) -> bool:
    """Whether the method at that path mentions the other one, private or not."""
    owner, method = function.split(".")
    tree = ast.parse((ROOT / path).read_text())
    [cls] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner]
    [body] = [
        node for node in cls.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name == method
    ]
    mentioned = {node.attr for node in ast.walk(body) if isinstance(node, ast.Attribute)}
    return called.rpartition(".")[2].strip("_").lower() in {name.strip("_").lower() for name in mentioned}

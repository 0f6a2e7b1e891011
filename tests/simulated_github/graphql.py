"""The part of GitHub's GraphQL that a crawler asks: searches and their counts, repositories by their ids, the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLResolveInfo,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    execute_sync,
    parse,
    validate,
    value_from_ast_untyped,
)

from tests.simulated_github.faults import Faults
from tests.simulated_github.limits import Window
from tests.simulated_github.pages import Pages
from tests.simulated_github.search import MOST_RESULTS, Found, UnprocessableError, in_order, search
from tests.simulated_github.search import parse as parse_search
from tests.simulated_github.shapes import as_node, as_user_node, number_of
from tests.simulated_github.world import World

SCHEMA = build_schema(Path(__file__).with_name("schema.graphql").read_text(encoding="utf-8"))
MOST_NODES = 100
_CONNECTIONS = {"search", "repositoryTopics", "languages", "watchers", "stargazers"}


@dataclass(frozen=True)
class Asked:
    """A document and its variables; what it costs is known before it is executed."""

    document: DocumentNode | None
    errors: tuple[GraphQLError, ...]
    variables: Mapping[str, Any]

    @classmethod
    def read(cls, request: Mapping[str, Any]) -> Asked:
        document, errors = _parsed(str(request.get("query", "")))
        return cls(document, errors, request.get("variables") or {})

    @property
    def cost(self) -> int:
        """In points, by GitHub's rule: a hundredth of the connections' requests, and at least one."""
        return max(1, round(sum(times for name, times in self._fields() if name in _CONNECTIONS) / 100))

    @property
    def searches(self) -> int:
        return sum(name == "search" for name, _ in self._fields())

    def _fields(self) -> Iterator[tuple[str, int]]:
        """Each field with how often it is asked for."""
        if self.document is None or self.errors:
            return
        fragments = {
            one.name.value: one for one in self.document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        for definition in self.document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                yield from self._fields_of(definition.selection_set, 1, fragments)

    def _fields_of(
        self, selected: SelectionSetNode, times: int, fragments: Mapping[str, FragmentDefinitionNode]
    ) -> Iterator[tuple[str, int]]:
        for node in selected.selections:
            inner, many = getattr(node, "selection_set", None), 1
            if isinstance(node, FragmentSpreadNode):
                inner = fragments[node.name.value].selection_set
            elif isinstance(node, FieldNode):
                yield node.name.value, times
                many = self._multiplied(node)
            if inner is not None:
                yield from self._fields_of(inner, times * many, fragments)

    def _multiplied(self, node: FieldNode) -> int:
        arguments = {
            one.name.value: value_from_ast_untyped(one.value, dict(self.variables)) for one in node.arguments or ()
        }
        ids = arguments.get("ids")
        return len(ids) if isinstance(ids, list) else int(arguments.get("first") or arguments.get("last") or 1)


@dataclass(frozen=True)
class Context:
    """What the answer to one request depends on."""

    world: World
    random: np.random.Generator
    faults: Faults
    pages: Pages
    login: str
    window: Window
    cost: int


def answer(asked: Asked, context: Context) -> dict[str, Any]:
    """``{"data": …}``, with ``errors`` beside it for what could not be had."""
    if asked.document is None or asked.errors:
        return {"errors": [_error(one) for one in asked.errors]}
    root = {
        "search": _search, "nodes": _nodes, "node": _node, "repository": _repository, "viewer": _viewer,
        "rateLimit": _rate_limit,
    }  # fmt: skip
    result = execute_sync(SCHEMA, asked.document, root, context, dict(asked.variables))
    content: dict[str, Any] = {"data": result.data}
    if result.errors:
        content["errors"] = [_error(one) for one in result.errors]
    if result.data and context.random.random() < context.faults.partial:
        _leave_out(content, context.random)
    return content


@lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[DocumentNode | None, tuple[GraphQLError, ...]]:
    try:
        document = parse(text)
    except GraphQLError as error:
        return None, (error,)
    return document, tuple(validate(SCHEMA, document))


def _error(error: GraphQLError) -> dict[str, Any]:
    kind = (error.extensions or {}).get("type")
    formatted: dict[str, Any] = {key: value for key, value in error.formatted.items() if key != "extensions"}
    return {**({"type": kind} if kind else {}), **formatted}


def _refuse(kind: str, message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"type": kind})


def _leave_out(content: dict[str, Any], random: np.random.Generator) -> None:
    """Some of the answer is not there, and an error says so (cartography#2008)."""
    data, errors = content["data"], content.setdefault("errors", [])
    for name, value in list(data.items()):
        places: list[tuple[Any, Any, list[Any]]] = (
            [(value, at, [name, at]) for at in range(len(value))] if isinstance(value, list) else [(data, name, [name])]
        )
        for holder, key, path in places:
            if name != "rateLimit" and holder[key] is not None and random.random() < 0.3:
                holder[key] = None
                message = "Resource limits for this query exceeded."
                errors.append({"type": "RESOURCE_LIMITS_EXCEEDED", "path": path, "message": message})


# --- resolvers ---


def _search(info: GraphQLResolveInfo[Context], **asked: Any) -> dict[str, Any]:
    context = info.context
    if asked["type"] != "REPOSITORY":
        raise _refuse("UNPROCESSABLE", "Only repositories are searched here.")
    try:
        query = parse_search(asked["query"])
        found = search(context.world, query)
    except UnprocessableError as error:
        raise _refuse("INVALID_SEARCH_QUERY", str(error)) from None
    wanted = {node.name.value for node in _selected(info)} - {"repositoryCount", "__typename"}
    shown = _page_of(context, found, query.sort, asked) if wanted else {}
    return {"repositoryCount": approximate(found.total, context.random), **shown}


def _selected(info: GraphQLResolveInfo[Context]) -> Sequence[FieldNode]:
    selected = [node.selection_set for node in info.field_nodes if node.selection_set is not None]
    return [one for selection in selected for one in selection.selections if isinstance(one, FieldNode)]


def _page_of(context: Context, found: Found, sort: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    size, after = asked.get("first"), asked.get("after")
    if size is None or not 1 <= size <= MOST_NODES:
        raise _refuse("MISSING_PAGINATION_BOUNDARIES", "You must provide a `first` value of 1 to 100 for `search`.")
    begin = int(after.removeprefix("cursor:")) if after else 0
    ordered = in_order(context.world, found.shown, sort, context.random, shuffles=context.faults.shuffles_ties)
    ordered = ordered[:MOST_RESULTS]
    page = 1 + begin // size
    shown = context.pages.cut(asked["query"], ordered, page, size, context.faults, context.random)
    nodes = [None if index is None else as_node(context.world, index) for index in shown]
    ends = min(begin + size, len(ordered))
    return {
        "nodes": nodes,
        "edges": [{"cursor": f"cursor:{begin + at + 1}", "node": node} for at, node in enumerate(nodes)],
        "pageInfo": {
            "startCursor": f"cursor:{begin + 1}" if nodes else None,
            "endCursor": f"cursor:{ends}" if nodes else None,
            "hasNextPage": ends < len(ordered),
            "hasPreviousPage": begin > 0,
        },
    }


def _nodes(info: GraphQLResolveInfo[Context], ids: list[str]) -> list[dict[str, Any] | GraphQLError]:
    if len(ids) > MOST_NODES:
        raise _refuse("ARGUMENT_LIMIT", "You may not provide more than 100 node ids; you provided " + str(len(ids)))
    return [_found(info.context.world, node) for node in ids]


def _node(info: GraphQLResolveInfo[Context], id: str) -> dict[str, Any] | GraphQLError:  # noqa: A002 - the argument's name
    return _found(info.context.world, id)


def _found(world: World, node: str) -> dict[str, Any] | GraphQLError:
    number = number_of(node)
    index = None if number is None else world.index_of(number)
    if index is None or world.gone[index] or world.created[index] > world.now:
        return _refuse("NOT_FOUND", f"Could not resolve to a node with the global id of '{node}'.")
    return as_node(world, index)


def _repository(
    info: GraphQLResolveInfo[Context],
    owner: str,
    name: str,
    followRenames: bool = True,  # noqa: N803 - the argument's name
) -> dict[str, Any]:
    world = info.context.world
    found = world.find(f"{owner}/{name}")
    if found is None or world.gone[found[0]] or (found[1] and not followRenames):
        raise _refuse("NOT_FOUND", f"Could not resolve to a Repository with the name '{owner}/{name}'.")
    return as_node(world, found[0])


def _viewer(info: GraphQLResolveInfo[Context]) -> dict[str, Any]:
    return as_user_node(info.context.login)


def _rate_limit(info: GraphQLResolveInfo[Context], **_: Any) -> dict[str, Any]:
    context = info.context
    resets = context.window.ends + context.faults.clock_skew
    return {
        "cost": context.cost,
        "limit": context.window.limit,
        "used": context.window.used,
        "remaining": context.window.remaining,
        "nodeCount": 0,
        "resetAt": datetime.fromtimestamp(int(np.ceil(resets)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def approximate(total: int, random: np.random.Generator) -> int:
    """Beyond what can be paged through, a total is a guess."""
    return total if total <= MOST_RESULTS else max(MOST_RESULTS + 1, int(total * random.uniform(0.97, 1.03)))

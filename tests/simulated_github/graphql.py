"""The part of GitHub's GraphQL that a crawler asks: counts of searches, repositories by their ids, the user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from graphql import FieldNode, GraphQLError, OperationDefinitionNode, parse, value_from_ast_untyped

from tests.simulated_github.search import Unprocessable, matches
from tests.simulated_github.search import parse as parse_search
from tests.simulated_github.world import World

MOST_RESULTS = 1_000


class GraphQL:
    """Executes documents against the world; GitHub's own schema judges them in another test."""

    def __init__(self, world: World, random: np.random.Generator) -> None:
        self._world = world
        self._random = random

    def execute(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``{"data": …}``, with ``errors`` beside it for what could not be had."""
        try:
            [operation] = parse(request["query"]).definitions
        except GraphQLError as error:
            return {"errors": [{"message": str(error)}]}
        assert isinstance(operation, OperationDefinitionNode)
        data: dict[str, Any] = {}
        errors: list[dict[str, Any]] = []
        for node in operation.selection_set.selections:
            assert isinstance(node, FieldNode)
            name = node.alias.value if node.alias else node.name.value
            arguments = {
                one.name.value: value_from_ast_untyped(one.value, request.get("variables")) for one in node.arguments
            }
            try:
                data[name] = self._resolve(node.name.value, arguments, name, errors)
            except Unprocessable as error:
                data[name] = None
                errors.append({"type": "INVALID", "path": [name], "message": str(error)})
        return {"data": data, **({"errors": errors} if errors else {})}

    def _resolve(self, field: str, arguments: Mapping[str, Any], name: str, errors: list[dict[str, Any]]) -> Any:
        match field:
            case "search":
                total = len(matches(self._world, parse_search(arguments["query"])))
                is_guess = total > MOST_RESULTS
                return {"repositoryCount": int(total * self._random.uniform(0.97, 1.03)) if is_guess else total}
            case "nodes":
                return [self._node(node, [name, at], errors) for at, node in enumerate(arguments["ids"])]
            case "rateLimit":
                return {"cost": 1}
            case _:
                raise Unprocessable(f"there is no {field}")

    def _node(self, node: str, path: list[Any], errors: list[dict[str, Any]]) -> dict[str, Any] | None:
        match = re.fullmatch(r"R_kg([0-9a-f]+)", node)
        index = self._world.index_of(int(match[1], 16)) if match else None
        if index is None or self._world.gone[index]:
            message = f"Could not resolve to a node with the global id of '{node}'."
            errors.append({"type": "NOT_FOUND", "path": path, "message": message})
            return None
        from tests.simulated_github.server import describe

        item = describe(self._world, index)
        return {
            "id": item["node_id"],
            "databaseId": item["id"],
            "nameWithOwner": item["full_name"],
            "url": item["html_url"],
            "description": item["description"],
            "stargazerCount": item["stargazers_count"],
            "forkCount": item["forks_count"],
            "diskUsage": item["size"],
            "isFork": item["fork"],
            "isArchived": item["archived"],
            "isMirror": item["mirror_url"] is not None,
            "isTemplate": item["is_template"],
            "isDisabled": False,
            "createdAt": item["created_at"],
            "pushedAt": item["pushed_at"],
            "primaryLanguage": {"name": item["language"]},
            "licenseInfo": item["license"] and {"spdxId": item["license"]["spdx_id"]},
            "repositoryTopics": {"nodes": [{"topic": {"name": one}} for one in item["topics"]]},
            "watchers": {"totalCount": item["stargazers_count"] // 9},
            "defaultBranchRef": {"name": "main", "target": {"oid": f"{item['id']:040x}"}},
        }

"""What ``--set`` says, as the last layer of the settings."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from codelupe.errors import ConfigurationError


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """``["plugins.example.every=60"]`` as a tree. A value that is not TOML is taken as a string.

    Raises:
        ConfigurationError: an assignment has no ``=``, or lies within one that holds a single value.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigurationError(
                f"--set {assignment!r} is not of the form KEY=VALUE", hint="For example --set log_level=debug."
            )
        assign(tree, key.strip(), _toml_value(text))
    return tree


def assign(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into the tree under its dotted key.

    Raises:
        ConfigurationError: there is a single value where the key needs a table.
    """
    *parents, last = key.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigurationError(f"{key} is set, but {part} is given a value of its own", hint="Leave one out.")
    tree[last] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

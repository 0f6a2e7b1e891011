"""Every hook, and every public name that plugins build on."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import codelupe
from codelupe import commands
from codelupe.host import hookspecs
from scripts.reference_pages.names import public_names
from scripts.reference_pages.text import doc_of, markdown, signature


def hooks_page() -> str:
    """The page."""
    introduction = re.sub(r"^``(\w+)``\n    ", r"- ``\1``: ", inspect.getdoc(hookspecs) or "", flags=re.MULTILINE)
    parts = [
        "# Hooks and public names",
        markdown(introduction),
        "[A plugin in five minutes](../tutorial/first-plugin.md) shows some of them at work.",
        "## Hooks",
    ]
    for name, hook in hooks().items():
        parts += [f"### `{name}`", signature(name, hook), doc_of(hook)]
    parts += ["## Public names", "All of them are imported from `codelupe`.", *_sorted_names(codelupe)]
    parts += ["## Public names for commands", "All of them are imported from `codelupe.commands`."]
    parts += [doc_of(commands), *_sorted_names(commands)]
    return "\n\n".join(filter(None, parts))


def hooks() -> dict[str, Any]:
    """The hooks by name, in the order of their module."""
    return {name: hook for name, hook in vars(hookspecs).items() if name.startswith("codelupe_")}


def _sorted_names(module: ModuleType) -> list[str]:
    return list(public_names(module, sorted(module.__all__, key=str.lower)))

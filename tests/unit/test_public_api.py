"""What plugins build on: it changes only on purpose, and its annotations can be read at run time."""

from __future__ import annotations

import difflib
import inspect
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import codelupe
import codelupe_events
from codelupe.host import hookspecs
from scripts.public_api import SNAPSHOT, public_api


def test_the_public_api_is_the_committed_one() -> None:
    committed, now = SNAPSHOT.read_text(encoding="utf-8").splitlines(), public_api().splitlines()
    changes = "\n".join(difflib.unified_diff(committed, now, "tests/public_api.txt", "the code", lineterm="", n=0))
    assert not changes, (
        f"the public API differs from tests/public_api.txt:\n{changes}\n"
        "If that is intended, run `make api`, commit the file and say it in CHANGELOG.md."
    )


def annotated() -> Iterator[tuple[str, Any]]:
    """Every public class and function, and the public methods of the classes."""
    for module in (codelupe, codelupe_events):
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.isclass(value) and not inspect.isfunction(value):
                continue
            yield f"{module.__name__}.{name}", value
            for method, function in inspect.getmembers(value, inspect.isfunction) if inspect.isclass(value) else ():
                if not method.startswith("_") or method == "__init__":
                    yield f"{module.__name__}.{name}.{method}", function


ANNOTATED = dict(annotated())


@pytest.mark.parametrize("it", ANNOTATED.values(), ids=ANNOTATED)
def test_annotations_can_be_resolved(it: Any) -> None:
    if getattr(it, "__module__", "").startswith("codelupe"):
        typing.get_type_hints(it)


def test_hooks_are_annotated_with_what_exists() -> None:
    import typer

    from codelupe import Database

    for name, hook in vars(hookspecs).items():
        if name.startswith("codelupe_"):
            assert "return" in typing.get_type_hints(hook, localns={"typer": typer, "Database": Database})


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert codelupe.__version__ == project["version"]

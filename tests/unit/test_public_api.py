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
from scripts.public_api import MODULES, SNAPSHOT, public_api
from scripts.reference_pages.hooks import hooks


def test_the_public_api_is_the_committed_one() -> None:
    committed, now = SNAPSHOT.read_text(encoding="utf-8").splitlines(), public_api().splitlines()
    changes = "\n".join(difflib.unified_diff(committed, now, "tests/public_api.txt", "the code", lineterm="", n=0))
    assert not changes, (
        f"the public API differs from tests/public_api.txt:\n{changes}\n"
        "If that is intended, run `make api`, commit the file and say it in CHANGELOG.md."
    )


def annotated() -> Iterator[tuple[str, Any]]:
    """Every public class and function, and the public members of the classes."""
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
                yield from ((f"{module.__name__}.{name}.{member}", it) for member, it in functions_of(value))
            elif inspect.isfunction(inspect.unwrap(value)):
                yield f"{module.__name__}.{name}", inspect.unwrap(value)


def functions_of(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """The functions behind methods of all kinds and behind properties."""
    for name in dir(cls):
        if not name.startswith("_") or name == "__init__":
            member = inspect.getattr_static(cls, name)
            functions = (getattr(member, attribute, None) for attribute in ("fget", "func", "__func__"))
            function = inspect.unwrap(next(filter(None, functions), member))
            if inspect.isfunction(function):
                yield name, function


ANNOTATED = {name: it for name, it in annotated() if it.__module__.startswith("codelupe")}


def test_members_of_every_kind_are_looked_at() -> None:
    assert {
        "codelupe.Recorded.from_row",
        "codelupe.Repository.id",
        "codelupe.HandlerContext.log",
        "codelupe.HandlerContext.transaction",
        "codelupe.Subscription.event_types",
        "codelupe.commands.with_session",
        "codelupe_events.Event.stream",
    } <= ANNOTATED.keys()


@pytest.mark.parametrize("it", ANNOTATED.values(), ids=ANNOTATED)
def test_annotations_can_be_resolved(it: Any) -> None:
    typing.get_type_hints(it)


@pytest.mark.parametrize("hook", hooks().values(), ids=hooks())
def test_annotations_of_hooks_can_be_resolved(hook: Any) -> None:
    assert "return" in typing.get_type_hints(hook)


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert codelupe.__version__ == project["version"]

"""The generated reference is fresh, and what it is made from is documented."""

from __future__ import annotations

import ast
import inspect
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from pydantic import BaseModel

import codelupe_events
from codelupe import BatchContext, BatchSubscription, HandlerContext, Job, JobContext, Service, Subscription
from codelupe.config.settings import Settings
from codelupe.host.host import Host
from codelupe.postgres.migrate import own_migrations
from codelupe_events import event_types, registry
from scripts.public_api import MODULES
from scripts.reference import first_party_plugins, pages, stale_pages
from scripts.reference_pages.cli import command_tree, commands
from scripts.reference_pages.events import families, structs
from scripts.reference_pages.hooks import hooks
from scripts.reference_pages.text import markdown


@pytest.fixture(scope="module")
def host() -> Host:
    return first_party_plugins()


@pytest.fixture(scope="module")
def page() -> dict[str, str]:
    """Each page as it would be written now, by the name of its file."""
    return pages()


def test_no_page_is_stale() -> None:
    assert stale_pages() == [], "run `make docs`"


def test_every_setting_says_what_it_means(host: Host) -> None:
    models: list[tuple[str, type[BaseModel]]] = [("", Settings)]
    models += [(f"plugins.{name}", model) for name, model in host.settings_models().items() if model is not None]
    undescribed = [key for at, model in models for key in _undescribed(model, at)]
    assert undescribed == []


def _undescribed(model: type[BaseModel], at: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        if not info.description:
            yield f"{at}.{name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _undescribed(info.annotation, f"{at}.{name}")


def test_every_settings_model_of_a_plugin_has_a_docstring(host: Host) -> None:
    models = [model for model in host.settings_models().values() if model is not None and model is not BaseModel]
    assert [model.__name__ for model in models if not model.__doc__] == []


def test_every_hook_and_every_public_name_has_a_docstring() -> None:
    assert [name for name, hook in hooks().items() if not inspect.getdoc(hook)] == []
    ours = [getattr(module, name) for module in MODULES for name in module.__all__]
    documented = [it for it in ours if inspect.isclass(it) and it.__module__.startswith("codelupe")]
    assert [it.__name__ for it in documented if not _own_docstring(it)] == []


@pytest.mark.parametrize("declaration", [Subscription, BatchSubscription, Job, Service])
def test_every_field_of_what_a_plugin_declares_says_what_it_means(page: dict[str, str], declaration: type[Any]) -> None:
    section = _section(page["hooks.md"], declaration)
    with_meaning = re.findall(r"^\| `(\w+)` \| .*? \| (?:`.*`|required) \| \S.* \|$", section, re.MULTILINE)
    assert with_meaning == [each.name for each in fields(declaration)]


@pytest.mark.parametrize("context", [HandlerContext, BatchContext, JobContext])
def test_every_attribute_of_a_context_says_what_it_means(page: dict[str, str], context: type[Any]) -> None:
    set_here = {name for owner in context.__mro__[:-1] for name in _set_by(owner) if not name.startswith("_")}
    assert set_here <= set(re.findall(r"^\| `(\w+)` \| \S", _section(page["hooks.md"], context), re.MULTILINE))


def _set_by(owner: type[Any]) -> Iterator[str]:
    """The attributes that its methods assign to."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(owner)))):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def test_what_the_host_alone_calls_is_left_out(page: dict[str, str]) -> None:
    section = _section(page["hooks.md"], HandlerContext)
    assert "transaction()" in section
    assert [name for name in ("finish", "open_inside", "emit_all") if f"{name}(" in section] == []


def _section(text: str, thing: type[Any]) -> str:
    """What the page says of a public name."""
    return text.partition(f"\n### `{thing.__name__}`\n")[2].partition("\n### ")[0]


def test_errors_of_several_lines_are_one_each() -> None:
    docstring = "Do it.\n\nRaises:\n    OSError: the disk is full, or\n        it is away.\n    ValueError: no.\n"
    assert markdown(docstring) == "Do it.\n\nRaises: `OSError`: the disk is full, or it is away; `ValueError`: no."


def _own_docstring(cls: type[Any]) -> bool:
    """Whether it was written: a dataclass without gets its signature."""
    return bool(cls.__doc__) and not str(cls.__doc__).startswith(f"{cls.__name__}(")


def test_every_event_and_every_family_has_a_docstring() -> None:
    assert [module.__name__ for module in families() if not module.__doc__] == []
    described = [struct for module in families() for struct in structs(module)]
    assert [struct.__name__ for struct in described if not _own_docstring(struct)] == []


def test_every_event_is_on_its_page(page: dict[str, str]) -> None:
    own = {event.__name__ for event in event_types() if event.__module__.startswith("codelupe_events.")}
    assert own <= set(re.findall(r"^### `(\w+)`$", page["events.md"], re.MULTILINE))


def test_how_an_event_is_declared_and_read_is_on_the_page_of_events(page: dict[str, str]) -> None:
    public = {name for name in codelupe_events.__all__ if name in vars(registry)}
    assert {"event", "Event", "decode", "UnknownEventVersion"} <= public
    assert public <= set(re.findall(r"^### `(\w+)`$", page["events.md"], re.MULTILINE))


def test_every_command_and_every_option_says_what_it_does(host: Host) -> None:
    silent = []
    for name, command in commands(command_tree(host)):
        context = command.context_class(command, info_name=name)
        helps = {parameter.name: parameter.get_help_record(context) for parameter in command.get_params(context)}
        silent += [f"{name} {option}" for option, record in helps.items() if record and not record[1].strip()]
        silent += [] if command.help else [name]
    assert silent == []


def test_every_exit_code_is_told(page: dict[str, str]) -> None:
    told, _, errors = page["cli.md"].partition("## Exit codes\n")[2].partition("| exit code |")
    codes = {str(os.EX_SOFTWARE), *re.findall(r"^\| (\d+) \|", errors, re.MULTILINE)}
    assert codes <= set(re.findall(r"\b\d+\b", told))


def test_every_table_is_on_its_page(page: dict[str, str]) -> None:
    made = {name for one in own_migrations() for name in re.findall(r"^create table (\w+)", one.sql, re.MULTILINE)}
    assert made == set(re.findall(r"^### `(\w+)`$", page["database.md"], re.MULTILINE))


def test_a_function_that_is_no_more_is_said_to_be_replaced(page: dict[str, str]) -> None:
    dropped = {(f"{one.number:04}", name) for one in own_migrations() for name in _dropped_functions(one.sql)}
    assert ("0011", "feed_tasks") in dropped
    told = [(dropper, name, row) for dropper, name in dropped for row in _rows_before(dropper, name, page)]
    assert {(dropper, name) for dropper, name, _ in told} == dropped
    assert [name for dropper, name, row in told if dropper not in row.rpartition("Replaced by ")[2]] == []


def _dropped_functions(sql: str) -> list[str]:
    return re.findall(r"^drop function (\w+)", sql, re.MULTILINE)


def _rows_before(number: str, function: str, page: dict[str, str]) -> list[str]:
    """What the sections of earlier migrations say of a function."""
    earlier = page["database.md"].partition(f"\n## {number} ")[0]
    return re.findall(rf"^\| `{function}\(.*$", earlier, re.MULTILINE)


@pytest.mark.parametrize(
    ("number", "change"),
    [
        ("0006", "    add column signature_version integer;"),
        ("0008", "alter table tasks rename column losses to crashes;"),
        ("0011", "    add column types text[],"),
    ],
)
def test_what_a_migration_changes_in_earlier_tables_is_in_its_section(
    page: dict[str, str], number: str, change: str
) -> None:
    section = page["database.md"].partition(f"\n## {number} ")[2].partition("\n## ")[0]
    assert change in section.splitlines()

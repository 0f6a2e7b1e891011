"""What the documentation points to is there: links, commands, files it quotes, settings."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from codelupe.config.settings import Settings, settings_model
from codelupe.host.host import Host
from scripts.reference import first_party_plugins, pages
from scripts.reference_pages.cli import command_tree

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_QUOTED = re.compile(r"^<!-- file: (\S+) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:\w+=\S+ )*(?:\S*/)?(codelupe .*)")

every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


@pytest.fixture(scope="module")
def host() -> Host:
    return first_party_plugins()


@pytest.fixture(scope="module")
def commands(host: Host) -> Any:
    return command_tree(host)


# --- links ---


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert [link for link in _links(page) if not _resolves(page, link)] == []


def _links(page: Path) -> list[str]:
    return [link for link in _LINK.findall(_CODE_BLOCK.sub("", page.read_text())) if "://" not in link]


def _resolves(page: Path, link: str) -> bool:
    address, _, anchor = link.partition("#")
    target = page.parent / address if address else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = [heading.lower().replace("`", "") for heading in _HEADING.findall(_CODE_BLOCK.sub("", page.read_text()))]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = [(page.parent / link.partition("#")[0]).resolve() for link in _links(page)]
            waiting += [target for target in targets if target.suffix == ".md"]
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in reached] == []


# --- tests ---


@every_page
def test_every_test_that_a_link_names_exists(page: Path) -> None:
    named = re.findall(r"\[(test_\w+)\]\(([^)\s]+\.py)\)", page.read_text())
    assert [name for name, file in named if f"def {name}(" not in (page.parent / file).read_text()] == []


def test_every_fault_has_a_test_that_shows_it() -> None:
    text = (ROOT / "docs/explanation/event-log.md").read_text()
    _, _, section = text.partition("\n## Fault by fault\n")
    rows = [line.split(" | ") for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    faults = [row for row in rows if not row[0].startswith(("| **", "| ---"))]
    assert len(faults) > 20
    assert [what for what, bound, shown in faults if not bound or "[test_" not in shown] == []


# --- commands ---


@every_page
def test_every_command_exists_with_its_options(page: Path, commands: Any) -> None:
    assert [f"{line}: {fault}" for line in _command_lines(page.read_text()) if (fault := _fault(commands, line))] == []


def _command_lines(text: str) -> Iterator[str]:
    """Lines of shell and code spans that run ``codelupe``, with or without variables and a path before it."""
    prose = _CODE_BLOCK.sub("", text)
    shell = [line for language, block in _CODE_BLOCK.findall(text) if language == "" for line in block.splitlines()]
    for line in [*shell, *_INDENTED.findall(prose), *_SPAN.findall(prose)]:
        if found := _COMMAND.fullmatch(line):
            yield found[1]


def _fault(commands: Any, line: str) -> str | None:
    """What is wrong with a command line; None if it could be typed like this."""
    command, words = commands, shlex.split(line, comments=True)[1:]
    if words and words[0].startswith(("<", "…")):
        return None
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if (default := getattr(command, "default_command", None)) and word not in command.commands:
            words.insert(0, word)
            word = default
        if word.startswith("-"):
            words.insert(0, word)
            break
        if word not in command.commands:
            return f"{word} is not a command"
        command = command.commands[word]
    context = command.context_class(command, info_name=line)
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"{unknown[0]} is not an option" if unknown else None


@every_page
def test_every_stage_named_in_a_command_exists(page: Path) -> None:
    named = re.findall(r"(?:codelupe replay|--subscription) ([a-z_]+\.[a-z-]+)", page.read_text())
    assert [stage for stage in named if f"`{stage}`" not in pages()["events.md"]] == []


@pytest.mark.parametrize(
    "line", ["codelupe stauts", "codelupe events tial", "codelupe run --until-ilde", "codelupe events tail --nmuber 3"]
)
def test_a_wrong_command_is_noticed(line: str, commands: Any) -> None:
    assert _fault(commands, line) is not None


# --- what is quoted ---


@every_page
def test_every_quoted_file_is_quoted_as_it_is(page: Path) -> None:
    for name, text in _QUOTED.findall(page.read_text()):
        assert text == (page.parent / name).read_text(), name


@every_page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    named = re.findall(r"(?:^ {4}|`)make ([a-z0-9-]+)", text, re.MULTILINE)
    assert set(named) <= targets


@pytest.fixture
def settings(host: Host, monkeypatch: pytest.MonkeyPatch) -> type[Settings]:
    """The settings of our plugins and of those that the documentation shows."""
    for folder in ("docs/how-to/example-source", "docs/how-to/example-paged-source", "docs/tutorial/example-plugin"):
        monkeypatch.syspath_prepend(folder)
    examples = {
        "mirrors": import_module("codelupe_mirrors").MirrorsSettings,
        "optout": import_module("codelupe_optout").OptOutSettings,
    }
    return settings_model({**host.settings_models(), **examples})


@every_page
def test_every_piece_of_configuration_is_valid(page: Path, settings: type[Settings]) -> None:
    for language, block in _CODE_BLOCK.findall(_QUOTED.sub("", page.read_text())):
        if language == "toml":
            settings.model_validate(tomllib.loads(block), extra="forbid")

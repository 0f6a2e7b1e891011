"""What README and tutorial quote of the demo is what today's demo prints, loosely: its figures vary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.demo_pages import PAGES, QUOTE, RUN, quote
from scripts.manifests import own_manifests
from scripts.reference import first_party_plugins


def quotes(*commands: str) -> list[tuple[Path, str, str]]:
    """Page, command and text of each quote; of these commands only, if some are given."""
    found = [(page, it["command"], it["text"]) for page in PAGES for it in QUOTE.finditer(page.read_text())]
    return [one for one in found if not commands or one[1] in commands]


def own_names() -> tuple[set[str], set[str]]:
    """The full names of CodeLupe's own jobs and subscriptions."""
    plugins = {plugin.entry.value: plugin.name for plugin in first_party_plugins().active if plugin.entry}
    manifests = own_manifests().items()
    jobs = {f"{plugins[package]}.{one.name}" for package, manifest in manifests for one in manifest.jobs}
    return jobs, {f"{plugins[package]}.{one.name}" for package, manifest in manifests for one in manifest.subscriptions}


def test_each_page_quotes_the_demo() -> None:
    assert {page for page, _, _ in quotes()} == set(PAGES)
    assert {RUN, "status", "models list"} <= {command for _, command, _ in quotes()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_quote_is_left_open_or_empty(page: Path) -> None:
    text = page.read_text()
    assert len(QUOTE.findall(text)) == text.count("<!-- demo: end -->") == text.count("<!-- demo: ") / 2
    assert all(it["text"].strip() for it in QUOTE.finditer(text))


@pytest.mark.parametrize(("page", "command", "text"), quotes(RUN, "status"))
def test_the_quote_names_today_s_subscriptions_and_sections(page: Path, command: str, text: str) -> None:
    jobs, subscriptions = own_names()
    heading = ["subscription", "waiting", "running", "done", "dead letters"] + (["seconds"] if command == RUN else [])
    assert re.split(r"  +", text.strip().splitlines()[0].strip()) == heading
    named = set(re.findall(r"^    ([a-z_]+\.[a-z-]+) ", text, re.MULTILINE))
    assert named == (subscriptions | jobs if command == RUN else subscriptions)
    for line in ("repositories", "rejected", "files", "scored", "batches", "models"):
        assert re.search(rf"^ +{line} +[\d,]+ ", text, re.MULTILINE), f"{page.name} has no line for {line}"


@pytest.mark.parametrize(("page", "command", "text"), quotes(RUN, "status"))
def test_the_figures_are_those_of_a_newcomer(page: Path, command: str, text: str) -> None:
    """The environment of the demo alone brings some 85 packages; one with the test tools brings half as many again."""
    [repositories] = re.findall(r"^    repositories +(\d+) ", text, re.MULTILINE)
    assert 60 <= int(repositories) <= 110
    assert re.search(r"^    models +1 +1 (?:promoted|rejected)$", text, re.MULTILINE)
    assert "dead letters list" not in text
    if command == RUN:
        assert re.search(r"^    Finished in 0:0\d:\d\d\.", text, re.MULTILINE)


def test_a_part_of_what_was_printed_says_that_it_is_one() -> None:
    text = "first  \nsecond\nthird\n"
    assert quote(text, None, 0) == "\n    first\n    second\n    third\n\n"
    assert quote(text, "head", 1) == "\n    first\n    …\n\n"
    assert quote(text, "tail", 2) == "\n    …\n    second\n    third\n\n"
    assert quote(text, "tail", 3) == quote(text, "head", 3) == quote(text, None, 0)
    [line] = quote("x" * 200, None, 0).split()
    assert (len(line), line[-1]) == (116, "…")

"""What README and tutorial quote of the demo is what today's demo prints, loosely: its figures vary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.demo_pages import PAGES, QUOTE
from scripts.manifests import own_manifests
from scripts.reference import first_party_plugins


def quotes() -> list[tuple[Path, str, str]]:
    return [(page, quote["name"], quote["text"]) for page in PAGES for quote in QUOTE.finditer(page.read_text())]


def own_names() -> tuple[set[str], set[str]]:
    """The full names of CodeLupe's own jobs and subscriptions."""
    plugins = {plugin.entry.value: plugin.name for plugin in first_party_plugins().active if plugin.entry}
    manifests = own_manifests().items()
    jobs = {f"{plugins[package]}.{one.name}" for package, manifest in manifests for one in manifest.jobs}
    return jobs, {f"{plugins[package]}.{one.name}" for package, manifest in manifests for one in manifest.subscriptions}


def test_each_page_quotes_the_demo() -> None:
    assert {page for page, _, _ in quotes()} == set(PAGES)
    assert {name for _, name, _ in quotes()} == {"run", "status"}


@pytest.mark.parametrize(("page", "name", "text"), quotes())
def test_the_quote_names_today_s_subscriptions_and_sections(page: Path, name: str, text: str) -> None:
    jobs, subscriptions = own_names()
    heading = ["subscription", "waiting", "running", "done", "dead letters"] + (["seconds"] if name == "run" else [])
    assert re.split(r"  +", text.strip().splitlines()[0].strip()) == heading
    named = set(re.findall(r"^    ([a-z_]+\.[a-z-]+) ", text, re.MULTILINE))
    assert named == (subscriptions | jobs if name == "run" else subscriptions)
    for line in ("repositories", "rejected", "files", "scored", "batches", "models"):
        assert re.search(rf"^ +{line} +[\d,]+ ", text, re.MULTILINE), f"{page.name} has no line for {line}"


@pytest.mark.parametrize(("page", "name", "text"), quotes())
def test_the_figures_are_those_of_a_newcomer(page: Path, name: str, text: str) -> None:
    """The environment of the demo alone brings some 85 packages; one with the test tools brings half as many again."""
    [repositories] = re.findall(r"^    repositories +(\d+) ", text, re.MULTILINE)
    assert 60 <= int(repositories) <= 110
    assert re.search(r"^    models +1 +1 (?:promoted|rejected)$", text, re.MULTILINE)
    assert "dead letters list" not in text
    if name == "run":
        assert re.search(r"^    Finished in 0:0\d:\d\d\.", text, re.MULTILINE)

"""The plugin of docs/tutorial/first-plugin.md, built, installed and run as the tutorial tells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.made_once import made_once, shared_temporary_folder

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "docs" / "tutorial" / "example-plugin"
OPT_OUT = 'plugins.optout.owners=["mallory"]'


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed plugin. The build takes setuptools from this environment, so it needs no network."""
    return made_once(shared_temporary_folder(tmp_path_factory) / "example-plugin", install) / "installed"


def install(folder: Path) -> None:
    shutil.copytree(EXAMPLE, folder / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", folder / "installed", folder / "source"], check=True)


def environment(installed: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CODELUPE_")}
    return {**inherited, "PYTHONPATH": str(installed), **more}


def codelupe(*arguments: str, env: dict[str, str], exit_code: int = 0) -> str:
    command = [sys.executable, "-m", "codelupe", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stderr
    return done.stdout if exit_code == 0 else done.stderr


def make_repository(folder: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    identity = ["-c", "user.name=M", "-c", "user.email=m@localhost"]
    commit = ["commit", "--quiet", "--allow-empty", "--message", "Begin"]
    subprocess.run(["git", "-C", folder, *identity, *commit], check=True)
    return folder


def test_it_is_found_with_its_hooks_and_its_stage(installed: Path) -> None:
    plugins = json.loads(codelupe("plugins", "list", "--json", env=environment(installed)))
    [ours] = [plugin for plugin in plugins if plugin["name"] == "optout"]
    assert ours["state"] == "active", ours["error"]
    assert (ours["distribution"], ours["version"]) == ("codelupe-optout", "0.1.0")
    assert ours["hooks"] == ["codelupe_repository_rules", "codelupe_settings", "codelupe_subscriptions"]
    assert ours["subscriptions"] == [{"name": "optout.report", "consumes": ["RepoRejected"], "emits": []}]


def test_the_tutorial_shows_the_list_that_is_printed(installed: Path) -> None:
    page = (EXAMPLE.parent / "first-plugin.md").read_text(encoding="utf-8")
    shown = page.partition("codelupe plugins list\n\n")[2].partition("\n\n")[0]
    wide = environment(installed, COLUMNS="200")
    printed = [line.rstrip() for line in codelupe("plugins", "list", env=wide).splitlines()]
    assert [line.removeprefix("    ") for line in shown.splitlines()] == printed


def test_a_misspelt_setting_is_refused(installed: Path) -> None:
    message = codelupe(
        "config", "check", "--set", 'plugins.optout.owner=["mallory"]', env=environment(installed), exit_code=78
    )
    assert "plugins.optout.owner" in message
    assert "owners" in message


async def test_its_rule_decides_and_its_handler_hears_of_it(installed: Path, database_url: str, tmp_path: Path) -> None:
    env = environment(installed, CODELUPE_DATABASE_URL=database_url, CODELUPE_STATE_DIR=str(tmp_path / "state"))
    owners = [make_repository(tmp_path / owner / "tool") for owner in ("mallory", "alice")]
    sources = [argument for owner in owners for argument in ("--source", str(owner))]
    codelupe("run", "--until-idle", *sources, "--set", OPT_OUT, env=env)

    rejected = codelupe("events", "tail", "--type", "RepoRejected", "--json", env=env).splitlines()
    reasons = {event["stream"]: _rules(event) for event in map(json.loads, rejected)}
    assert "opt-out" in reasons[f"repo/local:{owners[0]}"]
    assert "opt-out" not in reasons[f"repo/local:{owners[1]}"]

    status = json.loads(codelupe("status", "--json", env=env))
    [subscription] = [
        subscription for subscription in status["subscriptions"] if subscription["name"] == "optout.report"
    ]
    assert (subscription["done"], subscription["dead_lettered"]) == (2, 0)


def _rules(event: dict[str, Any]) -> set[str]:
    return {reason["rule"] for reason in event["data"]["reasons"]}

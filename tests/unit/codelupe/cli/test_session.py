"""``--set KEY=VALUE`` becomes a tree, and the tree is the last layer of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codelupe.cli.overrides import assign, parse_overrides
from codelupe.cli.session import load, open_session
from codelupe.config import sources as config
from codelupe.errors import ConfigurationError, DatabaseUnavailable


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("assignments", "tree"),
    [
        ([], {}),
        (["log_level=debug"], {"log_level": "debug"}),
        (["drain_seconds=2.5", "executor_workers=3"], {"drain_seconds": 2.5, "executor_workers": 3}),
        (["plugins.crawler.installed_packages=true"], {"plugins": {"crawler": {"installed_packages": True}}}),
        (["plugins.a.x=1", "plugins.a.y=2", "plugins.b.x=3"], {"plugins": {"a": {"x": 1, "y": 2}, "b": {"x": 3}}}),
        (["disabled_plugins=['a', \"b\"]"], {"disabled_plugins": ["a", "b"]}),
        (["plugins.a={x = 1}", "plugins.a.y=2"], {"plugins": {"a": {"x": 1, "y": 2}}}),
        (["log_level=debug", "log_level=error"], {"log_level": "error"}),
        (["database_url=postgresql://u@h/db?a=b"], {"database_url": "postgresql://u@h/db?a=b"}),
        (["state_dir="], {"state_dir": ""}),
        (["state_dir='5'"], {"state_dir": "5"}),
        ([" log_level =debug"], {"log_level": "debug"}),
    ],
)
def test_assignments_become_a_tree(assignments: list[str], tree: dict[str, Any]) -> None:
    assert parse_overrides(assignments) == tree


@pytest.mark.parametrize("assignment", ["log_level", "=debug", ""])
def test_what_is_no_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigurationError, match="not of the form KEY=VALUE"):
        parse_overrides([assignment])


def test_a_value_within_a_single_value_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"plugins\.crawler\.x is set, but plugins"):
        parse_overrides(["plugins=5", "plugins.crawler.x=1"])


def test_assign_replaces_what_was_there() -> None:
    tree: dict[str, Any] = {"plugins": {"crawler": {"sources": ["old"], "every": 1}}}
    assign(tree, "plugins.crawler.sources", ["new"])
    assert tree == {"plugins": {"crawler": {"sources": ["new"], "every": 1}}}


def test_overrides_win_and_are_named_as_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "codelupe.toml"
    file.write_text('log_level = "error"\nlease_seconds = 10\n')
    loaded = load(file, "demo", parse_overrides(["log_level=debug", "plugins.filters.min_stars=7"])).configuration
    found = {key: (value, origin) for key, value, origin in loaded.leaves()}
    assert found["log_level"] == ("debug", "command line")
    assert found["lease_seconds"] == (10, str(file))
    assert found["plugins.filters.min_stars"] == (7, "command line")
    assert found["plugins.crawler.installed_packages"] == (True, "profile demo")


def test_a_wrong_override_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"command line: unknown key log_levle \(did you mean log_level\?\)"):
        load(None, None, parse_overrides(["log_levle=debug"]))


def test_a_plugin_that_an_override_disables_is_not_loaded() -> None:
    session = load(None, None, parse_overrides(['disabled_plugins=["trainer"]', "plugins.trainer.nonsense=1"]))
    assert "trainer" not in [plugin.name for plugin in session.host.active]
    assert "filters" in [plugin.name for plugin in session.host.active]


@pytest.mark.anyio
async def test_reading_commands_make_no_database(tmp_path: Path) -> None:
    session = load(None, None, {"state_dir": str(tmp_path / "state")})
    with pytest.raises(DatabaseUnavailable, match="there is no database") as caught:
        async with open_session(session):
            pass
    assert "codelupe run" in (caught.value.hint or "")
    assert not (tmp_path / "state").exists()

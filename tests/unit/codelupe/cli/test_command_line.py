"""Commands of plugins beside the host's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from codelupe.cli import build_app
from codelupe.cli.command_line import Commands
from codelupe.cli.run import run
from tests.plugins import install_plugin

PLUGIN = """
import typer

from codelupe import hookimpl
from codelupe.commands import AsJson, out, print_json

app = typer.Typer()


@app.command("run")
def run_away():
    '''Run away.'''


@app.command("search")
def look():
    '''Look for a colour.'''


@app.command("paint")
def paint(as_json: AsJson = False):
    '''Paint a picture.'''
    print_json(["red"]) if as_json else out.print("red")


@hookimpl
def codelupe_commands():
    return app
"""
MANIFEST = """
[commands]
run = "Run away."
search = "Look for a colour."
paint = "Paint a picture."
"""


@pytest.fixture(params=["with a manifest", "without a manifest"])
def plugin(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed plugin that brings commands called ``run``, ``search`` and ``paint``."""
    package, information = tmp_path / "zealous_painter", tmp_path / "zealous_painter-1.dist-info"
    package.mkdir()
    (package / "__init__.py").write_text(PLUGIN)
    if request.param == "with a manifest":
        (package / "codelupe.toml").write_text(MANIFEST)
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: zealous-painter\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[codelupe]\nzealous_painter = zealous_painter\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("zealous_painter", None)


@pytest.mark.usefixtures("plugin")
def test_a_command_whose_name_is_taken_is_left_out() -> None:
    commands = Commands()
    assert commands["run"].callback.__wrapped__ is run
    assert commands.lines["run"].help.startswith("Run the daemon")
    assert commands.lines["search"].help == "Search the discovered repositories: codelupe search WORDS [OPTIONS]."
    assert commands.lines["paint"].help == "Paint a picture."
    assert commands.taken == [("zealous_painter", "run"), ("zealous_painter", "search")]


@pytest.mark.usefixtures("plugin")
def test_help_lists_the_others() -> None:
    result = CliRunner().invoke(build_app(), ["--help"])
    assert "the command 'run' is taken" in result.stderr
    assert "Run the daemon" in result.stdout
    assert "Paint a picture." in result.stdout
    assert "Run away." not in result.output


@pytest.mark.usefixtures("plugin")
def test_a_command_is_written_with_public_names(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--json"]):
        assert Commands()["paint"].main(arguments, standalone_mode=False) is None
    assert [line for line in capsys.readouterr().out.split() if "red" in line] == ["red", '"red"']


def test_completion_leaves_out_what_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin(tmp_path, "broken", "raise SystemExit(0)", manifest="[commands]\nbroken-paint = 'Paint.'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    command = typer.main.get_command(build_app())
    completed = {
        item.value for item in command.shell_complete(command.make_context("", [], resilient_parsing=True), "")
    }
    assert ({"explain", "status"} <= completed, "broken-paint" in completed) == (True, False)

"""Manifests: read without an import, and true."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from codelupe.cli import build_app
from codelupe.errors import PluginError
from codelupe.host.manifest import FILE_NAME, Manifest, ManifestEntry, find_manifest, read_manifest
from scripts.manifests import own_manifests, path_of, to_toml


@pytest.mark.parametrize("package", own_manifests())
def test_a_plugin_of_ours_offers_what_its_manifest_says(package: str) -> None:
    assert read_manifest(path_of(package)) == own_manifests()[package], "run `make manifests`"


def test_the_host_s_commands_have_the_help_that_its_manifest_says() -> None:
    import typer

    commands = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined]
    manifest = read_manifest(Path(str(__import__("codelupe.cli").cli.__file__)).with_name(FILE_NAME))
    assert {name: commands[name].get_short_help_str(1000) for name in manifest.commands} == manifest.commands


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest(
        hooks=("codelupe_jobs",),
        commands={"paint-it": 'Paint it "black".'},
        subscriptions=(ManifestEntry(name="s", consumes=("BatchReady",), emits=("RepoEmpty", "BatchReady")),),
        jobs=(ManifestEntry(name="j"),),
    )
    (tmp_path / FILE_NAME).write_text(to_toml(manifest))
    assert read_manifest(tmp_path / FILE_NAME) == manifest


@pytest.mark.parametrize(
    "text",
    ["hooks = 3", "[commands", "colour = 'red'", "[[subscriptions]]\nconsumes = ['A']", b"\xff".decode("latin1")],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text, encoding="latin1")
    with pytest.raises(PluginError, match="is not a manifest"):
        read_manifest(tmp_path / FILE_NAME)


def test_it_is_found_without_importing_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "explosive_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint(name="explosive", value="explosive_plugin", group="codelupe")
    assert find_manifest(entry) is None
    (package / FILE_NAME).write_text('[commands]\nbang = "Make a noise."\n')
    assert find_manifest(entry) == Manifest(commands={"bang": "Make a noise."})

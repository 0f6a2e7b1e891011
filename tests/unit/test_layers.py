"""Who may import whom, and what the host may know: rules that hold for modules and plugins yet to be written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from grimp import ImportGraph, build_graph

from codelupe.host import hookspecs

ROOT = Path(__file__).parent.parent.parent
HOST = ROOT / "codelupe"
PUBLIC = {"codelupe", "codelupe.testing", "codelupe.cli.session", "codelupe.cli.output"}
"""What plugins may import of the host; ``codelupe`` stands for the names in ``codelupe/__init__.pyi``."""
LIBRARIES = {"codelupe_events", "codelupe_git", "codelupe_text"}
"""Packages that every plugin may import."""
OWN_PLUGINS = {entry.name: entry.value for entry in distribution("codelupe").entry_points if entry.group == "codelupe"}
LOG_TABLES = "events|event_keys|stream_heads|subscriptions|tasks|workers|jobs|retired_partitions"


def packages() -> list[str]:
    """CodeLupe's importable packages, wherever they lie."""
    return [*sorted(path.parent.name for path in ROOT.glob("*/codelupe_*/__init__.py")), "codelupe"]


def forbidden_imports(graph: ImportGraph) -> Iterator[str]:
    """Imports of a plugin or a library that are not on the allow-list."""
    for importer in graph.modules:
        package = importer.partition(".")[0]
        if package in {"codelupe", "codelupe_events", "codelupe_sql"}:
            continue
        allowed = PUBLIC | LIBRARIES | {package}
        for imported in graph.find_modules_directly_imported_by(importer):
            if imported not in PUBLIC and imported.partition(".")[0] not in allowed - {"codelupe"}:
                yield f"{importer} imports {imported}"


def planted(tmp_path: Path, module: str, line: str) -> Path:
    """A copy of the source with one more line in a module."""
    copy = tmp_path / "source"
    for folder in ("codelupe", "events", "sql", "plugins"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    with (copy / module).open("a") as file:
        file.write(f"\n{line}\n")
    return copy


def in_copy(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(copy / folder) for folder in ("", "events", "sql", "plugins"))
    return subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_plugins_import_what_is_allowed_and_nothing_else() -> None:
    assert list(forbidden_imports(build_graph(*packages(), cache_dir=None))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import codelupe.host.host",
        "from codelupe.work.worker import Worker",
        "from codelupe.storage import atomic",
        "import codelupe_sql",
        "from codelupe_scorers import scoring",
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, line: str) -> None:
    copy = planted(tmp_path, "plugins/codelupe_crawler/crawl.py", line)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tests.unit.test_layers import *;"
        "print(*forbidden_imports(build_graph(*packages(), cache_dir=None)), sep='\\n')"
    )
    found = in_copy(copy, "-c", program, str(ROOT))
    assert found.stdout.startswith("codelupe_crawler.crawl imports "), found.stderr


LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("codelupe/postgres/migrate.py", "import codelupe.host.host"),
        ("codelupe/log/records.py", "from codelupe.work import task"),
        ("codelupe/errors.py", "import codelupe.storage.atomic"),
        ("codelupe/loose.py", '"""A module in no layer."""'),
        ("codelupe/daemon.py", "import codelupe_crawler.crawl"),
    ],
)
def test_the_layers_do_not_let_a_planted_import_or_module_pass(tmp_path: Path, module: str, line: str) -> None:
    linted = in_copy(planted(tmp_path, module, line), "-c", LINT)
    assert linted.returncode == 1
    assert "BROKEN" in linted.stdout


# --- the host knows no stage ---


def stage_tables() -> set[str]:
    """The tables that the migrations make, but for those of the log."""
    migrations = (ROOT / "sql" / "codelupe_sql" / "migrations").glob("*.sql")
    made = {name for path in migrations for name in re.findall(r"^create table (\w+)", path.read_text(), re.MULTILINE)}
    assert {"events", "repositories", "processed_files", "batches", "models"} <= made
    return made - set(LOG_TABLES.split("|"))


def queries_of_the_host() -> set[Path]:
    """The query files that modules of the host load."""
    names = {
        name
        for path in HOST.rglob("*.py")
        for name in re.findall(r'load_queries\("codelupe_sql", "(\w+)"\)', path.read_text())
    }
    assert {"log", "metrics"} <= names
    return {ROOT / "sql" / "codelupe_sql" / "queries" / f"{name}.sql" for name in names}


def mentions_of_plugins(text: str) -> list[str]:
    """Packages of plugins, sections of their settings, their names as strings, and full names of what they do."""
    names = "|".join(OWN_PLUGINS)
    forms = (
        rf"\bcodelupe_(?:{names})\b",
        rf"\bplugins\.(?:{names})\b",
        rf"[\"'](?:{names})[\"']",
        rf"\b(?:{names})\.[a-z]+-[a-z]+",
    )
    return [found for found in re.findall("|".join(forms), text) if not hasattr(hookspecs, found)]


def test_no_query_of_the_host_reads_a_stage_s_table() -> None:
    pattern = re.compile(rf"\b(?:from|join|into|update|table)\s+(?:{'|'.join(sorted(stage_tables()))})\b")
    assert {path.name: pattern.findall(path.read_text()) for path in queries_of_the_host()} == {
        path.name: [] for path in queries_of_the_host()
    }


def test_nothing_in_the_host_names_a_plugin() -> None:
    files = [path for path in HOST.rglob("*") if path.suffix in {".py", ".pyi", ".toml", ".sql"}]
    assert len(files) > 50
    found = {str(path.relative_to(ROOT)): mentions_of_plugins(path.read_text()) for path in files}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import codelupe_crawler",
        'assign(tree, "plugins.crawler.sources")',
        "host.find('trainer')",
        "downloader.re-clone",
    ],
)
def test_a_planted_mention_is_found(text: str) -> None:
    assert mentions_of_plugins(text)


# --- quick starts ---

HEAVY = ("asyncpg", "anyio", "numpy", "pydantic", "rich", "structlog", "torch", "tree_sitter", *OWN_PLUGINS.values())


@pytest.mark.parametrize(
    ("arguments", "kept_out"),
    [
        (["--version"], HEAVY),
        (["--help"], ("numpy", "torch", "tree_sitter", *OWN_PLUGINS.values())),
        (["plugins", "list"], ("numpy", "torch", "tree_sitter", *OWN_PLUGINS.values())),
        (["events", "--help"], ("numpy", "torch", "tree_sitter", *OWN_PLUGINS.values())),
        (["search", "--help"], ("torch", "tree_sitter", *(set(OWN_PLUGINS.values()) - {"codelupe_search"}))),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], kept_out: tuple[str, ...]) -> None:
    program = (
        "import atexit, sys; atexit.register(lambda: print('\\n' + ' '.join(sys.modules), file=sys.stderr));"
        "from codelupe.cli import main; sys.argv = ['codelupe', *sys.argv[1:]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    imported = set(done.stderr.splitlines()[-1].split())
    assert "codelupe.cli" in imported
    assert imported & set(kept_out) == set()

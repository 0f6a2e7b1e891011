"""Who may import whom, and what the host may know: rules that hold for modules and plugins yet to be written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from grimp import ImportGraph, build_graph

from codelupe.host.manifest import read_manifest

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

ORDINARY_WORDS = {
    *("batch", "clone", "demo", "filters", "forget", "gate", "git", "index", "score", "scorers", "search", "text"),
    *("batches", "forgotten", "models", "repositories"),
}
"""Names of plugins, of what they do and of their tables that the host may use in their everyday sense."""


def names_of_plugins() -> set[str]:
    """CodeLupe's own plugins and the libraries that they share, as their packages are called."""
    return {path.parent.name.removeprefix("codelupe_") for path in ROOT.glob("plugins/codelupe_*/__init__.py")}


def full_names() -> set[str]:
    """Every subscription and job, as the host names it."""
    manifests = {path.parent.name.removeprefix("codelupe_"): path for path in ROOT.glob("plugins/*/codelupe.toml")}
    read = {plugin: read_manifest(path) for plugin, path in manifests.items()}
    return {f"{plugin}.{each.name}" for plugin, it in read.items() for each in (*it.subscriptions, *it.jobs)}


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


def mentions() -> re.Pattern[str]:
    """Plugins, what they do and their tables: by their full names, as code, and in words unless these are ordinary."""

    def one_of(names: Iterable[str]) -> str:
        return f"(?:{'|'.join(map(re.escape, sorted(names)))})"

    actions = {name.partition(".")[2] for name in full_names()}
    words = one_of((names_of_plugins() | actions | stage_tables()) - ORDINARY_WORDS)
    plugins, own_plugins = one_of(names_of_plugins()), one_of(OWN_PLUGINS)
    forms = (
        rf"\b(?i:{words})\b",
        rf"\b{one_of(full_names())}\b",
        rf"\b{plugins}\.[a-z]+-[a-z]+",
        rf"(?<!def )(?<!ask\(\")\bcodelupe_{plugins}\b",
        rf"\bplugins\.{own_plugins}\b",
        rf"[\"'`]{own_plugins}[\"'`]",
        rf"PLUGIN={own_plugins}\b",
        rf"\b{own_plugins}[`'\"]* plugin\b",
        rf"\bplugin [`'\"]*{own_plugins}\b",
        rf"\b(?i:from|join|into|update|table) +[`'\"]*{one_of(stage_tables())}\b",
    )
    return re.compile("|".join(forms))


MENTIONS = mentions()


def test_nothing_in_the_host_names_a_plugin() -> None:
    files = {path for path in HOST.rglob("*") if path.suffix in {".py", ".pyi", ".toml", ".sql"}}
    assert len(files) > 50
    found = {str(path.relative_to(ROOT)): MENTIONS.findall(path.read_text()) for path in files | queries_of_the_host()}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import codelupe_crawler",
        "from codelupe_git import run",
        'host.find("codelupe_scorers")',
        'assign(tree, "plugins.crawler.sources")',
        "host.find('trainer')",
        "the ``filters`` plugin",
        "journalctl CODELUPE_PLUGIN=search",
        "downloader.re-clone",
        "Seen ones may come again, the crawler tells them apart.",
        "Run the daemon: crawl, filter, clone, score, train.",
        "columns of the table ``repositories``",
        'connection.fetch("SELECT count(*) FROM models")',
        "processed_files",
        *sorted(full_names()),
        *sorted(stage_tables() - ORDINARY_WORDS),
        *(f"table {name}" for name in sorted(stage_tables())),
    ],
)
def test_a_planted_mention_is_found(text: str) -> None:
    assert MENTIONS.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "def codelupe_scorers(settings: BaseModel) -> Iterable[Scorer]:",
        'ask("codelupe_scorers")',
        "codelupe_search_index",
        "Places where repositories are found.",
        "Files of a repository, and the rules and scorers that judge them.",
        "from codelupe.contracts.repositories import Repository",
        "from codelupe_sql import queries",
    ],
)
def test_the_host_s_own_words_are_no_mention(text: str) -> None:
    assert not MENTIONS.search(text)


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

"""Who may import whom, and what the host may know: rules that hold for modules and plugins yet to be written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest

from codelupe.host.manifest import read_manifest

ROOT = Path(__file__).parent.parent.parent
HOST = ROOT / "codelupe"
OWN_PLUGINS = {entry.name: entry.value for entry in distribution("codelupe").entry_points if entry.group == "codelupe"}
LOG_TABLES = (
    "events|event_keys|stream_heads|subscriptions|catch_ups|tasks|workers|jobs|log_clock|retired_partitions"
    "|tasks_to_set_back|transactions_of_old_clock|plugin_incidents|pauses|failures_in_a_row|batch_calls"
)


def packages() -> set[str]:
    """CodeLupe's importable packages as paths, wherever they lie."""
    folders = [path for folder in ("events", "plugins", "sql") for path in (ROOT / folder).iterdir()]
    return {"codelupe", *(str(path.relative_to(ROOT)) for path in folders if any(path.rglob("*.py")))}


def test_every_package_is_on_every_list() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    names = {Path(path).name for path in packages()}
    assert len(names) > 10
    assert set(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == packages()
    assert set(tool["importlinter"]["root_packages"]) == names
    assert set(tool["mypy"]["packages"]) - {"benchmarks", "tests"} == names
    assert set(tool["coverage"]["run"]["source_pkgs"]) == names


def planted(tmp_path: Path, module: str, line: str) -> Path:
    """A copy of the source with one more line in a module."""
    copy = tmp_path / "source"
    for folder in ("codelupe", "events", "sql", "plugins", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / module).parent.mkdir(exist_ok=True)
    with (copy / module).open("a") as file:
        file.write(f"\n{line}\n")
    return copy


LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"


def lint(copy: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(copy / folder) for folder in ("", "events", "sql", "plugins"))
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_committed_keeps_the_contracts(tmp_path: Path) -> None:
    linted = lint(planted(tmp_path, "codelupe/errors.py", ""))
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("codelupe/postgres/migrate.py", "import codelupe.host.host"),
        ("codelupe/log/records.py", "from codelupe.work import task"),
        ("codelupe/errors.py", "import codelupe.storage.atomic"),
        ("codelupe/host/host.py", "import codelupe.commands"),
        ("codelupe/loose.py", '"""A module in no layer."""'),
    ],
)
def test_the_layers_do_not_let_a_planted_import_or_module_pass(tmp_path: Path, module: str, line: str) -> None:
    linted = lint(planted(tmp_path, module, line))
    assert linted.returncode == 1
    assert "BROKEN" in linted.stdout


@pytest.mark.parametrize(
    ("module", "line", "imported"),
    [
        ("codelupe/daemon.py", "import codelupe_crawler.asking", "codelupe_crawler.asking"),
        ("codelupe/daemon.py", "import codelupe_git", "codelupe_git"),
        ("events/codelupe_events/file.py", "import codelupe_sql", "codelupe_sql"),
        ("events/codelupe_events/file.py", "from codelupe import errors", "codelupe.errors"),
        ("sql/codelupe_sql/__init__.py", "import codelupe.host.host", "codelupe.host.host"),
        ("sql/codelupe_sql/__init__.py", "import codelupe_text", "codelupe_text"),
        ("plugins/codelupe_crawler/asking.py", "import codelupe.cli.doctor", "codelupe.cli.doctor"),
        ("plugins/codelupe_crawler/asking.py", "from codelupe.cli import session", "codelupe.cli.session"),
        ("plugins/codelupe_crawler/asking.py", "import codelupe.host.host", "codelupe.host.host"),
        ("plugins/codelupe_crawler/asking.py", "from codelupe.work.worker import Worker", "codelupe.work.worker"),
        ("plugins/codelupe_crawler/asking.py", "from codelupe.storage import atomic", "codelupe.storage.atomic"),
        ("plugins/codelupe_crawler/asking.py", "import codelupe_sql", "codelupe_sql"),
        ("plugins/codelupe_crawler/asking.py", "from codelupe_scorers import scoring", "codelupe_scorers.scoring"),
        ("plugins/codelupe_text/grammars.py", "import codelupe.config", "codelupe.config"),
    ],
)
def test_what_is_not_on_the_list_is_not_imported(tmp_path: Path, module: str, line: str, imported: str) -> None:
    linted = lint(planted(tmp_path, module, line))
    importer = ".".join(Path(module).with_suffix("").parts[-2:]).removesuffix(".__init__")
    assert linted.returncode == 1
    assert f"{importer} imports {imported} (line" in linted.stdout


def test_a_package_that_no_contract_would_see_is_found(tmp_path: Path) -> None:
    copy = planted(tmp_path, "plugins/codelupe_newone/__init__.py", "import codelupe.host.host")
    assert "codelupe_newone is missing in root_packages" in lint(copy).stdout
    settings = (copy / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(settings.replace("root_packages = [", 'root_packages = ["codelupe_newone",'))
    assert "codelupe_newone imports codelupe.host.host" in lint(copy).stdout


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

"""Each mechanism has one home: what other modules would do by hand is found in their syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = [path for room in ("codelupe", "plugins", "events", "sql") for path in (ROOT / room).rglob("*.py")]
RENAMES = "a rename by hand; codelupe.storage.atomic renames what is on disk"
LOCKS = "a lock by hand; codelupe.storage.locks has open_lock()"
SYNCS = "an fsync by hand; codelupe.storage.atomic knows the order"
GIT = "git started by hand; codelupe_git.process starts it"
TEXT = "an expression of its own for what Postgres cannot hold; codelupe.postgres.text has one"
GRAMMARS = "a grammar of its own; codelupe_text.grammars has them"
HOMES = {
    RENAMES: "codelupe/storage/atomic.py",
    SYNCS: "codelupe/storage/atomic.py",
    LOCKS: "codelupe/storage/locks.py",
    GIT: "plugins/codelupe_git/process.py",
    TEXT: "codelupe/postgres/text.py",
    GRAMMARS: "plugins/codelupe_text/grammars.py",
}


def breaches(source: str) -> Iterator[tuple[int, str]]:
    """The lines on which a module does itself what has a home, with the reason."""
    for node in ast.walk(ast.parse(source)):
        reason = _of_import(node) or _of_call(node) or _of_text(node)
        if reason is not None:
            yield getattr(node, "lineno", 0), reason


def _of_import(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return None
    for name in names:
        if name.split(".")[0] in ("fcntl", "filelock", "portalocker"):
            return LOCKS
        if name in ("git", "git.Git", "git.cmd", "git.cmd.Git"):
            return GIT
        if name.startswith("tree_sitter_"):
            return GRAMMARS
        if name in ("os.rename", "os.replace", "shutil.move", "os.fsync"):
            return RENAMES
    return None


_METHODS = {
    **dict.fromkeys(("rename", "renames"), RENAMES),
    **dict.fromkeys(("fsync", "fdatasync", "syncfs"), SYNCS),
    **dict.fromkeys(("flock", "lockf"), LOCKS),
}


def _of_call(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    if node.args and _is_git(node.args[0]):
        return GIT
    if not isinstance(node.func, ast.Attribute):
        return None
    name = ast.unparse(node.func)
    is_of_path = node.func.attr == "replace" and len(node.args) == 1 and not node.keywords
    return RENAMES if is_of_path or name in ("os.replace", "shutil.move") else _METHODS.get(node.func.attr)


def _is_git(argument: ast.expr) -> bool:
    """Whether it is a command line of git that does anything: its version may be asked for anywhere."""
    match argument:
        case ast.List(elts=[ast.Constant(value="git"), *rest]) | ast.Tuple(elts=[ast.Constant(value="git"), *rest]):
            return [ast.unparse(word) for word in rest] != ["'--version'"]
        case ast.Constant(value=str() as text):
            return text.startswith("git -")
        case _:
            return False


def _of_text(node: ast.AST) -> str | None:
    return TEXT if isinstance(node, ast.Constant) and "\ud800-\udfff" in str(node.value) else None


def test_only_its_home_has_a_mechanism() -> None:
    assert len(SOURCES) > 150
    found = [
        f"{path.relative_to(ROOT)}:{line}: {reason}"
        for path in SOURCES
        for line, reason in breaches(path.read_text(encoding="utf-8"))
        if str(path.relative_to(ROOT)) != HOMES[reason]
    ]
    assert found == []


def test_each_home_is_still_there() -> None:
    for reason, home in HOMES.items():
        assert reason in {found for _, found in breaches((ROOT / home).read_text(encoding="utf-8"))}, home


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os\nos.rename(a, b)", RENAMES),
        ("import os\nos.replace(a, b)", RENAMES),
        ("from os import replace\nreplace(a, b)", RENAMES),
        ("path.rename(target)", RENAMES),
        ("path.replace(target)", RENAMES),
        ("shutil.move(a, b)", RENAMES),
        ("os.fsync(file.fileno())", SYNCS),
        ("import fcntl", LOCKS),
        ("from fcntl import flock", LOCKS),
        ("from filelock import FileLock", LOCKS),
        ("subprocess.run(['git', 'status'])", GIT),
        ("anyio.open_process(('git', 'clone', url))", GIT),
        ("os.system('git -C folder gc')", GIT),
        ("from git import Git", GIT),
        ("from git.cmd import Git", GIT),
        ("pattern = re.compile('[\\x00\\ud800-\\udfff]')", TEXT),
        ("import tree_sitter_go", GRAMMARS),
    ],
)
def test_a_planted_one_is_found(source: str, reason: str) -> None:
    assert reason in {found for _, found in breaches(source)}


@pytest.mark.parametrize(
    "source",
    [
        "text.replace('a', 'b')",
        "dataclasses.replace(one, name=2)",
        "moment.replace(tzinfo=UTC)",
        "from dataclasses import replace\nreplace(one, name=2)",
        "from git import Repo",
        "subprocess.run(['gitk'])",
        "log.info('git ended')",
        "shutil.which('git')",
        "subprocess.run(['git', '--version'])",
    ],
)
def test_what_only_looks_like_one_is_not(source: str) -> None:
    assert list(breaches(source)) == []

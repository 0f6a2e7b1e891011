"""Each mechanism has one home: what other modules would do by hand is found in their syntax trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mechanisms import COPY, GIT, GRAMMARS, LOCKS, OUTAGES, RENAMES, SYNCS, TEMPORARY, TEXT, breaches

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("codelupe", "plugins", "events", "sql", "benchmarks", "scripts")
SOURCES = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
HOMES = {
    RENAMES: "codelupe/storage/atomic.py",
    SYNCS: "codelupe/storage/atomic.py",
    LOCKS: "codelupe/storage/locks.py",
    TEMPORARY: "codelupe/postgres/spool.py",
    GIT: "plugins/codelupe_git/process.py",
    COPY: "codelupe/postgres/spool.py",
    OUTAGES: "codelupe/postgres/retry.py",
    TEXT: "codelupe/postgres/text.py",
    GRAMMARS: "plugins/codelupe_text/grammars.py",
}
_FOR_A_RUN = "a folder for one run, deleted in the end; nothing of it is kept"
_EFFECT = "a handler's effect, of rows that are in memory, as its peers write it"
ALLOWED = {
    RENAMES: {
        "codelupe/postgres/embedded/home.py::_elsewhere": "the first of two processes wins, so no link may be replaced",
    },
    TEMPORARY: {
        "codelupe/postgres/embedded/home.py": "asks where the temporary folder is: a socket's path must be short",
        "benchmarks/crawl/__main__.py": _FOR_A_RUN,
        "benchmarks/eventlog/__main__.py": _FOR_A_RUN,
        "benchmarks/clone/__main__.py": _FOR_A_RUN,
        "benchmarks/files/__main__.py": _FOR_A_RUN,
        "benchmarks/learning_rate/__main__.py": _FOR_A_RUN,
        "benchmarks/train_gpu/__main__.py": _FOR_A_RUN,
        "benchmarks/quality/registries.py": "registries' clients download there; what came is moved into place",
        "scripts/lock.py": _FOR_A_RUN,
        "scripts/demo_pages.py": _FOR_A_RUN,
    },
    COPY: {
        "codelupe/log/event_log.py::_append_rows": "appends rows that are in memory; a spool would write them twice",
        "codelupe/log/event_log.py::_append_many_keyed": "as _append_rows",
        "benchmarks/eventlog/ours.py::Ours.handle_batches.handle": _EFFECT,
        "benchmarks/eventlog/peers/pgqueuer.py::_Queue._write_many": _EFFECT,
        "benchmarks/eventlog/ceiling.py::Ceiling.append.action": "measures what bare COPY reaches",
        "benchmarks/eventlog/ceiling.py::Ceiling.handle_batches": "measures what bare COPY reaches",
        "benchmarks/eventlog/ceiling.py::Ceiling._fill": "fills the table that is measured",
    },
    OUTAGES: {
        "codelupe/contracts/boundary.py": "lets it pass through; tries nothing again",
        "codelupe/daemon.py::keep_embedded_server": "starts the server that is away, and does not wait for it",
        "codelupe/host/migrations.py::_apply": "asks whether the plugin's migration is to blame; tries nothing again",
        "codelupe/postgres/embedded/server.py::EmbeddedServer.leave": "goes on to free the lock; tries nothing again",
        "codelupe/work/worker.py::Worker._leave": "leaves without release: the lease runs out; tries nothing again",
    },
}


def found_in(path: Path) -> set[tuple[str, str, str]]:
    """The reason, the file, and the file with the function, of each breach."""
    name = str(path.relative_to(ROOT))
    return {(one.reason, name, f"{name}::{one.scope}") for one in breaches(path.read_text(encoding="utf-8"))}


FOUND = {one for path in SOURCES for one in found_in(path)}


def test_only_its_home_has_a_mechanism() -> None:
    assert len(SOURCES) > 150
    escaped = [
        f"{scope}: {reason}"
        for reason, name, scope in sorted(FOUND)
        if name != HOMES[reason] and ALLOWED.get(reason, {}).keys().isdisjoint((name, scope))
    ]
    assert escaped == []


def test_each_home_and_each_exception_is_still_there() -> None:
    known = {(reason, place) for reason, name, scope in FOUND for place in (name, scope)}
    wanted = {*HOMES.items(), *((reason, place) for reason, places in ALLOWED.items() for place in places)}
    assert wanted - known == set()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os\nos.rename(a, b)", RENAMES),
        ("import os\nos.replace(a, b)", RENAMES),
        ("import os as system\nsystem.replace(a, b)", RENAMES),
        ("from os import replace\nreplace(a, b)", RENAMES),
        ("from os import replace as put\nput(a, b)", RENAMES),
        ("path.rename(target)", RENAMES),
        ("path.replace(target)", RENAMES),
        ("path.replace(target=target)", RENAMES),
        ("from pathlib import Path\nPath.replace(a, b)", RENAMES),
        ("Path.replace(a, b)", RENAMES),
        ("Path.rename(a, b)", RENAMES),
        ("run_sync(path.rename, target)", RENAMES),
        ("run_sync(path.replace, target)", RENAMES),
        ("shutil.move(a, b)", RENAMES),
        ("os.link(a, b)", RENAMES),
        ("os.symlink(a, b)", RENAMES),
        ("path.symlink_to(target)", RENAMES),
        ("path.hardlink_to(target)", RENAMES),
        ("os.fsync(file.fileno())", SYNCS),
        ("os.sync()", SYNCS),
        ("from os import fsync", SYNCS),
        ("from os import fsync as flush\nflush(1)", SYNCS),
        ("import fcntl", LOCKS),
        ("from fcntl import flock", LOCKS),
        ("from filelock import FileLock", LOCKS),
        ("os.lockf(descriptor, command, 0)", LOCKS),
        ("os.open(path, os.O_CREAT | os.O_EXCL)", LOCKS),
        ("import tempfile", TEMPORARY),
        ("from tempfile import mkdtemp", TEMPORARY),
        ("from tempfile import NamedTemporaryFile as Half", TEMPORARY),
        ("NamedTemporaryFile()", TEMPORARY),
        ("TemporaryDirectory()", TEMPORARY),
        ("connection.copy_to_table('t', source=file)", COPY),
        ("connection.copy_records_to_table('t', records=rows)", COPY),
        ("connection.copy_from_query('select 1', output=file)", COPY),
        ("connection.copy_from_table('t', output=file)", COPY),
        ("cursor.copy_expert(statement, file)", COPY),
        ("pattern = re.compile('[\\x00\\ud800-\\udfff]')", TEXT),
        ("import tree_sitter_go", GRAMMARS),
        ("from tree_sitter_go import language", GRAMMARS),
    ],
)
def test_a_planted_one_is_found(source: str, reason: str) -> None:
    assert {one.reason for one in breaches(source)} == {reason}


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run(['git', 'status'])",
        "subprocess.run(args=['git', 'status'])",
        "command = ['git', 'status']\nsubprocess.run(command)",
        "command = ['/usr/bin/git', 'gc']",
        "command = ['env', 'A=1', 'git', 'gc']",
        "command = ['sh', '-c', 'git gc']",
        "git = '/usr/bin/git'\ncommand = [git, 'gc']",
        "git = shutil.which('git')\ncommand = [git, 'gc']",
        "command = [shutil.which('git') or 'git', *arguments]",
        "anyio.open_process(('git', 'clone', url))",
        "create_subprocess_exec('git', 'clone', url)",
        "create_subprocess_exec('/usr/bin/git', 'clone', url)",
        "start(program='git')",
        "os.execvp('git', words)",
        "os.system('git -C folder gc')",
        "os.system('git gc')",
        "create_subprocess_shell(f'git clone {url}')",
        "subprocess.run('git clone x'.split())",
        "subprocess.run(shlex.split('git gc'))",
        "from git import Git",
        "from git import Remote",
        "from git.cmd import Git",
        "import git",
        "import pygit2",
        "from git import Repo\nRepo.clone_from(url, path)",
        "Repo.init(path)",
        "Repo(path).git.log()",
        "self._repository.git.log()",
        "repository.head.commit.hexsha",
        "repository.iter_commits()",
        "repository.remotes.origin.fetch()",
    ],
)
def test_a_planted_git_is_found(source: str) -> None:
    assert {one.reason for one in breaches(source)} == {GIT}


@pytest.mark.parametrize(
    "source",
    [
        "while True:\n    try: work()\n    except DatabaseUnavailable: sleep(1)",
        "while True:\n    try: work()\n    except (OSError, DatabaseUnavailable): pass",
        "try: work()\nexcept* DatabaseUnavailable: pass",
        "try: work()\nexcept errors.DatabaseUnavailable: pass",
        "from codelupe.errors import DatabaseUnavailable as Away\ntry: work()\nexcept Away: pass",
        "AWAY = (OSError, DatabaseUnavailable)\ntry: work()\nexcept AWAY: pass",
        "while True:\n    try: await work()\n    except CodelupeError: await anyio.sleep(1)",
        "while True:\n    try: await work()\n    except Exception:\n        if again: await anyio.sleep(1)",
        "with suppress(DatabaseUnavailable): work()",
        "if isinstance(error, (OSError, DatabaseUnavailable)): work()",
        "match error:\n    case DatabaseUnavailable(): work()",
    ],
)
def test_a_planted_outage_is_found(source: str) -> None:
    assert {one.reason for one in breaches(source)} == {OUTAGES}


@pytest.mark.parametrize(
    "source",
    [
        "text.replace('a', 'b')",
        "dataclasses.replace(one, name=2)",
        "moment.replace(tzinfo=UTC)",
        "from dataclasses import replace\nreplace(one, name=2)",
        "from git import InvalidGitRepositoryError, NoSuchPathError, Repo, SymbolicReference",
        "from codelupe_crawler import git\ngit.run(url)",
        "import codelupe_crawler.git\ncodelupe_crawler.git.run(url)",
        "subprocess.run(['gitk'])",
        "log.info('git ended')",
        "names = ('https', 'git')",
        "shutil.which('git')",
        "Finding('git', 'bad', 'not in PATH')",
        "subprocess.run(['git', '--version'])",
        "raise DatabaseUnavailable('gone')",
        "try: work()\nexcept OSError: sleep(1)",
        "try: work()\nexcept CodelupeError: log.warning('failed')",
        "path.is_symlink()",
        "path.readlink()",
    ],
)
def test_what_only_looks_like_one_is_not(source: str) -> None:
    assert list(breaches(source)) == []

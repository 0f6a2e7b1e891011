"""The filters in a real daemon on a real Postgres: repositories by their metadata, clones by their real trees."""

from __future__ import annotations

import json
import os
import shutil
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from git import Repo
from structlog.testing import capture_logs

import codelupe_filters
from codelupe import Database, FileRule, Repository, RepositoryRule, SourceFile, hookimpl
from codelupe_events import (
    Event,
    FilesExtracted,
    Reason,
    RepoAccepted,
    RepoCloned,
    RepoDiscovered,
    RepoRejected,
    TaskParked,
)
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository
from tests.unit.codelupe_filters.test_licences import ISC, MIT

pytestmark = pytest.mark.anyio

E = TypeVar("E", bound=Event)

FILTERS: dict[str, object] = {"filters": codelupe_filters}
OPEN: dict[str, dict[str, Any]] = {"filters": {"min_stars": 0, "min_forks": 0, "min_score": 0}}
CODE = b"def add(one, other):\n    return one + other\n"


def discovered(name: str, **values: Any) -> RepoDiscovered:
    known = {"revision": "1", "full_name": f"owner/{name}", "url": f"https://host/owner/{name}"}
    return RepoDiscovered(repository_id=f"test:{name}", source="test", **(known | values))


def cloned(name: str, commit: str, path: str | None = None) -> RepoCloned:
    return RepoCloned(repository_id=f"test:{name}", commit=commit, path=path or name, size_bytes=1, seconds=0.1)


def of_type(events: Iterable[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    """The folder in which the daemon expects clones."""
    folder = tmp_path / "state" / "repos"
    folder.mkdir(parents=True)
    return folder


async def files_of(database: Database, name: str) -> dict[str, Any]:
    rows = await database.fetch("select * from processed_files where repository_id = $1", f"test:{name}")
    return {row["file_path"]: row for row in rows}


# --- repositories ------------------------------------------------------------------------------------------------


async def test_a_repository_is_accepted_or_rejected_with_all_reasons(
    run_until_idle: RunUntilIdle, database: Database
) -> None:
    good = discovered("good", stars=5000, forks=400, description="d", language="Go", licence="MIT", topics=("a", "b"))
    bad = discovered("demo", stars=1, language="COBOL", is_fork=True)
    events = await run_until_idle(FILTERS, {}, [good, bad])
    [accepted] = of_type(events, RepoAccepted)
    assert (accepted.repository_id, accepted.url, accepted.revision) == ("test:good", good.url, "1")
    assert accepted.score > 70
    [rejected] = of_type(events, RepoRejected)
    rules = [reason.rule for reason in rejected.reasons]
    assert rules == ["min-stars", "min-forks", "language", "teaching", "fork", "min-score"]

    rows = {row["id"]: row for row in await database.fetch("select * from repositories")}
    row = rows["test:good"]
    assert (row["state"], row["licence"], row["topics"], row["reasons"]) == ("accepted", "MIT", ["a", "b"], "[]")
    assert row["score"] == pytest.approx(accepted.score)
    assert rows["test:demo"]["state"] == "rejected"
    assert [reason["rule"] for reason in json.loads(rows["test:demo"]["reasons"])] == rules


async def test_a_repository_is_judged_anew_at_a_new_revision(run_until_idle: RunUntilIdle, database: Database) -> None:
    await run_until_idle(FILTERS, OPEN, [discovered("r")])
    await database.execute("update repositories set state = 'scored'")
    await run_until_idle(FILTERS, OPEN, [discovered("r", description="again")])
    assert await database.fetchval("select state from repositories") == "scored"
    await run_until_idle(FILTERS, OPEN, [discovered("r", revision="2", full_name="owner/renamed")])
    row = await database.fetchrow("select state, revision, full_name from repositories")
    assert row is not None
    assert tuple(row) == ("accepted", "2", "owner/renamed")
    events = await run_until_idle(FILTERS, OPEN, [discovered("r", revision="2", is_fork=True)])
    assert await database.fetchval("select state from repositories") == "rejected"
    assert [len(of_type(events, kind)) for kind in (RepoAccepted, RepoRejected)] == [3, 1]


async def test_rules_of_other_plugins_are_asked_too(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    class NoSecrets:
        name = "no-secrets"
        version = 1

        def check(self, repository: Repository) -> Reason | None:
            return Reason(rule=self.name, detail="hush") if "secret" in repository.full_name else None

    other = types.SimpleNamespace()

    @hookimpl
    def codelupe_repository_rules() -> list[RepositoryRule]:
        return [NoSecrets()]

    @hookimpl
    def codelupe_file_rules() -> list[FileRule]:
        return [NoHelpers()]

    other.codelupe_repository_rules = codelupe_repository_rules
    other.codelupe_file_rules = codelupe_file_rules
    repository = make_repository(clones / "open", {"helpers.py": CODE, "a.py": CODE + b"x = 1\n"})
    plugins = FILTERS | {"other": other}
    await run_until_idle(plugins, OPEN, [discovered("secret"), discovered("open")])
    events = await run_until_idle(plugins, OPEN, [cloned("open", repository.head.commit.hexsha)])
    [rejected] = of_type(events, RepoRejected)
    assert rejected.reasons == (Reason(rule="no-secrets", detail="hush"),)
    [extracted] = of_type(events, FilesExtracted)
    assert (extracted.stored, extracted.rejected) == (1, {"no-helpers": 1})
    assert (await files_of(database, "open"))["helpers.py"]["rejected_detail"] == "helpers.py helps"


class NoHelpers:
    """A file rule that worker processes can import."""

    name = "no-helpers"
    version = 1

    def check(self, file: SourceFile) -> str | None:
        return f"{file.path} helps" if file.path.startswith("helpers") else None


# --- files -------------------------------------------------------------------------------------------------------


async def extract(run_until_idle: RunUntilIdle, name: str, repository: Repo, **settings: Any) -> FilesExtracted:
    chosen = {"filters": OPEN["filters"] | settings}
    await run_until_idle(FILTERS, chosen, [discovered(name)])
    events = await run_until_idle(FILTERS, chosen, [cloned(name, repository.head.commit.hexsha)])
    assert not of_type(events, TaskParked)
    return of_type(events, FilesExtracted)[-1]


async def test_a_hostile_tree_is_judged_file_by_file(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "outside.py"
    secret.write_bytes(b"password = 'outside'\n" * 5)
    repository = make_repository(
        clones / "r",
        {
            "LICENSE": MIT.encode(),
            "src/a.py": CODE.replace(b"\n", b"\r\n"),
            "src/b.go": b"\xef\xbb\xbfpackage b\n\nfunc B() int { return 1 }\n",
            "tests/test_a.py": b"def test_add():\n    assert add(1, 2) == 3\n",
            "lib/LICENSE": ISC.encode(),
            "lib/c.py": b"def c(value):\n    return value\n",
            "two\nlines.py": b"def lines(value):\n    return [value]\n",
            "quote'\".py": b"def quote(value):\n    return (value,)\n",
            "nul.py": CODE + b"\0",
            "latin.py": b"caf\xe9 = 1\n",
            "utf16.py": "x = 1\n".encode("utf-16"),
            "empty.py": b"",
            "large.py": b"x = 1\n" * 200_000,
            "one-line.py": b"x = '" + b"a b " * 5000 + b"'\n",
            "vendor/v.go": b"package v\n",
            "notes.txt": b"notes\n",
            "big.py": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        },
    )
    root = clones / "r"
    (root / "passwd.py").symlink_to("/etc/passwd")
    (root / "outside.py").symlink_to(secret)
    (root / "up").symlink_to(tmp_path)
    (root / os.fsdecode(b"caf\xe9.py")).write_bytes(b"def coffee(value):\n    return {value}\n")
    os.mkfifo(root / "pipe.py")
    make_repository(root / "module", {"m.py": CODE})

    extracted = await extract(run_until_idle, "r", repository)
    files = await files_of(database, "r")
    kept = {path: row for path, row in files.items() if row["rejected_by"] is None}
    assert {path: (row["language"], row["licence"], row["labels"]) for path, row in kept.items()} == {
        "src/a.py": ("Python", "MIT", []),
        "src/b.go": ("Go", "MIT", []),
        "tests/test_a.py": ("Python", "MIT", ["test"]),
        "lib/c.py": ("Python", "ISC", []),
        r"two\nlines.py": ("Python", "MIT", []),
        "quote'\".py": ("Python", "MIT", []),
        r"caf\xe9.py": ("Python", "MIT", []),
    }
    assert kept["src/a.py"]["content"].encode() == CODE
    assert (kept["src/a.py"]["characters"], kept["src/a.py"]["size_bytes"]) == (len(CODE), len(CODE) + 2)
    assert kept["src/b.go"]["content"].startswith("package b")
    assert {path: row["rejected_by"] for path, row in files.items() if path not in kept} == {
        "LICENSE": "language",
        "lib/LICENSE": "language",
        "nul.py": "binary",
        "latin.py": "undecodable",
        "utf16.py": "undecodable",
        "empty.py": "empty",
        "large.py": "too-large",
        "one-line.py": "long-lines",
        "vendor/v.go": "vendored",
        "notes.txt": "language",
        "big.py": "lfs-pointer",
        "passwd.py": "symbolic-link",
        "outside.py": "symbolic-link",
        "up": "symbolic-link",
        "pipe.py": "special-file",
        "module": "submodule",
    }
    assert all(row["rejected_detail"] and row["content"] is None for path, row in files.items() if path not in kept)
    everything = await database.fetchval("select string_agg(processed_files::text, '') from processed_files")
    assert "root:" not in everything
    assert "outside'" not in everything
    assert extracted.stored == len(kept)
    assert sum(extracted.rejected.values()) == len(files) - len(kept)
    assert extracted.rejected["symbolic-link"] == 3
    assert await database.fetchval("select state from repositories") == "extracted"


async def test_the_source_s_licence_stands_before_licence_files(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    repository = make_repository(clones / "r", {"LICENSE": MIT.encode(), "a.py": CODE})
    commit = repository.head.commit.hexsha
    known = {"known": "Apache-2.0", "unsure": "NOASSERTION"}
    for name in known:
        shutil.copytree(clones / "r", clones / name)
        (clones / name / "a.py").write_bytes(CODE + f"name = '{name}'\n".encode())
    await run_until_idle(FILTERS, OPEN, [discovered(name, licence=licence) for name, licence in known.items()])
    await run_until_idle(FILTERS, OPEN, [cloned(name, commit) for name in known])
    licences = {name: (await files_of(database, name))["a.py"]["licence"] for name in known}
    assert licences == {"known": "Apache-2.0", "unsure": "MIT"}


async def test_a_repository_without_files_has_none(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    repository = make_repository(clones / "r", {"a.py": CODE})
    repository.git.rm("a.py")
    repository.git.commit("--message=nothing left")
    extracted = await extract(run_until_idle, "r", repository)
    assert (extracted.stored, extracted.rejected) == (0, {})
    assert await files_of(database, "r") == {}


async def test_a_large_repository_goes_in_chunks(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    files = {f"pkg/m{n}.py": f"def f{n}(value):\n    return value + {n}\n".encode() for n in range(450)}
    repository = make_repository(clones / "r", files)
    assert (await extract(run_until_idle, "r", repository)).stored == 450
    assert await database.fetchval("select count(distinct content_hash) from processed_files") == 450
    limited = make_repository(clones / "l", files)
    assert (await extract(run_until_idle, "l", limited, max_files=100)).rejected["too-many-files"] == 1


async def test_of_equal_files_one_is_stored_and_the_others_name_it(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    one = make_repository(clones / "one", {"a.py": CODE, "z/copy.py": CODE.replace(b"\n", b"\r\n")})
    first = await extract(run_until_idle, "one", one)
    assert (first.stored, first.rejected) == (1, {"exact-duplicate": 1})
    other = make_repository(clones / "other", {"mine.py": CODE, "own.py": CODE + b"own = 1\n"})
    second = await extract(run_until_idle, "other", other)
    assert (second.stored, second.rejected) == (1, {"exact-duplicate": 1})
    row = (await files_of(database, "other"))["mine.py"]
    assert row["rejected_detail"] == f"the same content as a.py of owner/one at {first.commit}"
    assert (row["language"], row["content"]) == ("Python", None)
    assert row["content_hash"] == (await files_of(database, "one"))["a.py"]["content_hash"]


async def test_equal_clones_at_the_same_time_do_not_lock_each_other_out(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    names = [f"r{n}" for n in range(6)]
    files = {f"m{n}.py": f"def f{n}(value):\n    return value - {n}\n".encode() for n in range(300)}
    commits = {name: make_repository(clones / name, files).head.commit.hexsha for name in names}
    await run_until_idle(FILTERS, OPEN, [discovered(name) for name in names])
    events = await run_until_idle(FILTERS, OPEN, [cloned(name, commit) for name, commit in commits.items()])
    extracted = of_type(events, FilesExtracted)
    assert len(extracted) == len(names)
    assert not of_type(events, TaskParked)
    assert sum(event.stored for event in extracted) == 300
    assert sum(event.rejected.get("exact-duplicate", 0) for event in extracted) == 300 * (len(names) - 1)
    assert await database.fetchval("select count(*) from processed_files where content is not null") == 300


async def test_handling_a_clone_again_changes_nothing(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    repository = make_repository(clones / "r", {"a.py": CODE, "copy.py": CODE, "b.txt": b"text\n"})
    first = await extract(run_until_idle, "r", repository)
    before = await database.fetch("select * from processed_files order by id")
    await database.execute("update repositories set state = 'scored'")
    second = await extract(run_until_idle, "r", repository)
    assert await database.fetch("select * from processed_files order by id") == before
    assert await database.fetchval("select state from repositories") == "scored"
    assert msgspec.structs.replace(second, seconds=0) == msgspec.structs.replace(first, seconds=0)


async def test_a_clone_that_has_moved_on_leaves_the_work_to_the_newer_event(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    old = make_repository(clones / "r", {"a.py": CODE}).head.commit.hexsha
    new = make_repository(clones / "r", {"b.py": CODE + b"new = 1\n"}, message="second").head.commit.hexsha
    await run_until_idle(FILTERS, OPEN, [discovered("r")])
    with capture_logs() as logs:
        events = await run_until_idle(FILTERS, OPEN, [cloned("r", old), cloned("r", new)])
    assert [event.commit for event in of_type(events, FilesExtracted)] == [new]
    assert {row["commit"] for row in (await files_of(database, "r")).values()} == {new}
    [superseded] = [entry for entry in logs if entry["event"] == "clone_superseded"]
    assert (superseded["commit"], superseded["head"]) == (old, new)


async def test_a_missing_clone_is_parked_and_holds_nobody_back(
    run_until_idle: RunUntilIdle, database: Database, clones: Path, tmp_path: Path
) -> None:
    commit = make_repository(clones / "there", {"a.py": CODE}).head.commit.hexsha
    make_repository(tmp_path / "elsewhere", {"a.py": CODE})
    Repo.init(clones / "empty").close()
    await run_until_idle(FILTERS, OPEN, [discovered("r")])
    events = await run_until_idle(
        FILTERS,
        OPEN,
        [
            cloned("r", commit, "gone"),
            cloned("r", commit, "../../elsewhere"),
            cloned("r", commit, "empty"),
            cloned("unknown", commit, "there"),
            cloned("r", commit, "there"),
        ],
    )
    errors = [event.error for event in of_type(events, TaskParked)]
    for words in ("not on disk", "outside", "no commit", "not known"):
        assert len([error for error in errors if words in error]) == 1
    assert len(errors) == 4
    assert all(event.attempts == 1 for event in of_type(events, TaskParked))
    assert [event.stored for event in of_type(events, FilesExtracted)] == [1]
    assert set(await files_of(database, "r")) == {"a.py"}

"""The filters in a real daemon on a real Postgres: repositories by their metadata, clones by their real trees."""

from __future__ import annotations

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
from codelupe import Database, FileRule, Repository, RepositoryRule, SourceFile, hookimpl, load_queries
from codelupe_events import (
    Event,
    FilesExtracted,
    Reason,
    RepoAccepted,
    RepoCloned,
    RepoDiscovered,
    RepoRejected,
    TaskDeadLettered,
)
from codelupe_filters.contents import content_hash
from codelupe_trainer.settings import TrainerSettings
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository
from tests.unit.codelupe_filters.test_licences import ISC, MIT
from tests.unit.codelupe_filters.test_redaction import AWS, BODY, GITHUB, JWT, SLACK, STRIPE, pem

pytestmark = pytest.mark.anyio

E = TypeVar("E", bound=Event)

FILTERS: dict[str, object] = {"filters": codelupe_filters}
OPEN: dict[str, dict[str, Any]] = {
    "filters": {"min_stars": 0, "min_forks": 0, "min_score": 0, "unknown_licence": "accept"}
}
JSON = ("licence_evidence", "redactions", "rejection")
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
    return {row["file_path"]: {**row, **{name: row[name] or {} for name in JSON}} for row in rows}


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
    assert (row["state"], row["licence"], row["topics"], row["reasons"]) == ("accepted", "MIT", ["a", "b"], [])
    assert row["score"] == pytest.approx(accepted.score)
    assert rows["test:demo"]["state"] == "rejected"
    assert [reason["rule"] for reason in rows["test:demo"]["reasons"]] == rules


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
    assert (await files_of(database, "open"))["helpers.py"]["rejection"]["detail"] == "helpers.py helps"


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
    assert not of_type(events, TaskDeadLettered)
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
    assert all(row["rejection"]["detail"] and row["content"] is None for path, row in files.items() if path not in kept)
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


async def test_the_policy_decides_which_licences_are_stored(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    """By default only permissive ones: what is unknown is not free to use."""
    repository = make_repository(
        clones / "r",
        {
            "mine.py": CODE,
            "free/LICENSE": MIT.encode(),
            "free/a.py": CODE + b"free = 1\n",
            "odd/LICENSE": b"All rights reserved, ask us.\n",
            "odd/a.py": CODE + b"odd = 1\n",
        },
    )
    await extract(run_until_idle, "r", repository, unknown_licence="reject")
    files = await files_of(database, "r")
    assert {path: row["rejected_by"] for path, row in files.items() if path.endswith("py")} == {
        "mine.py": "licence",
        "free/a.py": None,
        "odd/a.py": "licence",
    }
    row = files["free/a.py"]
    assert (row["licence"], row["is_permissive"]) == ("MIT", True)
    [match] = row["licence_evidence"].pop("matches")
    assert row["licence_evidence"] == {"from": "file", "path": "free/LICENSE"}
    assert (match["id"], match["path"]) == ("MIT", "free/LICENSE")
    assert files["mine.py"]["rejection"]["detail"] == "no licence is known for it"

    gpl = make_repository(clones / "gpl", {"a.py": CODE + b"gpl = 1\n"}).head.commit.hexsha
    await run_until_idle(FILTERS, OPEN, [discovered("gpl", licence="GPL-3.0-only")])
    await run_until_idle(FILTERS, OPEN, [cloned("gpl", gpl)])
    row = (await files_of(database, "gpl"))["a.py"]
    assert (row["rejected_by"], row["is_permissive"]) == ("licence", False)
    assert row["rejection"]["licence"] == "GPL-3.0-only"
    assert row["licence_evidence"] == {"from": "metadata"}


async def test_every_decision_names_the_rules_that_were_asked(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    repository = make_repository(clones / "r", {"a.py": CODE, "b.py": b"x = '" + b"word " * 300 + b"'\n", "c": b""})
    await extract(run_until_idle, "r", repository)
    files = await files_of(database, "r")
    assert files["b.py"]["rejection"] == {
        "rule": "long-lines",
        "version": 1,
        "detail": "a line of 1506 characters, at most 1000 are allowed",
        "longest": 1506,
        "most": 1000,
    }
    assert files["c"]["rejection"] == {"rule": "empty", "version": 1, "detail": "nothing but white space"}
    [first] = {row["rule_set"] for row in files.values()}
    rules = await database.fetchval("select rules from rule_sets where id = $1", first)
    names = [rule["name"] for rule in rules]
    assert len(names) == len(set(names))
    assert names.index("too-large") < names.index("licence") < names.index("redacted") < names.index("long-lines")
    assert rules[names.index("long-lines")]["settings"]["longest"] == 1000
    assert {row["rejected_by"] for row in files.values()} <= {None, *names}

    other = make_repository(clones / "s", {"a.py": CODE + b"s = 1\n"})
    await extract(run_until_idle, "s", other)
    strict = make_repository(clones / "t", {"a.py": CODE + b"t = 1\n"})
    await extract(run_until_idle, "t", strict, max_line_length=500)
    assert (await files_of(database, "s"))["a.py"]["rule_set"] == first
    assert (await files_of(database, "t"))["a.py"]["rule_set"] != first


async def test_of_what_is_stored_only_50_to_8000_characters_qualify_for_training(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    lengths = (49, 50, 8000, 8001, 100_000)
    code = "".join(f"value_{n} = 1\n" for n in range(10_000))
    files = {f"m{length}.py": (code[: length - 1] + "\n").encode() for length in lengths}
    repository = make_repository(clones / "r", files)
    assert (await extract(run_until_idle, "r", repository)).stored == len(lengths)
    stored = {path: row["characters"] for path, row in (await files_of(database, "r")).items()}
    assert stored == {f"m{length}.py": length for length in lengths}
    await database.execute("update processed_files set quality_score = 90")
    await database.execute(load_queries("codelupe_sql", "evaluation").settle_groups, 0.0)
    freeze = load_queries("codelupe_sql", "trainer").freeze_batch
    limits = TrainerSettings()
    row = await database.fetchrow(
        freeze, limits.min_score, limits.min_characters, limits.max_characters, 1, 100, limits.validation_share, 1
    )
    assert row is not None
    in_batch = await database.fetch("select file_path from processed_files join batch_files on file_id = id order by 1")
    assert [path for [path] in in_batch] == ["m50.py", "m8000.py"]


async def test_no_secret_of_a_repository_reaches_a_table_or_a_log(
    run_until_idle: RunUntilIdle,
    database: Database,
    clones: Path,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    padding = CODE * 20
    planted = {
        "github.py": f"token = '{GITHUB}'\n",
        "aws.py": f"key = '{AWS}'\naws_secret_access_key = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzKEY1'\n",
        "slack.py": f"post('{SLACK}')\n",
        "stripe.py": f"pay('{STRIPE}')\n",
        "jwt.py": f"session = '{JWT}'\n",
        "assigned.py": "password = 'Tr0ub4dor&3xyz'\nlogin('Tr0ub4dor&3xyz')\n",
        "uri.py": "db = 'postgres://admin:s3cr3tPassw0rd@db.corp.net/x'\n",
        "person.py": "# by jo.doe@corp.net, on 52.14.233.91\n",
        "key.py": f"KEY = ({pem()!r})\n",
        "twice/github.py": f"other = '{GITHUB}'\n",
        "tests/fixtures/refused_by_path.py": f"token = '{GITHUB}'\n",
        "refused_by_content.py": f"token = '{GITHUB}'\nx = '{'word ' * 300}'\n",
        "too_much.py": f"token = '{GITHUB}'\n",
        "settings.yaml": f"token: {GITHUB}\n",
    }
    texts = {path: text.encode() + (b"" if path == "too_much.py" else padding * 2) for path, text in planted.items()}
    texts["key.py"] = texts["key.py"] + padding * 10
    repository = make_repository(clones / "r", {"LICENSE": MIT.encode(), **texts})
    with capture_logs() as logs:
        extracted = await extract(run_until_idle, "r", repository)
    files = await files_of(database, "r")
    assert {path: row["redactions"] for path, row in files.items() if row["rejected_by"] is None} == {
        "github.py": {"GITHUB_PAT": 1},
        "aws.py": {"AWS_ACCESS_KEY_ID": 1, "AWS_SECRET_ACCESS_KEY": 1},
        "slack.py": {"SLACK_BOT_TOKEN": 1},
        "stripe.py": {"STRIPE_ACCESS_TOKEN": 1},
        "jwt.py": {"JWT": 1},
        "assigned.py": {"ASSIGNED_SECRET": 2},
        "uri.py": {"GENERIC_CREDENTIAL_URI": 1},
        "person.py": {"EMAIL": 1, "IP_ADDRESS": 1},
        "key.py": {"PRIVATE_KEY": 1},
        "twice/github.py": {"GITHUB_PAT": 1},
    }
    assert files["too_much.py"]["rejected_by"] == "redacted"
    assert files["too_much.py"]["rejection"]["redactions"] == {"GITHUB_PAT": 1}
    assert extracted.rejected["redacted"] == 1
    one, other = (files[path]["content"].split("'")[1] for path in ("github.py", "twice/github.py"))
    assert one == other
    assert one.startswith("<GITHUB_PAT:")

    secrets = [GITHUB, AWS, SLACK, STRIPE, JWT, "Tr0ub4dor", "s3cr3tPassw0rd", "wJalrXUtn", "jo.doe", "52.14.233.91"]
    secrets += BODY.split()
    everything = await whole_database(database) + repr(logs) + "".join(capfd.readouterr())
    assert "GITHUB_PAT" in everything
    assert [secret for secret in secrets if secret in everything] == []
    left = [path for path in (tmp_path / "state" / "work").rglob("*") if path.is_file() and path.suffix != ".vscdb"]
    assert left == []
    row = files["github.py"]
    assert row["content_hash"] == content_hash(row["content"].encode())


async def whole_database(database: Database) -> str:
    """Every row of every table as text."""
    tables = await database.fetch(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname='public'"
    )
    assert len(tables) > 10
    rows = [await database.fetchval(f"select string_agg(t::text, '') from {name} as t") for [name] in tables]
    return "".join(row or "" for row in rows)


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
    assert row["rejection"]["detail"] == f"the same content as a.py of owner/one at {first.commit}"
    assert (row["language"], row["content"]) == ("Python", None)
    assert row["content_hash"] == (await files_of(database, "one"))["a.py"]["content_hash"]


STORED = """
    select repository_id, file_path, licence, quality_score from processed_files where content is not null order by id
"""


async def both(run_until_idle: RunUntilIdle, clones: Path, order: tuple[str, str], **known: dict[str, Any]) -> None:
    """Extract two clones with the same file, one after the other."""
    commits = {name: make_repository(clones / name, {f"{name}.py": CODE}).head.commit.hexsha for name in order}
    await run_until_idle(FILTERS, OPEN, [discovered(name, **known[name]) for name in order])
    for name in order:
        await run_until_idle(FILTERS, OPEN, [cloned(name, commits[name])])


@pytest.mark.parametrize("order", [("good", "poor"), ("poor", "good")])
@pytest.mark.parametrize(
    ("good", "poor"),
    [
        ({"licence": "MIT"}, {"stars": 900, "forks": 900}),
        ({"licence": "MIT", "stars": 2}, {"licence": "MIT", "stars": 1, "forks": 900}),
        ({"licence": "MIT", "stars": 2, "forks": 2}, {"licence": "MIT", "stars": 2, "forks": 1}),
    ],
)
async def test_the_better_copy_survives_whichever_came_first(
    run_until_idle: RunUntilIdle,
    database: Database,
    clones: Path,
    order: tuple[str, str],
    good: dict[str, Any],
    poor: dict[str, Any],
) -> None:
    await both(run_until_idle, clones, order, good=good, poor=poor)
    [stored] = await database.fetch(STORED)
    assert tuple(stored)[:3] == ("test:good", "good.py", "MIT")
    winner, loser = (await files_of(database, "good"))["good.py"], (await files_of(database, "poor"))["poor.py"]
    assert (loser["rejected_by"], loser["content"], loser["content_hash"]) == (
        "exact-duplicate",
        None,
        winner["content_hash"],
    )
    evidence = loser["rejection"]
    assert (evidence["file_id"], evidence["repository_id"], evidence["path"]) == (winner["id"], "test:good", "good.py")
    assert loser["licence"] == poor.get("licence")


async def test_of_copies_that_are_equally_good_the_earlier_survives(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    await both(run_until_idle, clones, ("one", "other"), one={"stars": 5}, other={"stars": 5})
    assert [row["repository_id"] for row in await database.fetch(STORED)] == ["test:one"]


async def test_scores_stay_with_the_content_when_a_better_copy_takes_over(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    one = make_repository(clones / "one", {"a.py": CODE}).head.commit.hexsha
    other = make_repository(clones / "other", {"lib/b.py": CODE}).head.commit.hexsha
    await run_until_idle(FILTERS, OPEN, [discovered("one"), discovered("other", licence="MIT")])
    await run_until_idle(FILTERS, OPEN, [cloned("one", one)])
    await database.execute("update processed_files set quality_score = 77, scored_at = now()")
    before = await database.fetchval("select id from processed_files where content is not null")
    await run_until_idle(FILTERS, OPEN, [cloned("other", other)])
    row = (await files_of(database, "other"))["lib/b.py"]
    assert (row["id"], row["content"].encode(), row["quality_score"], row["commit"]) == (before, CODE, 77, other)
    displaced = (await files_of(database, "one"))["a.py"]
    assert (displaced["quality_score"], displaced["scored_at"], displaced["content"]) == (None, None, None)
    again = await run_until_idle(FILTERS, OPEN, [cloned("one", one)])
    assert of_type(again, FilesExtracted)[-1].stored == 0
    assert (await files_of(database, "one"))["a.py"]["id"] == displaced["id"]


async def test_what_a_batch_holds_stays_where_it_came_from(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    one = make_repository(clones / "one", {"a.py": CODE}).head.commit.hexsha
    other = make_repository(clones / "other", {"b.py": CODE}).head.commit.hexsha
    await run_until_idle(FILTERS, OPEN, [discovered("one"), discovered("other", licence="MIT")])
    await run_until_idle(FILTERS, OPEN, [cloned("one", one)])
    await database.execute("insert into batches (files, characters, repositories, min_score) values (1, 1, 1, 70)")
    await database.execute("insert into batch_files select id, 1, 'train' from processed_files")
    before = await files_of(database, "one")
    await run_until_idle(FILTERS, OPEN, [cloned("other", other)])
    assert await files_of(database, "one") == before
    assert (await files_of(database, "other"))["b.py"]["rejection"]["file_id"] == before["a.py"]["id"]


async def test_of_copies_in_one_clone_that_under_the_better_licence_survives(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    repository = make_repository(clones / "r", {"a.py": CODE, "z/b.py": CODE, "z/LICENSE": MIT.encode()})
    await extract(run_until_idle, "r", repository)
    assert [row["file_path"] for row in await database.fetch(STORED)] == ["z/b.py"]


async def test_better_and_poorer_clones_at_the_same_time_end_with_the_best(
    run_until_idle: RunUntilIdle, database: Database, clones: Path
) -> None:
    files = {f"m{n}.py": f"def f{n}(value):\n    return value * {n}\n".encode() for n in range(200)}
    commits = {f"r{n}": make_repository(clones / f"r{n}", files).head.commit.hexsha for n in range(6)}
    await run_until_idle(FILTERS, OPEN, [discovered(name, stars=int(name[1])) for name in commits])
    events = await run_until_idle(FILTERS, OPEN, [cloned(name, commit) for name, commit in commits.items()])
    assert not of_type(events, TaskDeadLettered)
    rows = await database.fetch("select distinct repository_id from processed_files where content is not null")
    assert [row[0] for row in rows] == ["test:r5"]
    assert await database.fetchval("select count(*) from processed_files") == 200 * 6
    assert await database.fetchval("select count(*) from processed_files where content is not null") == 200


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
    assert not of_type(events, TaskDeadLettered)
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
    events = await run_until_idle(FILTERS, OPEN, [cloned("r", repository.head.commit.hexsha)])
    [_, second] = of_type(events, FilesExtracted)
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


async def test_a_missing_clone_is_dead_lettered_and_holds_nobody_back(
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
    errors = [event.error for event in of_type(events, TaskDeadLettered)]
    for words in ("not on disk", "outside", "no commit", "not known"):
        assert len([error for error in errors if words in error]) == 1
    assert len(errors) == 4
    assert all(event.attempts == 1 for event in of_type(events, TaskDeadLettered))
    assert [event.stored for event in of_type(events, FilesExtracted)] == [1]
    assert set(await files_of(database, "r")) == {"a.py"}

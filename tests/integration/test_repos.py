"""`codelupe repos`: which repositories there are, what is known of one, and why it is in or out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import codelupe_filters
from codelupe import Database
from codelupe.log import EventLog
from codelupe_events import RepoChanged, RepoDiscovered
from codelupe_filters.known import NoSuchRepository, Selection, Sort, State, find_repository, list_repositories
from tests.conftest import RunUntilIdle
from tests.integration.stored_files import add_file, add_repository
from tests.integration.test_cli import Shell
from tests.plugins import import_path, install_plugin

pytestmark = pytest.mark.anyio

PUSHED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REASONS = [
    {"rule": "min-stars", "detail": "3 stars, at least 10 are asked for"},
    {"rule": "fork", "detail": "it is one"},
]


@pytest.fixture
def shell(tmp_path: Path, database_url: str) -> Shell:
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)


async def lines(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    ended = await shell("repos", "list", "--json", *arguments)
    assert (ended.code, ended.err) == (0, "")
    return [json.loads(line) for line in ended.out.splitlines()]


async def a_few(database: Database) -> None:
    await add_repository(
        database, "tokio-rs/axum", language="Rust", licence="MIT", stars=900, forks=5, score=80.0,
        topics=["async", "web"], description="A Web Framework", pushed_at=PUSHED,
    )  # fmt: skip
    await add_repository(
        database, "b/Zoo", language="Go", stars=900, forks=9, score=60.0, state="accepted", verdict="accepted",
        pushed_at=PUSHED + timedelta(days=1),
    )  # fmt: skip
    await add_repository(database, "a/one", stars=3, state="rejected", verdict="rejected", reasons=REASONS)
    await add_repository(database, "c/late", stars=12, state="rejected", verdict="rejected", size_kib=7)


# --- list ---


async def test_repositories_are_listed_by_what_is_asked_for(shell: Shell, database: Database) -> None:
    await a_few(database)

    async def names(**asked: Any) -> list[str]:
        return [each["repository"] async for each in list_repositories(database, Selection(**asked))]

    assert await names() == ["a/one", "b/Zoo", "c/late", "tokio-rs/axum"]
    assert await names(state=State.ACCEPTED) == ["b/Zoo"]
    assert await names(state=State.REJECTED) == ["a/one", "c/late"]
    assert await names(language="rust") == ["tokio-rs/axum"]
    assert await names(language="unknown") == ["a/one", "c/late"]
    assert await names(licence="mit", min_stars=900) == ["tokio-rs/axum"]
    assert await names(licence="unknown", min_stars=12) == ["b/Zoo", "c/late"]
    assert await names(text="web frame") == await names(text="ASYNC") == await names(text="tokio") == ["tokio-rs/axum"]
    assert await names(text="%") == await names(text="_") == []
    options = ("--state", "rejected", "--min-stars", "1", "--text", "ONE")
    [one] = await lines(shell, *options)
    assert (one["id"], one["state"], one["rejected_by"]) == ("test:a/one", "rejected", ["min-stars", "fork"])
    assert (await lines(shell, "--language", "rust", "--licence", "MIT"))[0]["pushed_at"].startswith("2026-01-02T03:04")


async def test_every_order_has_one_and_only_one_place_for_each(database: Database) -> None:
    await a_few(database)
    orders = {
        sort: [each["repository"] async for each in list_repositories(database, Selection(), sort)] for sort in Sort
    }
    assert orders[Sort.NAME] == ["a/one", "b/Zoo", "c/late", "tokio-rs/axum"]
    assert orders[Sort.STARS] == ["b/Zoo", "tokio-rs/axum", "c/late", "a/one"]
    assert orders[Sort.FORKS] == ["b/Zoo", "tokio-rs/axum", "a/one", "c/late"]
    assert orders[Sort.SCORE] == ["tokio-rs/axum", "b/Zoo", "a/one", "c/late"]  # those without come last
    assert orders[Sort.SIZE] == ["c/late", "a/one", "b/Zoo", "tokio-rs/axum"]
    assert orders[Sort.PUSHED] == ["b/Zoo", "tokio-rs/axum", "a/one", "c/late"]
    for sort, order in orders.items():
        paged: list[str] = []
        while page := [
            each
            async for each in list_repositories(
                database, Selection(), sort, after=f"test:{paged[-1]}" if paged else None, limit=1
            )
        ]:
            paged += [each["repository"] for each in page]
        assert paged == order


async def test_more_than_a_page_comes_once_each(shell: Shell, database: Database) -> None:
    await database.execute(
        "insert into repositories (id, source, full_name, url, revision, stars)"
        " select 'test:' || n, 'test', 'o/' || n % 700, 'u', '1', n % 3 from generate_series(1, 1100) as n"
    )
    found = await lines(shell, "--sort", "stars")
    assert sorted(int(each["id"].removeprefix("test:")) for each in found) == list(range(1, 1101))
    assert len(await lines(shell, "--limit", "501")) == 501


async def test_before_anything_is_known_it_says_what_to_do(shell: Shell) -> None:
    listed = await shell("repos", "list")
    assert listed.out == "No repository is known yet.\n"
    assert "codelupe run" in listed.err


async def test_a_table_says_how_to_go_on(shell: Shell, database: Database) -> None:
    await a_few(database)
    first = await shell("repos", "list", "--limit", "2", "--sort", "stars")
    assert ("b/Zoo" in first.out, "tokio-rs/axum" in first.out, "c/late" in first.out) == (True, True, False)
    assert "--after 'test:tokio-rs/axum'" in first.err
    rest = await shell("repos", "list", "--limit", "2", "--sort", "stars", "--after", "axum")
    assert ("c/late" in rest.out, "a/one" in rest.out, "b/Zoo" in rest.out, rest.err) == (True, True, False, "")
    assert "min-stars, fork" in rest.out
    assert (await shell("repos", "list", "--language", "COBOL")).out == "No such repositories.\n"
    (await shell("repos", "list", "--state", "clonned")).failed(2, "clonned", "cloned")
    (await shell("repos", "list", "--min-stars", "99999999999")).failed(2, "--min-stars")


# --- which is meant ---


async def test_a_repository_is_found_by_id_name_address_and_last_part(database: Database) -> None:
    await add_repository(database, "tokio-rs/axum", id="github:1", url="https://host/tokio-rs/axum.git")
    await add_repository(database, "group/sub/deep", id="lab:2")
    for reference in (
        "github:1",
        "Tokio-RS/AXUM",
        "axum",
        "AXUM",
        "git@host:tokio-rs/axum",
        "https://HOST/tokio-rs/axum/",
    ):
        assert await find_repository(database, reference) == "github:1", reference
    assert await find_repository(database, "deep") == await find_repository(database, "sub/deep") == "lab:2"


async def test_of_a_name_that_changed_hands_the_one_that_is_there_is_meant(shell: Shell, database: Database) -> None:
    """houndci/hound#1128: one repository is deleted, another takes its name; two swap theirs."""
    await add_repository(database, "o/name", id="test:3", state="gone")
    await add_repository(database, "o/name", id="test:9")
    assert await find_repository(database, "o/name") == "test:9"
    assert await find_repository(database, "test:3") == "test:3"
    await add_repository(database, "O/Name", id="other:9")
    ended = await shell("repos", "show", "o/name")
    ended.failed(1, "several repositories are called 'o/name'", "test:9", "other:9", "Give the id of one")
    await database.execute("update repositories set state = 'gone'")
    with pytest.raises(NoSuchRepository, match="several"):
        await find_repository(database, "o/name")


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("tokio-rs/axim", "tokio-rs/axum"),
        ("tokio/axum", "tokio-rs/axum"),
        ("axm", "tokio-rs/axum"),
        ("Tokio-RS/Axumm", "tokio-rs/axum"),
        ("serd-rs/serde", "serde-rs/serde"),
    ],
)
async def test_an_unknown_name_names_those_that_could_be_meant(
    shell: Shell, database: Database, reference: str, meant: str
) -> None:
    for name in ("tokio-rs/axum", "tokio-rs/tokio", "serde-rs/serde", "a/b"):
        await add_repository(database, name)
    with pytest.raises(NoSuchRepository, match=f"did you mean .*{meant}") as raised:
        await find_repository(database, reference)
    assert raised.value.hint is not None
    (await shell("repos", "explain", reference)).failed(1, f"no repository '{reference}' is known", meant)


@pytest.mark.parametrize("reference", ["", "/", "%", "no/such", "9" * 40, "ä/ö", "'; drop table repositories; --"])
async def test_what_is_like_nothing_is_said_to_be_unknown(database: Database, reference: str) -> None:
    await add_repository(database, "tokio-rs/axum")
    with pytest.raises(NoSuchRepository) as raised:
        await find_repository(database, reference)
    assert raised.value.message == f"no repository {reference!r} is known"


# --- show ---


async def test_all_that_is_known_is_shown(shell: Shell, database: Database) -> None:
    repository = await add_repository(
        database, "owner/repo", stars=30, watchers=None, topics=["a", "b"], licence="MIT", commit="c" * 40,
        path="owner/repo", size_bytes=12, score=61.24, reasons=[], verdict="accepted", judged_revision="1",
    )  # fmt: skip
    (shell.state / "repos" / "owner" / "repo").mkdir(parents=True)
    await add_file(database, repository, "a.py", content="1")
    await add_file(database, repository, "b.py", content="2", quality_score=40.0)
    await add_file(database, repository, "c.py", rejected_by="generated")
    known: dict[str, Any] = {"source": "test", "url": "u", "revision": "1"}
    log = EventLog(database)
    await log.publish(RepoDiscovered(repository_id=repository, full_name="old/name", **known))
    await log.publish(RepoChanged(repository_id=repository, full_name="owner/repo", **known))
    it = (await shell("repos", "show", "repo", "--json")).json()
    assert (it["repository"]["id"], it["repository"]["state"], it["repository"]["stars"]) == (repository, "scored", 30)
    assert (it["repository"]["watchers"], it["repository"]["topics"]) == (None, ["a", "b"])
    assert it["verdict"] == {"verdict": "accepted", "revision": "1", "score": 61.2, "reasons": []}
    assert it["clone"]["path"] == str(shell.state / "repos" / "owner" / "repo")
    assert (it["clone"]["is_there"], it["clone"]["commit"], it["clone"]["size_bytes"]) == (True, "c" * 40, 12)
    counts = {"seen": 3, "stored": 2, "scored": 2, "good": 1, "mean_score": 60, "rejected_by": {"generated": 1}}
    assert it["files"] == counts
    assert [(event["type"], event["data"]["full_name"]) for event in it["history"]] == [
        ("RepoDiscovered", "old/name"),
        ("RepoChanged", "owner/repo"),
    ]
    told = await shell("repos", "show", repository)
    words = ("owner/repo is scored", "a, b", "61.2", "2 of 3 stored, 1 at 70 or more", "1 generated", "RepoDiscovered")
    assert [word for word in words if word not in told.out] == []
    assert (told.code, told.err) == (0, "")


async def test_what_was_never_judged_cloned_or_read_is_shown_so(shell: Shell, database: Database) -> None:
    await add_repository(database, "o/bare", state="discovered")
    it = (await shell("repos", "show", "o/bare", "--json")).json()
    assert (it["clone"], it["forgotten"], it["history"]) == (None, None, [])
    assert it["verdict"] == {"verdict": None, "revision": None, "score": None, "reasons": []}
    assert it["files"] == {
        "seen": 0, "stored": 0, "scored": 0, "good": 0, "mean_score": None, "rejected_by": {}
    }  # fmt: skip
    assert "o/bare is discovered" in (await shell("repos", "show", "o/bare")).out


async def test_the_forgotten_and_the_hostile_are_shown_without_harm(shell: Shell, database: Database) -> None:
    await add_repository(database, "o/<img src=x>[red]\x1b[31m", id="test:x", description="[bold]\x1b]0;x\x07")
    assert (await shell("forget", "test:x", "--yes", "--reason", "asked", "--by", "me")).code == 0
    it = (await shell("repos", "show", "test:x", "--json")).json()
    assert (it["repository"]["state"], it["forgotten"]["by"], it["forgotten"]["reason"]) == ("forgotten", "me", "asked")
    told = await shell("repos", "show", "test:x")
    assert "by me on" in told.out
    for command in ("show", "explain"):
        assert "\x1b" not in (await shell("repos", command, "test:x")).out
    assert "\x1b" not in (await shell("repos", "list")).out


async def test_a_long_history_shows_its_end(shell: Shell, database: Database) -> None:
    repository = await add_repository(database, "o/r")
    log = EventLog(database)
    for stars in range(60):
        await log.publish(
            RepoChanged(repository_id=repository, source="test", full_name="o/r", url="u", revision="1", stars=stars)
        )
    it = (await shell("repos", "show", "o/r", "--json")).json()
    assert [event["data"]["stars"] for event in it["history"]] == list(range(10, 60))
    assert f"codelupe events tail --stream 'repo/{repository}'" in (await shell("repos", "show", "o/r")).err


# --- explain ---


async def test_each_rule_says_what_it_sees_and_the_points_add_up(
    shell: Shell, database: Database, run_until_idle: RunUntilIdle
) -> None:
    found = RepoDiscovered(
        repository_id="test:1", source="test", full_name="o/my-Demo", url="u", revision="1", stars=99, language="Go",
        licence="NOASSERTION", is_archived=True, description="d", pushed_at=datetime.now(UTC),
    )  # fmt: skip
    await run_until_idle({"filters": codelupe_filters}, {}, [found])
    it = (await shell("repos", "explain", "o/my-demo", "--json")).json()
    assert it["verdict"] == it["recorded"]["verdict"] == "rejected"
    rules = {each["rule"]: each for each in it["rules"]}
    refused = [name for name, each in rules.items() if each["verdict"] == "refused"]
    assert refused == ["min-forks", "teaching", "archived", "min-score"]
    assert refused == [reason["rule"] for reason in it["recorded"]["reasons"]]
    assert rules["min-stars"]["saw"] == "99 stars, at least 10 are asked for"
    assert rules["teaching"]["saw"] == "the name has 'demo'"
    assert rules["archived"]["reason"] == "what is archived is not kept up any more"
    assert all(each["saw"] for each in rules.values())
    points = {each["criterion"]: (each["points"], each["most"]) for each in it["score"]["criteria"]}
    assert points == {
        "min-stars": (20, 40), "min-forks": (0, 20), "description": (10, 10), "topics": (0, 10), "licence": (0, 10),
        "recency": (10, 10),
    }  # fmt: skip
    assert it["score"]["total"] == it["recorded"]["score"] == 40
    told = (await shell("repos", "explain", "test:1")).out
    words = ("o/my-Demo is rejected", "the name has 'demo'", "no licence is known", "not kept up", "at least 50")
    assert [word for word in words if word not in told] == []


async def test_the_present_settings_are_compared_with_what_was_decided(shell: Shell, database: Database) -> None:
    """A criterion that is no longer required, one with a weight, and one in the operator's words."""
    await add_repository(
        database, "o/r", state="rejected", verdict="rejected", is_archived=True, stars=10_000, forks=1_000, score=50.0,
        reasons=[{"rule": "archived", "detail": "it is archived"}],
    )  # fmt: skip
    (shell.folder / "c.toml").write_text(
        "[plugins.filters.criteria]\n"
        "archived = { required = false, weight = 60, reason = 'we like it alive' }\n"
        "min_stars = { reason = 'fame' }\n"
        "[plugins.filters]\nmin_score = 37.5\n"
    )
    it = (await shell("repos", "explain", "o/r", "--config", "c.toml", "--json")).json()
    assert (it["verdict"], it["recorded"]["verdict"]) == ("accepted", "rejected")
    assert "archived" not in [each["rule"] for each in it["rules"]]
    [archived] = [each for each in it["score"]["criteria"] if each["criterion"] == "archived"]
    assert archived == {
        "criterion": "archived", "saw": "it is archived", "points": 0, "most": 37.5, "reason": "we like it alive"
    }  # fmt: skip
    assert (it["score"]["total"], it["score"]["least"]) == (37.5, 37.5)
    assert it["rules"][0]["reason"] == "fame"
    told = (await shell("repos", "explain", "o/r", "--config", "c.toml")).out
    assert "It was rejected; to have it judged again" in told
    assert "codelupe replay filters.repository-rules --stream 'repo/test:o/r'" in told


@pytest.mark.parametrize(("detail", "verdict"), [("'hush!'", "rejected"), ("None", "undecided")])
async def test_rules_of_other_plugins_are_explained_too(
    shell: Shell, database: Database, detail: str, verdict: str
) -> None:
    install_plugin(
        shell.folder,
        "others",
        "from codelupe import hookimpl\nfrom codelupe_events import Reason\n"
        "class Hush:\n    name = 'hush'\n"
        f"    def check(self, repository): return {detail} and Reason(rule='hush', detail={detail})\n"
        "class Broken:\n    name = 'broken'\n    def check(self, repository): raise ValueError('on fire')\n"
        "@hookimpl\ndef codelupe_repository_rules(): return [Hush(), Broken()]\n",
    )
    await add_repository(database, "o/r", stars=10_000, forks=1_000)
    ended = await shell("repos", "explain", "o/r", "--json", PYTHONPATH=import_path(shell.folder))
    it = json.loads(ended.out)
    rules = {each["rule"]: each for each in it["rules"]}
    assert it["verdict"] == verdict
    assert rules["hush"]["saw"] == (None if detail == "None" else "hush!")
    assert rules["broken"]["verdict"] == "failed"
    assert "on fire" in rules["broken"]["saw"]


async def test_a_forgotten_one_is_explained_by_that(shell: Shell, database: Database) -> None:
    await add_repository(database, "o/r", stars=10_000)
    assert (await shell("forget", "o/r", "--yes")).code == 0
    it = (await shell("repos", "explain", "o/r", "--json")).json()
    assert it["verdict"] == "rejected"
    assert it["rules"][-1]["rule"] == "forgotten"

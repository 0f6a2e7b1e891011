"""``codelupe crawl``, and what ``codelupe status`` and the metrics say of a crawl."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import codelupe_crawler
from codelupe import Database, EventLog, Progress, load_queries
from codelupe.host.status_sections import guard_status_section
from codelupe.observability.progress import ProgressTracker
from codelupe_crawler.status import read_crawls
from codelupe_events import CrawlRequested
from tests.conftest import RunUntilIdle
from tests.integration.test_cli import Shell
from tests.integration.test_paged_sources import Catalogue, offering

pytestmark = pytest.mark.anyio

SQL = load_queries("codelupe_sql", "crawler")
GATE = "stars:>=10 forks:>=3 archived:false mirror:false template:false"


@pytest.fixture
def asked() -> Iterator[ThreadingHTTPServer]:
    """Where GitHub's API should be; no request may come."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raise AssertionError(f"a request was made: {self.path}")

        do_POST = do_GET  # noqa: N815 - the name that the base class calls

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        connections: list[Any] = []
        server.verify_request = lambda *one: not connections.append(one)  # type: ignore[method-assign, func-returns-value]
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        assert connections == []


@pytest.fixture
def shell(tmp_path: Path, database_url: str, asked: ThreadingHTTPServer) -> Shell:
    (tmp_path / "codelupe.toml").write_text(
        f"""
        [plugins.crawler]
        sources = ["{tmp_path}"]
        [plugins.crawler.github]
        enabled = true
        api_url = "http://127.0.0.1:{asked.server_port}"
        """
    )
    return Shell(tmp_path, CODELUPE_DATABASE_URL=database_url, CODELUPE_CONFIG=str(tmp_path / "codelupe.toml"))


def with_tokens(shell: Shell, *tokens: str) -> None:
    with (shell.folder / "codelupe.toml").open("a") as settings:
        settings.write(f"tokens = {json.dumps(tokens)}\n")


async def requested(database: Database) -> list[tuple[str | None, str | None, tuple[str, ...]]]:
    events = [recorded.decode() async for recorded in EventLog(database).read()]
    return [(each.source, each.mode, each.terms) for each in events if isinstance(each, CrawlRequested)]


# --- asking for a crawl ---


async def test_every_source_is_asked_for_what_is_due(shell: Shell, database: Database) -> None:
    done = await shell("crawl")
    assert done.out == "Asked for a crawl of github.\nAsked for a crawl of local.\n"
    assert "codelupe run --until-idle" in done.err
    assert await requested(database) == [("github", None, ()), ("local", None, ())]


async def test_terms_and_depth_are_asked_of_the_sources_that_have_them(shell: Shell, database: Database) -> None:
    await shell("crawl", "--deep")
    done = await shell("crawl", "--term", "web  framework", "--term", "orm", "--json")
    assert json.loads(done.out) == [{"source": "github", "mode": "terms", "terms": ["web framework", "orm"]}]
    assert await requested(database) == [("github", "deep", ()), ("github", "terms", ("web framework", "orm"))]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ("--source", "gihub"),
            1,
            ("no source 'gihub' (did you mean github?)", "github, local", "`packages`"),
        ),
        (("--source", "local", "--deep"), 1, ("local: there is no mode deep", "--source")),
        (("--deep", "--term", "orm"), 2, ("--deep finds everything",)),
        (("--term", "orm", "--term", "a OR b"), 2, ("--term 'a OR b': 'OR' has a meaning of its own",)),
        (("--term", " "), 2, ("--term '': it holds no word",)),
    ],
)
async def test_what_cannot_be_crawled_is_refused(
    shell: Shell, database: Database, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    (await shell("crawl", *arguments)).failed(code, *words)
    (await shell("crawl", "--dry-run", *arguments)).failed(code, *words)
    assert await requested(database) == []


async def test_a_list_of_those_who_opted_out_that_is_missing_is_told_at_once(shell: Shell, database: Database) -> None:
    shell.environment["CODELUPE_PLUGINS__CRAWLER__OPT_OUT"] = '["/absent.txt"]'
    for arguments in (["crawl"], ["crawl", "--dry-run"]):
        (await shell(*arguments)).failed(1, "the opt-out list /absent.txt cannot be read", "Nothing is crawled until")
    assert await requested(database) == []


async def test_without_a_source_it_says_where_to_set_one(tmp_path: Path, database_url: str, database: Database) -> None:
    shell = Shell(tmp_path, CODELUPE_DATABASE_URL=database_url)
    (await shell("crawl")).failed(78, "there is no source to crawl", "[plugins.crawler.github]")
    assert await requested(database) == []


# --- a dry run ---


async def dry_run(shell: Shell, *arguments: str) -> Any:
    [found] = (await shell("crawl", "--dry-run", "--json", "--source", "github", *arguments)).json()
    return found


async def test_a_dry_run_tells_queries_requests_and_time_and_does_nothing(shell: Shell, database: Database) -> None:
    found = await dry_run(shell, "--term", "orm", "--term", "web framework")
    assert found["queries"] == [f"orm {GATE} is:public", f"web framework {GATE} is:public"]
    assert (found["requests_at_least"], found["requests_at_most"]) == (2, 10)
    assert found["rate"] == "the anonymous rate"
    assert found["seconds_at_most"] == pytest.approx(10 * 60 / 10, rel=0.1), "ten searches a minute"
    assert await requested(database) == []


async def test_tokens_count_by_the_accounts_that_they_are_known_to_belong_to(shell: Shell, database: Database) -> None:
    with_tokens(shell, "a", "b", "c")
    found = await dry_run(shell)
    assert (found["requests_at_least"], found["requests_at_most"]) == (len(found["queries"]), 5 * len(found["queries"]))
    assert (found["rate"], len(found["queries"]) >= 275) == ("the rate of 1 account", True)
    assert found["seconds_per_request"] == pytest.approx(2, rel=0.1)
    fingerprints = ("ca978112ca1b", "3e23e8160039", "2e7d2c03a950")  # of a, b and c
    for fingerprint, login in zip(fingerprints, ("ann", "ann", "bob"), strict=True):
        await database.execute("insert into crawl_notes values ('github', $1, $2)", f"token {fingerprint}", login)
    found = await dry_run(shell)
    assert (found["rate"], found["seconds_per_request"]) == ("the rate of 2 accounts", pytest.approx(1, rel=0.1))


async def test_tokens_come_from_a_credential_one_a_line_and_are_not_shown(shell: Shell, database: Database) -> None:
    credentials = shell.folder / "credentials"
    credentials.mkdir()
    (credentials / "plugins.crawler.github.tokens").write_text("hidden-away-1\nhidden-away-2\n")
    shell.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert (await dry_run(shell))["rate"] == "the rate of 1 account"
    await shell("config", "show")  # it has a look at every output for what is hidden away


async def test_of_a_deep_crawl_it_tells_what_is_known(shell: Shell, database: Database) -> None:
    found = await dry_run(shell, "--deep")
    assert (found["requests_at_least"], found["requests_at_most"], found["last"]) == (6, None, None)
    await add_crawl(database, "github", "deep", ["complete"] * 3, requests=7, repositories=640, completed=True)
    await add_crawl(database, "github", "deep", ["in work"], requests=1)
    found = await dry_run(shell, "--deep")
    assert found["last"] == {"requests": 21, "repositories": 1920, "seconds": 60.0}
    text = (await shell("crawl", "--dry-run", "--deep", "--source", "github")).out
    assert "language:Rust created:2008-01-01T00:00:00Z.." in text
    assert "not known before it is counted" in text
    assert "last time 21 requests for 1,920 repositories, in 0:01:00" in text


# --- what is seen of one ---


async def add_crawl(
    database: Database,
    source: str,
    mode: str,
    states: Sequence[str],
    *,
    totals: Sequence[int | None] = (),
    repositories: int = 0,
    requests: int = 1,
    completed: bool = False,
) -> None:
    """One that began a minute ago; its slices are alike but for their states and totals."""
    crawl = await database.fetchval(
        "insert into crawls (source, mode, terms, began_at, completed_at)"
        " values ($1, $2, '{}', now() - interval '1 minute', case when $3 then now() end) returning id",
        *(source, mode, completed),
    )
    for number, state in enumerate(states):
        await database.execute(
            "insert into crawl_slices (crawl, query, budget, state, total, repositories, requests, error)"
            " values ($1, $2, 'search', $3::text, $4, $5, $6, case when $3 = 'failed' then 'HTTP 500' end)",
            *(crawl, f"slice {number}", state, totals[number] if totals else None, repositories, requests),
        )


async def crawl_of(database: Database) -> Mapping[str, Any]:
    [found] = (await read_crawls(database))["crawls"]
    return found  # type: ignore[no-any-return]


async def test_of_terms_the_total_is_told_by_those_that_were_begun(database: Database) -> None:
    states = ["complete", "in work", "open", "open"]
    await add_crawl(database, "github", "terms", states, totals=[500, 100, None, None], repositories=50)
    found = await crawl_of(database)
    assert (found["slices_done"], found["slices_to_go"], found["seen"], found["total"]) == (1, 3, 200, 1200)
    assert 300 <= found["seconds_to_go"] < 600, "a minute and what this test has taken for 200, and 1,000 are left"


async def test_of_a_partition_the_total_is_known_when_all_parts_are_counted(database: Database) -> None:
    await add_crawl(database, "github", "deep", ["split", "open", "open"], totals=[None, 900, None])
    assert (await crawl_of(database))["total"] is None
    assert (await crawl_of(database))["seconds_to_go"] is None
    await database.execute("update crawl_slices set total = 700 where query = 'slice 2'")
    assert (await crawl_of(database))["total"] == 1600


async def test_a_crawl_that_is_over_has_the_total_that_it_came_to(database: Database) -> None:
    states = ["split", "complete", "failed"]
    await add_crawl(database, "github", "deep", states, totals=[None, 900, None], repositories=80, completed=True)
    await database.execute("update crawl_slices set repositories = 0 where state = 'split'")
    found = await crawl_of(database)
    assert (found["under_way"], found["total"], found["seen"], found["slices_failed"]) == (False, 160, 160, 1)
    await add_crawl(database, "github", "deep", ["open"])
    assert (await crawl_of(database))["under_way"] is True, "the one under way comes before the last one"


SECTION = next(one for one in codelupe_crawler.codelupe_status_sections() if one.name == "crawl")


async def test_status_shows_crawls_waits_and_what_was_given_up(shell: Shell, database: Database) -> None:
    await add_crawl(database, "github", "terms", ["failed", "open"], totals=[100, None], repositories=50)
    for kind, seconds, reason in (("search", 90, "it is used up"), ("core", 30, None), ("", -5, "abuse")):
        await database.execute(
            "insert into crawl_budgets values ('github', 'ann', $1, now() + $2 * interval '1 second', $3)",
            *(kind, seconds, reason),
        )
    found = (await shell("status", "--json")).json()["crawl"]
    assert [(each["kind"], each["reason"]) for each in found["waits"]] == [
        ("all", "abuse"),
        ("core", None),
        ("search", "it is used up"),
    ]
    assert [round(each["seconds"] / 30) for each in found["waits"]] == [0, 1, 3]
    assert found["given_up"] == [
        {"source": "github", "mode": "terms", "query": "slice 0", "missed": 0, "error": "HTTP 500"}
    ]
    text = (await shell("status")).out
    assert re.search(r"crawls under way +1 +github", text)
    assert re.search(r"github +terms +1 +1 +100 +200 ", text)
    assert re.search(r"github +ann +search +0:01:[23]\d +it is used up", text)
    assert "abuse" not in text, "that wait is over"
    assert re.search(r"github +terms +slice 0 +0 +HTTP 500", text)


async def test_nothing_is_shown_of_a_crawl_that_is_over_and_whole(database: Database) -> None:
    await add_crawl(database, "github", "terms", ["complete"], completed=True)
    found = await read_crawls(database)
    assert SECTION.tables is not None
    assert (SECTION.counts(found), SECTION.tables(found)) == ([], [])


async def test_the_metrics_count_from_the_beginning_of_each_crawl(database: Database) -> None:
    await add_crawl(database, "github", "terms", ["complete", "failed", "open"], repositories=50, requests=3)
    await database.execute("insert into crawl_budgets values ('github', 'ann', 'search', now() + '90 s', 'used up')")
    await database.execute("insert into crawl_budgets values ('github', 'ann', 'core', now() + '90 s', null)")
    section = guard_status_section("crawler", SECTION, None)
    assert section.metrics is not None
    found = {each.name: each for each in section.metrics(await read_crawls(database))}
    github = {"source": "github", "mode": "terms"}
    assert found["requests"].is_counter
    assert found["requests"].samples == [(github, 9)]
    assert found["repositories"].samples == [(github, 150)]
    assert {labels["state"]: value for labels, value in found["slices"].samples} == {"to_go": 1, "done": 2, "failed": 1}
    waits = {labels["kind"]: value for labels, value in found["wait_seconds"].samples}
    assert waits == {"core": 0, "search": pytest.approx(90, abs=20)}


async def test_while_it_crawls_the_progress_has_a_total_and_goes_on(
    run_until_idle: RunUntilIdle, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Progress] = []
    monkeypatch.setattr(ProgressTracker, "report", lambda _, __, ___, progress: reported.append(progress))
    await run_until_idle(offering(Catalogue(25, 5)))
    assert [(each.done, each.total) for each in reported] == [(5, 10), (15, 30), (25, 30), (30, 30)]
    assert [each.figures["slices_to_go"] for each in reported] == [1, 1, 1, 0]


async def test_what_is_looked_up_again_and_again_is_found_by_an_index(database: Database) -> None:
    for number in range(20):
        await add_crawl(database, f"other-{number}", "deep", ["complete"], completed=True)
    await database.execute(
        "insert into crawl_slices (crawl, query, budget, state) select crawls.id, 'q' || n, 'search', 'complete'"
        " from crawls, generate_series(1, 2000) as n"
    )
    await add_crawl(database, "github", "deep", ["in work", "failed"])
    await database.execute(
        "insert into repositories (id, source, full_name, url, revision)"
        " select 'github:' || n, 'github', 'o/' || n, 'u', 'r' from generate_series(1, 20000) as n"
    )
    for table in ("crawl_slices", "repositories", "crawls"):
        await database.execute(f"vacuum analyze {table}")
    for statement, arguments in ((SQL.crawl_progress, ["github"]), (SQL.count_known, ["github"])):
        plan = json.dumps(await database.fetchval(f"explain (format json) {statement}", *arguments))
        assert not re.search(r'"Seq Scan[^{}]*"Relation Name": "(crawl_slices|repositories)"', plan), plan
    [found] = await database.fetch(SQL.crawl_progress, "github")
    assert (found["slices_to_go"], found["slices_failed"]) == (1, 1)

"""What befalls the index in Elasticsearch: refused documents, lost connections, an outage, a wrong setup.

The client is the official one, unmodified; the server is the one that :mod:`tests.elasticsearch` names.
"""

from __future__ import annotations

import io
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from elasticsearch import AsyncElasticsearch
from pydantic import ValidationError

import codelupe_search
from codelupe import CodelupeError, Database, HandlerContext, Reject, RetryLater, Subscription
from codelupe.daemon import Daemon
from codelupe.log import Entry, EventLog
from codelupe_events import RepoDiscovered
from codelupe_search.elasticsearch import layout
from codelupe_search.elasticsearch.connection import ElasticsearchSetupWrong, ElasticsearchUnavailable
from codelupe_search.elasticsearch.index import NoIndex
from codelupe_search.settings import ElasticsearchSettings
from tests.conftest import RunUntilIdle
from tests.elasticsearch import Proxy, Server
from tests.logged import Logged
from tests.plugins import make_plugin
from tests.processes import HANGS
from tests.search_indexes import PromptIndex, documents, repository, settings_for

pytestmark = pytest.mark.anyio

TOO_MUCH = {"type": "es_rejected_execution_exception", "reason": "rejected execution of primary operation"}
MALFORMED = {
    "type": "document_parsing_exception",
    "reason": "[1:90] failed to parse field [stars]",
    "caused_by": {"type": "illegal_argument_exception", "reason": "not a number"},
}
FULL_DISK = {"type": "cluster_block_exception", "reason": "index is blocked by: disk usage exceeded flood-stage"}


@pytest.fixture
def proxy(elasticsearch_server: Server) -> Iterator[Proxy]:
    with Proxy(elasticsearch_server) as it:
        yield it


@pytest.fixture
async def index(elasticsearch_server: Server, proxy: Proxy, database: Database) -> PromptIndex:
    """Behind the proxy; it is there already, and empty."""
    it = PromptIndex(settings_for(elasticsearch_server, urls=(proxy.url,)), database)
    await it.index([])
    return it


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for Elasticsearch comes again a hundred times as soon."""
    monkeypatch.setattr(ElasticsearchUnavailable, "pause_seconds", ElasticsearchUnavailable.pause_seconds / 100)


def settings_of(index: PromptIndex) -> dict[str, Any]:
    return {"search": {"elasticsearch": index.settings.model_dump(include={"urls", "alias"})}}


def discovered(number: int, **values: Any) -> RepoDiscovered:
    return repository(number, **values).to_event(RepoDiscovered)


async def dead_letters(database: Database) -> dict[str, str]:
    rows = await database.fetch("select stream, error from tasks where state = 'dead_lettered'")
    return {row["stream"]: row["error"] for row in rows}


# --- one document among others ---


async def test_elasticsearch_py_864_what_is_refused_for_now_waits_and_the_others_are_taken(
    index: PromptIndex, proxy: Proxy
) -> None:
    proxy.refuse("test:2", 429, TOO_MUCH)
    with pytest.raises(RetryLater, match=r"refused 1 documents for now: .*rejected execution") as caught:
        await index.index(documents(repository(1), repository(2), repository(3)))
    assert not caught.value.counts
    assert sorted(await index.stored()) == ["test:1", "test:3"]
    await index.index(documents(repository(1), repository(2), repository(3)))
    assert sorted(await index.stored()) == ["test:1", "test:2", "test:3"]


@pytest.mark.parametrize("status", [403, 429, 500, 503])
async def test_a_blocked_index_or_a_lost_shard_is_waited_for(index: PromptIndex, proxy: Proxy, status: int) -> None:
    proxy.refuse("test:1", status, FULL_DISK)
    with pytest.raises(RetryLater, match="flood-stage"):
        await index.index(documents(repository(1)))


async def test_connectors_856_each_document_of_a_bulk_has_its_own_outcome(
    index: PromptIndex, proxy: Proxy, database: Database, run_until_idle: RunUntilIdle, short_pauses: None
) -> None:
    """One is refused for now, one is malformed, one is stale; the others are taken."""
    events = [discovered(number) for number in range(1, 9)]
    await index.index(documents(repository(3, full_name="owner/newer"), version=1000))
    proxy.refuse("test:1", 429, TOO_MUCH)
    proxy.refuse("test:2", 400, MALFORMED, times=1000)
    await run_until_idle({"search": codelupe_search}, settings_of(index), events, search_index="elasticsearch")
    stored = await index.stored()
    assert sorted(stored) == ["test:1", *(f"test:{number}" for number in range(3, 9))]
    assert stored["test:3"][1]["full_name"] == "owner/newer"
    [(stream, error)] = (await dead_letters(database)).items()
    assert stream == "repo/test:2"
    assert "cannot take the document of test:2: document_parsing_exception" in error
    assert "not a number" in error


async def test_a_dead_letter_does_not_keep_its_repository_in_the_index(
    index: PromptIndex, proxy: Proxy, database: Database, run_until_idle: RunUntilIdle
) -> None:
    """Events that follow on a malformed document are handled: versions say which is the last one."""
    proxy.refuse("test:1", 400, MALFORMED, times=100)
    events = [discovered(1, full_name="owner/odd")]
    await run_until_idle({"search": codelupe_search}, settings_of(index), events, search_index="elasticsearch")
    assert len(await dead_letters(database)) == 1
    proxy.recover()
    events = [discovered(1, full_name="owner/even", revision="2")]
    await run_until_idle({"search": codelupe_search}, settings_of(index), events, search_index="elasticsearch")
    assert [hit.full_name for hit in await index.search("owner", 10)] == ["owner/even"]


async def test_a_malformed_document_is_rejected_once_all_others_are_taken(index: PromptIndex, proxy: Proxy) -> None:
    proxy.refuse("test:2", 400, MALFORMED)
    with pytest.raises(Reject, match="test:2: document_parsing_exception"):
        await index.index(documents(*(repository(number) for number in range(1, 5))))
    assert sorted(await index.stored()) == ["test:1", "test:3", "test:4"]


async def test_a_request_that_is_too_large_is_made_in_halves(index: PromptIndex, proxy: Proxy) -> None:
    proxy.say(413, b"Request Entity Too Large", "/_bulk", times=2)
    await index.index(documents(*(repository(number) for number in range(9))))
    assert len(await index.stored()) == 9
    proxy.say(413, b"Request Entity Too Large", "/_bulk", times=1)
    with pytest.raises(Reject, match=r"of test:10: its document of \d+ bytes is too large"):
        await index.index(documents(repository(10)))


async def test_a_batch_of_large_documents_is_written_in_several_requests(index: PromptIndex, proxy: Proxy) -> None:
    large = [repository(number, description="word " * 2000) for number in range(1200)]
    await index.index(documents(*large))
    assert len(await index.stored()) == 1200
    sizes = [size for path, size in proxy.requests if "_bulk" in path]
    assert len(sizes) > 10
    assert max(sizes) <= 1_000_000


# --- connections and nodes ---


async def test_elasticsearch_py_2196_a_lost_connection_is_waited_for(index: PromptIndex, proxy: Proxy) -> None:
    proxy.cut(after_the_server_took_it=False, times=100)
    with pytest.raises(RetryLater, match="cannot be reached") as caught:
        await index.index(documents(repository(1)))
    proxy.recover()
    assert not caught.value.counts
    assert await index.stored() == {}
    await index.index(documents(repository(1)))
    assert len(await index.stored()) == 1


async def test_elasticsearch_py_2196_another_node_takes_the_place_of_a_lost_one(
    index: PromptIndex, proxy: Proxy, elasticsearch_server: Server, database: Database
) -> None:
    nobody_there = "http://127.0.0.1:1"
    settings = index.settings.model_copy(update={"urls": (nobody_there, elasticsearch_server.url)})
    for number in range(5):
        await PromptIndex(settings, database).index(documents(repository(number)))
    assert len(await index.stored()) == 5


@pytest.mark.parametrize("times", [1, 100])
async def test_elasticsearch_py_1085_a_request_that_was_taken_and_not_answered_doubles_nothing(
    index: PromptIndex, proxy: Proxy, times: int
) -> None:
    await index.index(documents(repository(2), version=2))
    proxy.cut(after_the_server_took_it=True, times=times)
    if times == 1:
        await index.index(documents(repository(1, full_name="owner/once"), version=5))
    else:
        with pytest.raises(RetryLater):
            await index.index(documents(repository(1, full_name="owner/once"), version=5))
        proxy.recover()
        await index.index(documents(repository(1, full_name="owner/once"), version=5))
    stored = await index.stored()
    assert {id_: version for id_, (version, _) in stored.items()} == {"test:1": 5, "test:2": 2}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_cluster_with_too_much_to_do_is_waited_for(index: PromptIndex, proxy: Proxy, status: int) -> None:
    proxy.say(status, b"<html>Bad Gateway</html>", "/_bulk", times=3)
    with pytest.raises(RetryLater, match=str(status)) as caught:
        await index.index(documents(repository(1)))
    assert not caught.value.counts


async def test_an_answer_that_is_none_is_waited_for(index: PromptIndex, proxy: Proxy) -> None:
    proxy.say(200, b"{this is no JSON", "/_bulk", times=3)
    with pytest.raises(RetryLater):
        await index.index(documents(repository(1)))


async def test_a_server_that_never_answers_is_given_up(index: PromptIndex, proxy: Proxy, database: Database) -> None:
    settings = index.settings.model_copy(update={"timeout_seconds": 0.2})
    held = [proxy.hold() for _ in range(1)]
    held[0].times = 3
    with anyio.fail_after(HANGS), pytest.raises(RetryLater, match="cannot be reached"):
        await PromptIndex(settings, database).index(documents(repository(1)))
    held[0].let_go.set()


@pytest.mark.slow
async def test_elasticsearch_is_away_for_ten_minutes_while_5000_repositories_are_found(
    tmp_path: Path,
    database: Database,
    make_daemon: Callable[..., Daemon],
    short_pauses: None,
    logged: Logged,
) -> None:
    """Time is compressed: what waits comes again a hundred times as soon, and so ten minutes are six seconds."""
    judged: list[str] = []

    async def judge(event: RepoDiscovered, context: HandlerContext) -> None:
        judged.append(event.repository_id)

    judging = make_plugin(subscriptions=[Subscription(name="judge", events=(RepoDiscovered,), handler=judge)])
    log = EventLog(database)
    with Server(tmp_path) as server:
        index = PromptIndex(settings_for(server), database)
        await log.publish_all([Entry(event=discovered(number)) for number in range(100)])
        daemon = make_daemon(
            {"search": codelupe_search, "judging": judging},
            settings_of(index),
            until_idle=False,
            search_index="elasticsearch",
        )
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            await _until(lambda: _handled(database, 100))
            server.stop()
            for start in range(100, 5100, 100):
                await log.publish_all([Entry(event=discovered(number)) for number in range(start, start + 100)])
                await anyio.sleep(6 / 50)
            await _until(lambda: _is(len(judged) == 5100))
            assert await _handled(database, 101) is False, "nothing reaches an index that is away"
            server.start()
            await _until(lambda: _handled(database, 5100))
            os.kill(os.getpid(), signal.SIGTERM)
        assert await dead_letters(database) == {}
        assert await database.fetchval("select count(*) from tasks where subscription = 'search.index'") == 0
        stored = await index.stored()
    assert sorted(stored) == sorted(f"test:{number}" for number in range(5100))
    [waits] = [one for one in logged.records("retry_later") if one["log_level"] == "warning"]
    assert "cannot be reached" in waits["reason"]


async def _handled(database: Database, events: int) -> bool:
    found = await database.fetchval("select delivered >= $1 from subscriptions where name = 'search.index'", events)
    return bool(found)


async def _is(value: bool) -> bool:
    return value


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(HANGS):
        while not await condition():
            await anyio.sleep(0.02)


# --- a wrong setup ---


async def wrong(action: Callable[[], Awaitable[object]], *words: str) -> None:
    """It fails so that a handler waits, uncounted, and a command ends; both say these words, and what to do."""
    with pytest.raises(ElasticsearchSetupWrong) as caught:
        await action()
    error = caught.value
    assert isinstance(error, RetryLater)
    assert isinstance(error, CodelupeError)
    assert not error.counts
    assert error.hint
    assert [word for word in words if word not in str(error)] == []


async def test_a_server_of_another_major_version(index: PromptIndex, proxy: Proxy) -> None:
    reason = "Invalid media-type value on headers [Accept]: Accept version must be either version 8 or 7, but found 9"
    error = {"type": "media_type_header_exception", "reason": reason}
    proxy.say(400, msgspec.json.encode({"error": {**error, "root_cause": [error]}, "status": 400}), times=2)
    await wrong(lambda: index.index(documents(repository(1))), "another major version", "which is 9.", "but found 9")
    await wrong(lambda: index.reindex(print), "another major version", proxy.url)


async def test_a_server_that_is_not_elasticsearch(index: PromptIndex, proxy: Proxy) -> None:
    proxy.say(200, b'{"version": {"distribution": "opensearch"}}', product="")
    await wrong(lambda: index.index(documents(repository(1))), "is not Elasticsearch", proxy.url)


@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_that_are_refused(index: PromptIndex, proxy: Proxy, status: int) -> None:
    error = {"type": "security_exception", "reason": "unable to authenticate user [codelupe]"}
    proxy.say(status, msgspec.json.encode({"error": error, "status": status}))
    await wrong(lambda: index.index(documents(repository(1))), "refuses the credentials", "unable to authenticate")


async def test_an_index_in_the_place_of_the_alias(elasticsearch_server: Server, database: Database) -> None:
    index = PromptIndex(settings_for(elasticsearch_server), database)
    async with AsyncElasticsearch([elasticsearch_server.url]) as client:
        await client.indices.create(index=index.settings.alias)
    for action in (lambda: index.index(documents(repository(1))), lambda: index.reindex(print)):
        await wrong(action, f"{index.settings.alias} is an index, where an alias belongs", "Delete it")
    await wrong(lambda: index.search("owner", 1), "where an alias belongs")


async def test_an_alias_that_leads_to_two_indexes(index: PromptIndex, elasticsearch_server: Server) -> None:
    async with AsyncElasticsearch([elasticsearch_server.url]) as client:
        await client.indices.create(index=f"other-{index.settings.alias}", aliases={index.settings.alias: {}})
    await wrong(lambda: index.index(documents(repository(1))), "leads to", f"{index.settings.alias}-v000001")


async def test_an_index_with_another_mapping(elasticsearch_server: Server, database: Database) -> None:
    """Nothing becomes a dead letter of it, and a new index is built in its place."""
    index = PromptIndex(settings_for(elasticsearch_server), database)
    mappings = {"properties": {"stars": {"type": "text"}, "full_name": {"type": "keyword"}}}
    theirs = f"theirs-{index.settings.alias}"
    async with AsyncElasticsearch([elasticsearch_server.url]) as client:
        await client.indices.create(index=theirs, aliases={index.settings.alias: {}}, mappings=mappings)
        await wrong(lambda: index.index(documents(repository(1))), theirs, "differs in", "codelupe search reindex")
        await wrong(lambda: index.search("owner", 1), theirs)
        await index.reindex(lambda position, end: None)
        await index.index(documents(repository(1)))
        assert len(await index.search("owner", 10)) == 1
        assert await client.indices.exists(index=theirs), "what is not ours is not deleted"


async def test_an_index_of_an_older_version_of_the_code_waits_for_a_reindex(
    index: PromptIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "MAPPING_VERSION", 2)
    await wrong(lambda: index.index(documents(repository(1))), "has the mapping 1, not 2", "codelupe search reindex")
    await index.reindex(lambda position, end: None)
    await index.index(documents(repository(1)))


async def test_no_index_yet(elasticsearch_server: Server, database: Database) -> None:
    index = PromptIndex(settings_for(elasticsearch_server), database)
    with pytest.raises(NoIndex, match=r"there is no index test-.*\n.*codelupe search reindex"):
        await index.search("owner", 1)


async def test_a_missing_client(index: PromptIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "elasticsearch", None)
    await wrong(lambda: index.index(documents(repository(1))), "not installed", "pip install 'codelupe[elasticsearch]'")


# --- credentials ---


@pytest.mark.parametrize(
    "credentials", [{"api_key": "planted-secret"}, {"username": "codelupe", "password": "planted-secret"}]
)
async def test_credentials_are_sent_and_said_nowhere(
    index: PromptIndex, proxy: Proxy, database: Database, credentials: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ElasticsearchSettings.model_validate({**index.settings.model_dump(), **credentials})
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        await PromptIndex(settings, database).index(documents(repository(1)))
        proxy.say(401, b'{"error": {"type": "security_exception", "reason": "no"}}')
        proxy.cut(after_the_server_took_it=False, times=100)
        for _ in range(2):
            with pytest.raises(RetryLater) as caught:
                await PromptIndex(settings, database).index(documents(repository(1)))
            written.write(repr(caught.value) + str(caught.value))
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    sent = {headers["authorization"].partition(" ")[0] for headers in proxy.headers if "authorization" in headers}
    assert sent == {"ApiKey" if "api_key" in credentials else "Basic"}
    everything = written.getvalue() + repr(settings) + "".join(capfd.readouterr())
    assert "planted-secret" not in everything
    assert "Y29kZWx1cGU6" not in everything, "not encoded, either"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"urls": ["https://me:planted-secret@host:9200"]}, "holds credentials"),
        ({"urls": ["localhost:9200"]}, "is no address"),
        ({"urls": []}, "at least 1"),
        ({"alias": "Upper"}, "pattern"),
        ({"alias": "a,b"}, "pattern"),
        ({"username": "me"}, "belong together"),
        ({"api_key": "k", "username": "me", "password": "planted-secret"}, "not both"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ElasticsearchSettings.model_validate(values)

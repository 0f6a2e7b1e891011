"""Requests as they leave, and what becomes of answers that are none."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import anyio
import httpx2
import pytest
from pydantic import SecretStr, ValidationError

from codelupe import RetryLater, Slice
from codelupe.observability.redaction import redact
from codelupe_crawler.github import client as client_module
from codelupe_crawler.github.client import GitHubClient, GitHubFailed, decoded, said
from codelupe_crawler.github.settings import GitHubSettings
from codelupe_crawler.github.source import ANONYMOUS, GitHubSource
from tests.logged import Logged
from tests.simulated_github.client import simulated
from tests.simulated_github.github import Request
from tests.source_context import FakeContext

pytestmark = pytest.mark.anyio

TOKEN, OTHER = "ghp_planted_one", "ghp_planted_other"
Respond = Callable[[httpx2.Request], httpx2.Response]
MINUTE = timedelta(minutes=1)
LOGINS: list[Any] = [None, "", 7, [], "a\0b", "a" * 101]


class Server(httpx2.AsyncBaseTransport):
    """Answers by the functions it is given, the last one again and again."""

    def __init__(self, *answers: Respond | httpx2.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        answer = answer if isinstance(answer, httpx2.Response) else answer(request)
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content, request=request)


def answer(status: int = 200, body: Any = None, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json={} if body is None else body, headers=named)


def client_of(
    server: httpx2.AsyncBaseTransport, context: FakeContext, *tokens: str, in_a_row: Counter[str] | None = None
) -> GitHubClient:
    async def refuse(token: str) -> None:
        await context.remember(token, "refused")

    http = httpx2.AsyncClient(transport=server, base_url="https://api.github.com")
    return GitHubClient(http, "ann", tokens, context, refuse, Counter() if in_a_row is None else in_a_row)


def source_of(server: httpx2.AsyncBaseTransport, *tokens: str, **settings: Any) -> GitHubSource:
    return GitHubSource(
        GitHubSettings(tokens=tuple(map(SecretStr, tokens)), **settings), lambda *_: (), transport=server
    )


async def wait_of(call: Awaitable[object]) -> timedelta:
    with pytest.raises(RetryLater) as raised:
        await call
    return raised.value.after


async def test_each_request_says_who_asks_and_for_which_version() -> None:
    server, context = Server(answer(body={"login": "ann"})), FakeContext()
    assert await source_of(server, TOKEN, contact="ops@example.org").accounts(context) == ["ann"]
    [request] = server.requests
    assert request.headers["user-agent"] == "CodeLupe (ops@example.org)"
    assert request.headers["x-github-api-version"] == "2022-11-28"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert "application/vnd.github+json" in request.headers["accept"]
    assert [kind for _, kind, _ in context.taken] == ["core"]


async def test_a_search_asks_for_full_pages_in_an_order_that_stands() -> None:
    server, context = Server(answer(body={"total_count": 0, "incomplete_results": False, "items": []})), FakeContext()
    async with source_of(server).open(ANONYMOUS, context) as session:
        await session.ask(Slice(query="language:Go created:2020-01-01T00:00:00Z..2020-01-02T00:00:00Z"), "3")
    assert dict(server.requests[0].url.params) == {
        "q": "language:Go created:2020-01-01T00:00:00Z..2020-01-02T00:00:00Z",
        "sort": "updated",
        "order": "desc",
        "per_page": "100",
        "page": "3",
    }


async def test_waits_grow_for_an_account_whatever_client_makes_its_requests() -> None:
    context, in_a_row = FakeContext(), Counter[str]()
    waits = []
    for _ in range(9):
        client = client_of(Server(answer(429)), context, TOKEN, in_a_row=in_a_row)
        waits.append(await wait_of(client.get("search", "/search/repositories")))
    assert waits == [*(MINUTE * 2**n for n in range(6)), *[timedelta(hours=1)] * 3]
    assert [duration for _, kind, duration in context.closed if kind == ""] == waits
    await client_of(Server(answer()), context, TOKEN, in_a_row=in_a_row).get("core", "/user")
    client = client_of(Server(answer(429)), context, TOKEN, in_a_row=in_a_row)
    assert await wait_of(client.get("core", "/user")) == MINUTE


async def test_many_limits_in_a_row_are_an_error_that_says_so(logged: Logged) -> None:
    client = client_of(Server(answer(429)), FakeContext(), TOKEN)
    for _ in range(7):
        await wait_of(client.get("core", "/user"))
    assert [record["log_level"] for record in logged.records("source_limits")] == ["info"] * 5 + ["error"] * 2
    assert not any(TOKEN in str(record) for record in logged.records("source_limits"))


@pytest.mark.parametrize(
    "error", [httpx2.ConnectError("refused"), httpx2.ConnectTimeout("slow"), httpx2.ProxyError("502")]
)
async def test_while_github_cannot_be_reached_it_waits_ever_longer_up_to_an_hour(error: Exception) -> None:
    client = client_of(Server(error), FakeContext(), TOKEN)
    waits = [await wait_of(client.get("core", "/user")) for _ in range(100)]
    assert waits[:4] == [timedelta(seconds=each) for each in (10, 20, 40, 80)]
    assert waits[-1] == timedelta(hours=1)


@pytest.mark.parametrize(
    "answered",
    [
        *(httpx2.ReadError("reset"), httpx2.RemoteProtocolError("cut"), httpx2.ReadTimeout("slow")),
        *(httpx2.Response(status, content=b"<html>Unicorn!</html>") for status in (500, 502, 503, 504)),
        httpx2.Response(200, content=b"<html>"),
        httpx2.Response(200, content=b'{"data": {"c0": {"repositoryCount"'),
        answer(200, {"errors": [{"message": "Something went wrong"}]}),
        answer(200, {"data": None}),
        answer(200, []),
        answer(400, {"message": "Problems parsing JSON"}),
        httpx2.Response(200, content=b"[" * 1_000_000),
        httpx2.Response(200, content=b'{"data": NaN, "errors": ' + b"[" * 1_000_000),
        httpx2.Response(200, content=b"[" + b"9" * 5_000 + b"]"),
        httpx2.Response(200, content=gzip.compress(b" " * (33 << 20)), headers={"content-encoding": "gzip"}),
    ],
    ids=str,
)
async def test_what_is_no_answer_is_a_failure_that_is_asked_again(answered: httpx2.Response | Exception) -> None:
    context = FakeContext()
    with pytest.raises(GitHubFailed):
        await client_of(Server(answered), context, TOKEN).graphql("query { viewer { login } }", {})
    assert not context.closed


class Endless(httpx2.AsyncByteStream):
    """An answer that comes on and on, or that never goes on."""

    def __init__(self, portion: bytes) -> None:
        self._portion = portion

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield self._portion
            await anyio.sleep(0 if self._portion else 60)


class EndlessServer(httpx2.AsyncBaseTransport):
    def __init__(self, portion: bytes) -> None:
        self._portion = portion

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=Endless(self._portion), request=request)


@pytest.mark.parametrize(
    ("portion", "reason"), [(b" " * 1_000_000, "more than 32 MiB"), (b"", "did not come within")], ids=["large", "slow"]
)
async def test_an_answer_that_never_ends_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, portion: bytes, reason: str
) -> None:
    if not portion:
        monkeypatch.setattr(client_module, "_LONGEST_EXCHANGE", timedelta(milliseconds=10))
    with pytest.raises(GitHubFailed, match=reason):
        await client_of(EndlessServer(portion), FakeContext(), TOKEN).get("core", "/user")


@pytest.mark.parametrize(
    "odd", [r'"\ud800"', r'"\udfff and \u0000"', "1e999", "NaN", "9" * 400, "-Infinity"], ids=lambda text: text[:20]
)
def test_one_odd_value_does_not_spoil_an_answer(odd: str) -> None:
    response = httpx2.Response(200, content=f'{{"items": [{{"a": {odd}}}, {{"b": 5}}]}}'.encode())
    assert decoded(response)["items"][1] == {"b": 5}


async def test_a_limit_is_kept_whatever_its_message_holds() -> None:
    """Postgres, which keeps the reason of a wait, holds neither NUL nor lone surrogates."""
    message = "You have exceeded a secondary rate limit \0 \ud800"
    context = FakeContext()
    server = Server(httpx2.Response(403, content=json.dumps({"message": message}).encode()))
    with pytest.raises(RetryLater) as raised:
        await client_of(server, context, TOKEN).get("core", "/user")
    assert context.closed == [("ann", "", MINUTE)]
    assert "\0" not in str(raised.value)
    str(raised.value).encode()


async def test_a_redirection_is_followed_and_the_new_name_is_what_comes() -> None:
    real = simulated()
    former = real.github.world.name_of(1)
    real.github.world.rename(1, "new/name")

    def respond(request: httpx2.Request) -> httpx2.Response:
        told = real.github.handle(Request(request.method, str(request.url), dict(request.headers.items())))
        return httpx2.Response(told.status, headers=dict(told.headers), content=told.body)

    context = FakeContext()
    response = await client_of(Server(respond), context, "a1").get("core", f"/repos/{former}")
    assert (response.status_code, response.json()["full_name"]) == (200, "new/name")
    assert len(context.taken) == 2


@pytest.mark.parametrize(
    "location", ["https://evil.example/user", "http://api.github.com/user", "https://api.github.com:444/user"]
)
async def test_a_redirection_leads_no_token_to_another_place(location: str) -> None:
    server = Server(answer(301, {"message": "Moved"}, location=location))
    response = await client_of(server, FakeContext(), TOKEN).get("core", "/repos/a/b")
    assert response.status_code == 301
    assert len(server.requests) == 1


async def test_redirections_in_a_circle_come_to_an_end() -> None:
    server = Server(answer(301, {"message": "Moved"}, location="/repos/a/b"))
    response = await client_of(server, FakeContext(), TOKEN).get("core", "/repos/a/b")
    assert response.status_code == 301
    assert len(server.requests) == 4


async def test_a_used_up_quota_is_waited_for_beside_the_limit_that_came_with_it() -> None:
    context = FakeContext()
    reset = str(int((context.time + timedelta(minutes=40)).timestamp()))
    headers = {"retry_after": "5", "x_ratelimit_remaining": "0", "x_ratelimit_reset": reset}
    wait = await wait_of(client_of(Server(answer(403, **headers)), context, TOKEN).get("core", "/user"))
    assert wait == timedelta(seconds=6)
    assert [(kind, duration > 30 * MINUTE) for _, kind, duration in context.closed] == [("core", True), ("", False)]


async def test_a_refused_token_is_not_used_again_and_the_next_one_is() -> None:
    server, context = Server(answer(401, {"message": "Bad credentials"}), answer()), FakeContext()
    client = client_of(server, context, TOKEN, OTHER)
    assert await wait_of(client.get("core", "/user")) == timedelta(0)
    await client.get("core", "/user")
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {TOKEN}", f"Bearer {OTHER}"]
    assert context.notes == {TOKEN: "refused"}


@pytest.mark.parametrize("token", ["", " ", "ghp_planted\n", "ghp planted", "ghp_pl\xe4nted", "ghp_planted\0"])
def test_what_cannot_be_a_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValidationError, match="token 2 holds") as raised:
        GitHubSettings(tokens=(SecretStr(TOKEN), SecretStr(token)))
    assert "planted" not in str(raised.value)


async def test_a_token_that_cannot_be_sent_is_in_no_error() -> None:
    """As h11 has it."""
    server = Server(httpx2.LocalProtocolError(f"Illegal header value b'Bearer {TOKEN}'"))
    with pytest.raises(GitHubFailed) as raised:
        await client_of(server, FakeContext(), TOKEN).get("core", "/user")
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("api_url", url) for url in ("", "api.github.com", "http://ghe.example", "ftp://ghe.example", "https://")),
        *(("languages", (language,)) for language in ("", " ", 'Go" stars:0', "Go\n")),
    ],
)
def test_settings_that_would_ask_for_something_else_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        GitHubSettings(**{name: value})


# --- whose a token is ---


@pytest.mark.parametrize("encoded", [False, True])
async def test_a_token_that_an_answer_repeats_is_left_out(*, encoded: bool) -> None:
    def repeat(request: httpx2.Request) -> httpx2.Response:
        text = f'{{"message": "not for {request.headers["authorization"]}"}}'.encode()
        if encoded:
            return httpx2.Response(404, headers={"content-encoding": "gzip"}, content=gzip.compress(text))
        return httpx2.Response(404, content=text)

    response = await client_of(httpx2.MockTransport(repeat), FakeContext(), TOKEN).get("core", "/repositories/1")
    assert (response.status_code, said(response)) == (404, {"message": "not for Bearer ***"})


@pytest.mark.parametrize("token", ["ghp_planted\u200b", "\ufeffghp_planted", "ghp planted", "ghp_planted\x01"])
def test_what_came_along_when_a_token_was_copied_is_told_without_the_token(token: str) -> None:
    with pytest.raises(ValidationError) as raised:
        GitHubSettings(tokens=(SecretStr("ghp_planted"), SecretStr(token)))
    assert "token 2 holds a character that no token has" in str(raised.value)
    assert "planted" not in str(raised.value)


async def test_each_token_is_asked_once_and_those_of_one_account_go_together() -> None:
    server, context = Server(answer(body={"login": "ann"}), answer(body={"login": "ann"})), FakeContext()
    for _ in range(2):
        assert await source_of(server, TOKEN, OTHER, TOKEN).accounts(context) == ["ann"]
    assert len(server.requests) == 2
    assert not any(TOKEN in text or OTHER in text for note in context.notes.items() for text in note)


@pytest.mark.parametrize(
    "answered",
    [
        *(httpx2.ConnectError("down"), httpx2.ReadError("reset"), answer(502), httpx2.Response(200, content=b"<html>")),
        *(answer(403, {"message": "You have exceeded a secondary rate limit"}), answer(429), answer(200, [])),
        *(answer(200, {"message": "Server Error"}), answer(404, {"message": "Not Found"})),
        *(answer(200, {"login": login}) for login in LOGINS),
    ],
)
async def test_when_it_cannot_be_told_whose_a_token_is_the_crawl_waits(answered: httpx2.Response | Exception) -> None:
    context = FakeContext()
    source = source_of(Server(answered, answer(body={"login": "ann"})), TOKEN)
    assert timedelta(0) < await wait_of(source.accounts(context)) <= MINUTE
    assert await source.accounts(context) == ["ann"]


async def test_a_token_that_is_refused_at_first_leaves_the_others(logged: Logged) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        is_good = request.headers["authorization"] == f"Bearer {OTHER}"
        return answer(body={"login": "bob"}) if is_good else answer(401, {"message": "Bad credentials"})

    source, context = source_of(Server(respond), TOKEN, OTHER), FakeContext()
    assert await wait_of(source.accounts(context)) == timedelta(0)
    assert await source.accounts(context) == ["bob"]
    [refused] = logged.records("token_refused")
    assert redact(None, "error", dict(refused))["fingerprint"] == sha256(TOKEN.encode()).hexdigest()[:12]
    assert not any(TOKEN in str(each) for each in logged.records("token_refused"))
    for _ in range(2):
        assert await source.accounts(context) == ["bob"]
    assert await source_of(Server(respond), TOKEN, OTHER).accounts(context) == ["bob"]
    assert logged.count("token_refused") == 2, "once in each process"


async def test_without_a_token_it_is_said_once(logged: Logged) -> None:
    source, context = source_of(Server(answer())), FakeContext()
    for _ in range(3):
        assert await source.accounts(context) == [ANONYMOUS]
    assert logged.count("no_token", log_level="warning") == 1

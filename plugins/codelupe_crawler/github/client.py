"""Requests to GitHub on behalf of one account: paced, one at a time, and none while it limits them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

import anyio
import httpx2
import msgspec

from codelupe import CodelupeError, RetryLater, SourceContext, storable
from codelupe_crawler.github.limits import LONGEST, Limit, limit_of, renewal_of, used_up

API_VERSION = "2022-11-28"
ACCEPT = "application/vnd.github+json, application/json;q=0.9"
_OF_THE_CONTENT = ("content-encoding", "content-length", "transfer-encoding")
_TOKEN_REFUSED = 401
_MOST_REDIRECTIONS = 3
_LONGEST_TEXT = 10_000
"""Of an answer that is not JSON, read for what it says of limits."""
_LONGEST_EXCHANGE = timedelta(minutes=1)
"""From a request to the end of its answer; GitHub itself gives up after ten seconds."""
_LARGEST_ANSWER = 32 << 20
"""In bytes, unpacked: a hundred repositories take less than one of it."""
_AWAY = timedelta(seconds=10)
"""How long to wait when GitHub cannot be reached."""
_MOST_DOUBLINGS = 10
_MANY_IN_A_ROW = 5
"""More limits than that are an error for people."""
SPACING = {
    True: {"search": timedelta(seconds=60 / 29.5), "core": timedelta(seconds=0.75), "graphql": timedelta(seconds=0.75)},
    False: {"search": timedelta(seconds=60 / 9.8), "core": timedelta(seconds=61)},
}
"""With and without a token: 30 or 10 searches a minute, 5,000 or 60 other requests an hour; a little less is asked."""


class GitHubFailed(CodelupeError):
    """GitHub answered what is of no use; asking again may help. ``status`` is None where no answer came whole."""

    code = "github-failed"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(storable(message))
        self.status = status


class GitHubClient:
    """One account's way to the API. Its tokens share the account's limits, so one is used as long as it works."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        account: str,
        tokens: Sequence[str],
        context: SourceContext,
        refuse: Callable[[str], Awaitable[None]],
        in_a_row: Counter[str],
    ) -> None:
        """``in_a_row`` counts, for each account, the limits that came since it was last served."""
        self._http = http
        self._account = account
        self._tokens = list(tokens)
        self._context = context
        self._refuse = refuse
        self._in_a_row = in_a_row
        self._renewals: dict[str, datetime] = {}

    @property
    def has_token(self) -> bool:
        return bool(self._tokens)

    async def get(self, kind: str, path: str, params: Mapping[str, str | int] | None = None) -> httpx2.Response:
        """The answer, unless it is a limit or a failure of GitHub's own; redirections within GitHub are followed."""
        response = await self._send(kind, "GET", path, params=params)
        for _ in range(_MOST_REDIRECTIONS):
            if response.next_request is None or not _is_same_origin(response.next_request.url, response.request.url):
                break
            response = await self._send(kind, "GET", str(response.next_request.url))
        return response

    async def graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The answer with its ``data``, which may have gaps, and ``errors``."""
        response = await self._send("graphql", "POST", "/graphql", json={"query": query, "variables": variables})
        body = decoded(response)
        if not isinstance(body, dict) or not isinstance(body.get("data"), dict):
            raise GitHubFailed(f"GraphQL answered without data: {_shown(body)}", response.status_code)
        return body

    async def _send(self, kind: str, method: str, path: str, **content: Any) -> httpx2.Response:
        """Make one request when it is its turn.

        Raises:
            RetryLater: GitHub limits, cannot be reached, or has refused a token.
            GitHubFailed: the answer did not come whole, or is an error of GitHub's own.
        """
        budget = self._context.budget(self._account, kind)
        await budget.take(SPACING[self.has_token][kind])
        headers = {"authorization": f"Bearer {self._tokens[0]}"} if self._tokens else {}
        try:
            response = await self._exchange(method, path, headers=headers, **content)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            reason = f"GitHub cannot be reached: {error}"
            await self._wait(kind, Limit(_AWAY, reason, of_account=True, is_stated=False))
        except httpx2.LocalProtocolError:
            raise GitHubFailed("the request cannot be made; the token may not be one") from None  # the error shows it
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise GitHubFailed(f"the answer did not come whole: {type(error).__name__}: {error}") from None
        except TimeoutError:
            raise GitHubFailed(f"the answer did not come within {_LONGEST_EXCHANGE.seconds} seconds") from None
        response = _without(response, self._tokens)
        if response.status_code == _TOKEN_REFUSED and self._tokens:
            await self._refuse(self._tokens.pop(0))
            raise RetryLater("GitHub has refused the token", after=timedelta(0), counts=False)
        now, renewed_at = self._context.now(), self._renewals.get(kind)
        if limit := used_up(response.headers, now, renewed_at):
            await budget.close(limit.wait, limit.reason)
        if limit := limit_of(response.status_code, response.headers, said(response), now, renewed_at):
            await self._wait(kind, limit)
        if (renewal := renewal_of(response.headers, now)) is not None:
            self._renewals[kind] = renewal
        self._in_a_row[self._account] = 0
        if response.status_code >= 500:
            raise GitHubFailed(f"HTTP {response.status_code}", response.status_code)
        return response

    async def _exchange(self, method: str, path: str, **content: Any) -> httpx2.Response:
        """The whole answer.

        Raises:
            GitHubFailed: it is too large.
        """
        body = bytearray()
        with anyio.fail_after(_LONGEST_EXCHANGE.total_seconds()):
            async with self._http.stream(method, path, **content) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _LARGEST_ANSWER:
                        raise GitHubFailed(f"the answer has more than {_LARGEST_ANSWER >> 20} MiB")
        headers = [(name, value) for name, value in response.headers.multi_items() if name != "content-encoding"]
        whole = httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)
        whole.next_request = response.next_request
        return whole

    async def _wait(self, kind: str, limit: Limit) -> NoReturn:
        """Make no request for so long; where that is not stated, for twice as long each time in a row."""
        self._in_a_row[self._account] += 1
        in_a_row = self._in_a_row[self._account]
        wait = limit.wait if limit.is_stated else min(LONGEST, limit.wait * 2 ** min(in_a_row - 1, _MOST_DOUBLINGS))
        await self._context.budget(self._account, kind).close(wait, limit.reason, account=limit.of_account)
        log = self._context.log
        (log.error if in_a_row > _MANY_IN_A_ROW else log.info)(
            "source_limits",
            account=self._account,
            kind=kind,
            reason=limit.reason,
            wait_seconds=round(wait.total_seconds()),
            in_a_row=in_a_row,
        )
        raise RetryLater(limit.reason, after=wait, counts=False)


def _without(response: httpx2.Response, tokens: Sequence[str]) -> httpx2.Response:
    """The answer, without a token that it repeats: what is said is logged and recorded."""
    content = response.content
    for token in tokens:
        content = content.replace(token.encode(), b"***")
    if content == response.content:
        return response
    headers = {name: value for name, value in response.headers.items() if name not in _OF_THE_CONTENT}
    without = httpx2.Response(response.status_code, headers=headers, content=content, request=response.request)
    without.next_request = response.next_request
    return without


def _is_same_origin(one: httpx2.URL, other: httpx2.URL) -> bool:
    """Whether what is told to the one may be told to the other."""
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)


def decoded(response: httpx2.Response) -> Any:
    """The body of a good answer.

    Raises:
        GitHubFailed: it is not JSON.
    """
    try:
        return _read(response.content)
    except ValueError:
        raise GitHubFailed(
            f"HTTP {response.status_code} with {response.headers.get('content-type', 'something')}, which is not JSON",
            response.status_code,
        ) from None


def said(response: httpx2.Response) -> Any:
    """The body of any answer, as text where it is not JSON."""
    try:
        return _read(response.content)
    except ValueError:
        return response.content[:_LONGEST_TEXT].decode(errors="replace")


def _read(content: bytes) -> Any:
    """The content of JSON; one item's lone surrogates or endless numbers do not spoil all the others.

    Raises:
        ValueError: it is none, or it is nested too deeply.
    """
    try:
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError:
            return json.loads(content)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _shown(body: Any) -> str:
    errors = body.get("errors") if isinstance(body, dict) else None
    return str(errors or body)[:300]

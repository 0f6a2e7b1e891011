"""Requests to GitHub on behalf of one account: paced, one at a time, and none while it limits them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx2
import msgspec

from codelupe import CodelupeError, RetryLater, SourceContext
from codelupe_crawler.github.limits import LONGEST, Limit, limit_of, used_up

API_VERSION = "2022-11-28"
ACCEPT = "application/vnd.github+json, application/json;q=0.9"
_TOKEN_REFUSED = 401
_AWAY = timedelta(seconds=10)
"""How long to wait when GitHub cannot be reached; each time in a row for twice as long."""
SPACING = {
    True: {"search": timedelta(seconds=60 / 29.5), "core": timedelta(seconds=0.75), "graphql": timedelta(seconds=0.75)},
    False: {"search": timedelta(seconds=60 / 9.8), "core": timedelta(seconds=61)},
}
"""With and without a token: 30 or 10 searches a minute, 5,000 or 60 other requests an hour; a little less is asked."""


class GitHubFailed(CodelupeError):
    """GitHub answered what is of no use; asking again may help. ``status`` is None where no answer came whole."""

    code = "github-failed"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
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
    ) -> None:
        self._http = http
        self._account = account
        self._tokens = list(tokens)
        self._context = context
        self._refuse = refuse
        self._limited = 0

    @property
    def has_token(self) -> bool:
        return bool(self._tokens)

    async def get(self, kind: str, path: str, params: Mapping[str, str | int] | None = None) -> httpx2.Response:
        """The answer, unless it is a limit or a failure of GitHub's own; a redirection is followed."""
        response = await self._send(kind, "GET", path, params=params)
        if response.next_request is not None and response.next_request.url.host == response.request.url.host:
            return await self._send(kind, "GET", str(response.next_request.url))
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
            response = await self._http.request(method, path, headers=headers, **content)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            self._limited += 1
            wait = min(LONGEST, _AWAY * 2 ** (self._limited - 1))
            await self._wait(kind, Limit(wait, f"GitHub cannot be reached: {error}", of_account=True, is_stated=True))
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise GitHubFailed(f"the answer did not come whole: {type(error).__name__}: {error}") from None
        if response.status_code == _TOKEN_REFUSED and self._tokens:
            await self._refuse(self._tokens.pop(0))
            raise RetryLater("GitHub has refused the token", after=timedelta(0), counts=False)
        if limit := limit_of(response.status_code, response.headers, _body(response), self._context.now()):
            await self._wait(kind, self._grown(limit))
        self._limited = 0
        if limit := used_up(response.headers, self._context.now()):
            await budget.close(limit.wait, limit.reason)
        if response.status_code >= 500:
            raise GitHubFailed(f"HTTP {response.status_code}", response.status_code)
        return response

    def _grown(self, limit: Limit) -> Limit:
        """What is not stated waits for twice as long each time in a row."""
        self._limited += 1
        if limit.is_stated:
            return limit
        wait = min(LONGEST, limit.wait * 2 ** (self._limited - 1))
        return Limit(wait, limit.reason, limit.of_account, limit.is_stated)

    async def _wait(self, kind: str, limit: Limit) -> None:
        await self._context.budget(self._account, kind).close(limit.wait, limit.reason, account=limit.of_account)
        log = self._context.log
        (log.error if self._limited > 5 else log.info)(
            "source_limits",
            account=self._account,
            kind=kind,
            reason=limit.reason,
            wait_seconds=round(limit.wait.total_seconds()),
            in_a_row=self._limited,
        )
        raise RetryLater(limit.reason, after=limit.wait, counts=False)


def decoded(response: httpx2.Response) -> Any:
    """The body of a good answer.

    Raises:
        GitHubFailed: it is not JSON.
    """
    try:
        return msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        raise GitHubFailed(
            f"HTTP {response.status_code} with {response.headers.get('content-type', 'something')}, which is not JSON",
            response.status_code,
        ) from None


def _body(response: httpx2.Response) -> Any:
    try:
        return msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return None


def _shown(body: Any) -> str:
    errors = body.get("errors") if isinstance(body, dict) else None
    return str(errors or body)[:300]

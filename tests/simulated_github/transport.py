"""The simulated GitHub within the process, as a transport of httpx2."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from tests.simulated_github.clock import FakeClock
from tests.simulated_github.github import Answer, Exchange, Request, SimulatedGitHub


class SimulatedTransport(httpx2.AsyncBaseTransport):
    """For ``httpx2.AsyncClient(transport=…)``; an answer takes its time by the clock."""

    def __init__(self, github: SimulatedGitHub, clock: FakeClock) -> None:
        self._github = github
        self._clock = clock

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._clock.act()
        body = await request.aread()
        exchange = self._github.open(Request(request.method, str(request.url), dict(request.headers.items()), body))
        try:
            await self._clock.sleep(exchange.seconds)
        finally:
            self._github.close(exchange)
        self._clock.act()
        return _response(exchange, request)


def _response(exchange: Exchange, request: httpx2.Request) -> httpx2.Response:
    answer = exchange.answer
    if answer.cut == "reset":
        raise httpx2.ReadError("Connection reset by peer", request=request)
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    return httpx2.Response(answer.status, headers=headers, stream=_Body(answer), request=request)


class _Body(httpx2.AsyncByteStream):
    """As it comes over a connection: whole, or cut off with the error that h11 raises."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = self._answer.body
        if self._answer.cut is None:
            yield body
            return
        half = len(body) // 2
        yield body[:half]
        message = "peer closed connection without sending complete message body"
        raise httpx2.RemoteProtocolError(f"{message} (received {half} bytes, expected {len(body)})")

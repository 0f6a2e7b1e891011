"""Fetching from package indexes the way pip is configured to: over HTTP, or from files of this machine."""

from __future__ import annotations

import ipaddress
import netrc
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread
import httpx2

from codelupe_crawler.registries.pip_configuration import PipConfiguration, host_of
from codelupe_crawler.registries.release import NoSource, RegistryFailed, RegistryLimits, Withdrawn

_GONE = {404, 410}
_WAITS = {429, 503}
_DEFAULT_WAIT = timedelta(minutes=1)
_LONGEST_WAIT = timedelta(hours=1)
_USER_AGENT = "codelupe"


@dataclass(frozen=True)
class Answer:
    """What lies at an address; ``url`` is where it was found in the end."""

    content: bytes
    content_type: str
    url: str


class Fetcher:
    """Fetches as pip would. Errors name the host alone, for an address may hold a secret."""

    def __init__(self, configuration: PipConfiguration, within: float) -> None:
        self._configuration = configuration
        self._within = within
        self._netrc = _netrc()
        self._clients: dict[bool, httpx2.AsyncClient] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def get(self, url: str, *, limit: int, accept: str = "*/*") -> Answer | None:
        """What lies there, at most ``limit`` bytes; None if nothing does.

        Raises:
            NoSource: it is larger.
            Withdrawn: it is blocked for legal reasons.
            RegistryLimits: the host wants to be left alone.
            RegistryFailed: the host cannot be asked, or answers with an error.
        """
        if urlsplit(url).scheme == "file":
            return await anyio.to_thread.run_sync(_read_file, url, limit)
        async with self._ask("GET", url, accept) as response:
            if response.status_code in _GONE:
                return None
            _check(response)
            content = bytearray()
            async for chunk in response.aiter_bytes(1 << 16):
                content += chunk
                if len(content) > limit:
                    raise NoSource(f"{host_of(url)} sends more than {limit >> 20} MiB")
            return Answer(bytes(content), response.headers.get("content-type", ""), str(response.url))

    async def exists(self, url: str) -> bool:
        """Whether anything lies there. Raises what :meth:`get` does."""
        if urlsplit(url).scheme == "file":
            return await anyio.Path(_path(url)).exists()
        async with self._ask("HEAD", url, "*/*") as response:
            if response.status_code not in _GONE:
                _check(response)
            return response.status_code not in _GONE

    @asynccontextmanager
    async def _ask(self, method: str, url: str, accept: str) -> AsyncIterator[httpx2.Response]:
        host = host_of(url)
        headers = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
        try:
            auth = self._auth(host)
            client = await self._client(url)
            with anyio.fail_after(self._within):
                async with client.stream(method, url, headers=headers, auth=auth) as response:
                    yield response
        except TimeoutError:
            raise RegistryFailed(f"{host} took longer than {self._within:g} seconds") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise RegistryFailed(f"{host} cannot be asked: {type(error).__name__}") from None

    def _auth(self, host: str) -> httpx2.Auth | None:
        known = self._configuration.credentials.get(host)
        return httpx2.BasicAuth(*known) if known else self._netrc

    async def _client(self, url: str) -> httpx2.AsyncClient:
        """With the host's certificate checked, unless pip is told to trust it without."""
        parts = urlsplit(url)
        trusted = not self._configuration.trusted_hosts.isdisjoint({parts.hostname or "", host_of(url)})
        if parts.scheme != "https" and not (trusted or _is_loopback(parts.hostname or "")):
            raise RegistryFailed(f"{host_of(url)} is not asked without https unless pip's `trusted-host` names it")
        if trusted not in self._clients:
            self._clients[trusted] = await self._stack.enter_async_context(
                httpx2.AsyncClient(
                    verify=self._configuration.tls(trusted=trusted),
                    proxy=self._configuration.proxy,
                    timeout=self._within,
                    follow_redirects=True,
                )
            )
        return self._clients[trusted]


def _netrc() -> httpx2.Auth | None:
    try:
        return httpx2.NetRCAuth(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _path(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _read_file(url: str, limit: int) -> Answer | None:
    path = _path(url)
    path = path / "index.html" if path.is_dir() else path
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RegistryFailed(f"an index's file cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise NoSource(f"a file of its index has more than {limit >> 20} MiB")
    return Answer(content, "text/html", url)


def _check(response: httpx2.Response) -> None:
    host = response.url.host
    if response.status_code == 451:
        raise Withdrawn(f"{host} must not give it out, for legal reasons", reason="blocked")
    if response.status_code in _WAITS:
        raise RegistryLimits(f"{host} answered {response.status_code}", _wait(response.headers).total_seconds())
    if response.status_code != 200:
        raise RegistryFailed(f"{host} answered {response.status_code}")


def _wait(headers: httpx2.Headers) -> timedelta:
    """What Retry-After says, in seconds or as a date by the server's own clock, within an hour."""
    text = headers.get("retry-after", "")
    if text.strip().isdecimal():
        return min(timedelta(seconds=min(int(text), 3600)), _LONGEST_WAIT)
    until, now = _date(text), _date(headers.get("date", "")) or datetime.now(UTC)
    return min(max(until - now, timedelta(seconds=1)), _LONGEST_WAIT) if until else _DEFAULT_WAIT


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)

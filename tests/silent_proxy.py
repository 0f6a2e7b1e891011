"""A way to the server that can fall silent: what was connected stays so and hears nothing more, new ways are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.abc

from codelupe.postgres.embedded.home import PORT

_CHUNK = 65_536


class SilentProxy:
    """Forwards between TCP and the server's socket, by asyncio.

    A UNIX socket of anyio's may fail in a callback when what reads from it is cancelled.
    """

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{PORT}"
        self._database = parts.path.lstrip("/")
        self._connections: dict[anyio.Event, anyio.CancelScope] = {}
        self.port = 0

    @property
    def url(self) -> str:
        return f"postgresql://codelupe@127.0.0.1:{self.port}/{self._database}"

    def fall_silent(self) -> int:
        """From now on nothing passes where something has passed; returns on how many connections."""
        heard = [silent for silent in self._connections if not silent.is_set()]
        for silent in heard:
            silent.set()
        return len(heard)

    def forget_the_silent(self) -> None:
        """Both ends learn that those are gone, as from the keepalives of their kernels."""
        for silent, scope in self._connections.items():
            if silent.is_set():
                scope.cancel()

    async def serve(self, client: anyio.abc.SocketStream) -> None:
        """Forward what comes from a client; one that comes while there is no server is turned away."""
        silent, scope = anyio.Event(), anyio.CancelScope()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket)
            except OSError:
                return
            stack.callback(writer.close)
            self._connections[silent] = scope
            try:
                with scope:
                    async with anyio.create_task_group() as group:
                        group.start_soon(_to_server, client, writer, silent)
                        group.start_soon(_to_client, reader, client, silent)
            finally:
                del self._connections[silent]


async def _to_server(client: anyio.abc.SocketStream, writer: asyncio.StreamWriter, silent: anyio.Event) -> None:
    try:
        while True:
            data = await client.receive()
            if not silent.is_set():
                writer.write(data)
                await writer.drain()
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        if not silent.is_set():
            writer.close()


async def _to_client(reader: asyncio.StreamReader, client: anyio.abc.SocketStream, silent: anyio.Event) -> None:
    try:
        while data := await reader.read(_CHUNK):
            if not silent.is_set():
                await client.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        pass
    if not silent.is_set():
        await client.aclose()


@asynccontextmanager
async def silent_proxy(server_url: str) -> AsyncIterator[SilentProxy]:
    proxy = SilentProxy(server_url)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        proxy.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        group.start_soon(listener.serve, proxy.serve)
        yield proxy
        group.cancel_scope.cancel()

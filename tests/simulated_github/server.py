"""The simulated GitHub for other processes: an HTTP server on loopback, over the same core."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.simulated_github.clock import ScaledClock
from tests.simulated_github.github import Answer, Exchange, Request, SimulatedGitHub


class GitHubServer(ThreadingHTTPServer):
    """Serves on a free port of 127.0.0.1."""

    daemon_threads = True

    def __init__(self, github: SimulatedGitHub, clock: ScaledClock) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.clock = clock
        self._github = github
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def open(self, request: Request) -> Exchange:
        with self._lock:
            return self._github.open(request)

    def close(self, exchange: Exchange) -> None:
        with self._lock:
            self._github.close(exchange)


class _Handler(BaseHTTPRequestHandler):
    server: GitHubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        exchange = self.server.open(Request(self.command, self.server.url + self.path, headers, body))
        # Less if the connection ends: a client that was killed is not in the way of its successor.
        select.select([self.connection], [], [], self.server.clock.real_seconds(exchange.seconds))
        # Before the answer, for its reader may ask again before this thread runs again.
        self.server.close(exchange)
        self._send(exchange.answer)

    def _send(self, answer: Answer) -> None:
        try:
            if answer.cut == "reset":
                self._reset()
                return
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body if answer.cut is None else answer.body[: len(answer.body) // 2])
        except OSError:
            return  # the client is gone
        self.close_connection = self.close_connection or answer.cut is not None

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


@contextmanager
def serve(github: SimulatedGitHub, clock: ScaledClock) -> Iterator[GitHubServer]:
    """A server that runs until the block ends."""
    server = GitHubServer(github, clock)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

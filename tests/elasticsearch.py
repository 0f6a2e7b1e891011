"""A server that the unmodified Elasticsearch client takes for one: noida-db, a single program from PyPI."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_DEADLINE_SECONDS = 30
_NOT_FORWARDED = ("content-length", "accept-encoding", "connection", "host")


class Server:
    """Keeps its port and its data when it is stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it answers."""
        program = Path(str(files("noida_db"))) / "noida-db"
        program.chmod(0o755)
        command: list[str | Path] = [
            program,
            "start",
            "--only",
            "elasticsearch",
            "--elasticsearch-port",
            str(self._port),
        ]
        self._process = subprocess.Popen(
            [*command, "--data-dir", self._folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(self.url, timeout=5):
                return
            time.sleep(0.02)
        raise TimeoutError(f"no Elasticsearch at {self.url}")

    def stop(self) -> None:
        """As by SIGTERM; what it was sent is on its disk."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_DEADLINE_SECONDS)
            self._process = None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as it:
        port: int = it.getsockname()[1]
        return port


class Proxy:
    """Stands before a server and does what befalls those between: refused documents, cut connections, odd answers.

    Writes and changes of aliases pass one at a time: Elasticsearch refuses what is written to an index that is being
    removed, where noida-db makes that index again.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._one_at_a_time = threading.Lock()
        self._rules: list[Rule] = []
        self.requests: list[tuple[str, int]] = []
        """Path and size of each request that came."""
        self.headers: list[dict[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with suppress(ConnectionError):
                    super().handle_one_request()

            def answer(self) -> None:
                proxy.answer(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - as the library calls them

            def log_message(self, *_: object) -> None: ...

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown()
        self._listener.server_close()

    def refuse(self, repository_id: str, status: int, error: Mapping[str, Any], *, times: int = 1) -> None:
        """A bulk request with this document is carried out without it, and says this of it."""
        self._rules.append(Refusal(times=times, repository_id=repository_id, status=status, error=error))

    def cut(self, *, after_the_server_took_it: bool, times: int = 1) -> None:
        """The connection of a bulk request ends without an answer."""
        self._rules.append(Cut(times=times, is_carried_out=after_the_server_took_it))

    def say(self, status: int, body: bytes, path: str = "", *, product: str = "Elasticsearch", times: int = 1) -> None:
        """This is answered in place of the server, to requests whose paths have this text in them."""
        self._rules.append(Answer(times=times, status=status, body=body, path=path, product=product))

    def recover(self) -> None:
        """From now on everything passes."""
        self._rules.clear()

    def hold(self) -> Hold:
        """The next bulk request is held back, and carried out when it is let go."""
        self._rules.append(rule := Hold(times=1))
        return rule

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append((request.path, len(body)))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        rules = [rule for rule in self._rules if rule.times > 0 and rule.concerns(request.path, body)]
        for rule in rules:
            rule.times -= 1
        for rule in rules:
            body = rule.before(request, body)
        with self._one_at_a_time if request.path.startswith(("/_bulk", "/_aliases")) else nullcontext():
            status, headers, answer = self._forward(request, body)
        for rule in rules:
            status, answer = rule.after(request, status, answer)
        _send(request, status, headers.get("Content-Type", ""), headers.get("X-Elastic-Product"), answer)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Message, bytes]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED}
        forwarded = urllib.request.Request(
            f"{self._server.url}{request.path}", data=body or None, headers=headers, method=request.command
        )
        try:
            with urllib.request.urlopen(forwarded, timeout=_DEADLINE_SECONDS) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()


@dataclass(kw_only=True)
class Rule:
    """What befalls a number of requests."""

    times: int

    def concerns(self, path: str, body: bytes) -> bool:
        return "/_bulk" in path

    def before(self, request: BaseHTTPRequestHandler, body: bytes) -> bytes:
        return body

    def after(self, request: BaseHTTPRequestHandler, status: int, answer: bytes) -> tuple[int, bytes]:
        return status, answer


@dataclass(kw_only=True)
class Refusal(Rule):
    repository_id: str
    status: int
    error: Mapping[str, Any]

    def concerns(self, path: str, body: bytes) -> bool:
        return super().concerns(path, body) and any(self._is_meant(line) for line in body.splitlines()[::2])

    def before(self, request: BaseHTTPRequestHandler, body: bytes) -> bytes:
        lines = body.splitlines(keepends=True)
        pairs = zip(lines[::2], lines[1::2], strict=True)
        self._items = [self._is_meant(action) for action in lines[::2]]
        kept = [line for pair, is_meant in zip(pairs, self._items, strict=True) if not is_meant for line in pair]
        return b"".join(kept) or b"\n"

    def after(self, request: BaseHTTPRequestHandler, status: int, answer: bytes) -> tuple[int, bytes]:
        taken = iter(json.loads(answer).get("items", ()))
        refused = {"index": {"_id": self.repository_id, "status": self.status, "error": self.error}}
        items = [refused if is_meant else next(taken) for is_meant in self._items]
        return 200, json.dumps({"took": 1, "errors": True, "items": items}).encode()

    def _is_meant(self, action: bytes) -> bool:
        found: bool = json.loads(action)["index"]["_id"] == self.repository_id
        return found


@dataclass(kw_only=True)
class Cut(Rule):
    is_carried_out: bool

    def before(self, request: BaseHTTPRequestHandler, body: bytes) -> bytes:
        if not self.is_carried_out:
            _hang_up(request)
        return body

    def after(self, request: BaseHTTPRequestHandler, status: int, answer: bytes) -> tuple[int, bytes]:
        _hang_up(request)
        return status, answer


@dataclass(kw_only=True)
class Answer(Rule):
    status: int
    body: bytes
    path: str
    product: str

    def concerns(self, path: str, body: bytes) -> bool:
        return self.path in path

    def before(self, request: BaseHTTPRequestHandler, body: bytes) -> bytes:
        kind = "application/vnd.elasticsearch+json" if self.body.startswith(b"{") else "text/html"
        _send(request, self.status, kind, self.product, self.body)
        raise ConnectionAbortedError


@dataclass(kw_only=True)
class Hold(Rule):
    came: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def before(self, request: BaseHTTPRequestHandler, body: bytes) -> bytes:
        self.came.set()
        if not self.let_go.wait(_DEADLINE_SECONDS):
            raise TimeoutError("a request was held for too long")
        return body


def _send(request: BaseHTTPRequestHandler, status: int, kind: str, product: str | None, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    if product:
        request.send_header("X-Elastic-Product", product)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError

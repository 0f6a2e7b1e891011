"""Git over HTTP for the tests: git's own http-backend behind a small server on loopback."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from git import Repo


class GitServer(ThreadingHTTPServer):
    """Serves the bare repositories below ``root``."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.password: str | None = None
        """If set, the password that the user ``reader`` must give."""
        self.stall_after: int | None = None
        """If set, packs stop after so many bytes until :attr:`go_on` is set."""
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.requests: list[str] = []
        self.answers: dict[str, tuple[int, dict[str, str], str]] = {}
        """Status, headers and text that are given below a path instead of the repository there."""
        self.authorizations: list[str] = []
        """What clients have shown."""
        self.bytes_sent = 0
        self.at_once = 0
        self.most_at_once = 0
        self.pause = 0.0
        """How long, in seconds, each answer takes at least."""
        self.counting = threading.Lock()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: GitServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        self.server.requests.append(format % args)

    def _answer(self) -> None:
        with self.server.counting:
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            time.sleep(self.server.pause)
            self._serve()
        finally:
            with self.server.counting:
                self.server.at_once -= 1

    def _serve(self) -> None:
        if shown := self.headers.get("Authorization"):
            self.server.authorizations.append(shown)
        for prefix, (status, headers, text) in self.server.answers.items():
            if self.path.startswith(f"/{prefix}"):
                self._say(status, headers, text)
                return
        if not self._is_authorised():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(content)

    def _say(self, status: int, headers: dict[str, str], text: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "text/plain"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def _is_authorised(self) -> bool:
        if self.server.password is None:
            return True
        expected = base64.b64encode(f"reader:{self.server.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _send(self, content: bytes) -> None:
        limit = self.server.stall_after
        self.server.bytes_sent += len(content)
        try:
            if limit is not None and len(content) > limit:
                self.wfile.write(content[:limit])
                self.wfile.flush()
                content = content[limit:]
                self.server.stalled.set()
                self.server.go_on.wait()
            self.wfile.write(content)
        except OSError:
            return  # the client is gone


@contextmanager
def git_server(root: Path) -> Iterator[GitServer]:
    """A server that runs until the block ends."""
    server = GitServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


def make_repository(folder: Path, files: dict[str, bytes], *, message: str = "first") -> Repo:
    """A work tree with one more commit that holds these files too."""
    repository = Repo.init(folder, initial_branch="main") if not folder.exists() else Repo(folder)
    with repository.config_writer() as writer:
        writer.set_value("user", "name", "Test").set_value("user", "email", "test@example.org")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    repository.git.add("--all", "--force")
    repository.git.commit("--quiet", f"--message={message}")
    return repository


def open_pipes() -> set[str]:
    """The pipes that this process has open."""
    links = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.add(str(entry.readlink()))
    return {link for link in links if link.startswith("pipe:")}


def processes_with(text: str) -> list[int]:
    """The processes in whose environment or command line a text occurs."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]

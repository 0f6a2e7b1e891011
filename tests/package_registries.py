"""Package registries for the tests, on loopback: a simple index of Python packages and a registry that npm can use."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

JSON_INDEX = "application/vnd.pypi.simple.v1+json"


@dataclass
class Answer:
    """What lies at a path."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class RegistryServer(ThreadingHTTPServer):
    """Answers with what was put at a path, and with 404 elsewhere."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Answer] = {"/simple/": Answer(b"<!doctype html>"), "/-/ping": Answer(b"{}")}
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        """What each request has brought."""
        self.authorization: str | None = None
        """If set, the header that each request must have."""
        self.hangs = threading.Event()
        """While set, no answer comes."""
        self.go_on = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def put(
        self, path: str, body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None, **more: str
    ) -> None:
        """Answer like this from now on; the name of a header in ``more`` has ``_`` for ``-``."""
        spelled = {name.replace("_", "-"): value for name, value in more.items()}
        self.answers[path] = Answer(body, status, {**(headers or {}), **spelled})

    def put_page(self, name: str, *files: dict[str, Any], status: str = "active") -> None:
        """A project's page in the simple index, as JSON."""
        page = {"meta": {"api-version": "1.4"}, "name": name, "files": files, "project-status": {"status": status}}
        self.put(f"/simple/{name}/", json.dumps(page).encode(), content_type=JSON_INDEX)

    def put_file(self, name: str, content: bytes, **more: Any) -> dict[str, Any]:
        """An archive of a Python package, as its page lists it."""
        self.put(f"/files/{name}", content)
        hashes = {"sha256": hashlib.sha256(content).hexdigest()}
        return {"filename": name, "url": f"../../files/{name}", "hashes": hashes, "upload-time": UPLOADED} | more

    def put_npm(self, name: str, version: str, archive: bytes, **more: Any) -> None:
        """A package of npm's with one version."""
        place = f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        self.put(place, archive)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
        dist = {
            "tarball": f"http://{self.address}{place}",
            "integrity": integrity,
            "shasum": hashlib.sha1(archive).hexdigest(),
        }
        described = {"name": name, "version": version, "dist": dist, "description": "A demo", "license": "MIT"} | more
        packument = {
            "_id": name,
            "name": name,
            "dist-tags": {"latest": version},
            "versions": {version: described},
            "time": {"created": "2020-01-02T03:04:05.000Z", "modified": "2026-01-01T00:00:00.000Z", version: UPLOADED},
        }
        self.put(f"/{name}", json.dumps(packument).encode(), content_type="application/json")


UPLOADED = "2025-05-06T07:08:09Z"


class _Handler(BaseHTTPRequestHandler):
    server: RegistryServer

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.requests.append(path)
        self.server.authorizations.append(self.headers.get("Authorization"))
        if self.server.hangs.is_set():
            self.server.go_on.wait()
        answer = self.server.answers.get(path, Answer(status=404))
        if self.server.authorization not in {None, self.server.authorizations[-1]}:
            answer = Answer(status=401)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


@contextmanager
def registry_server() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.go_on.set()
            server.shutdown()
            thread.join()


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o755
            file.addfile(info, io.BytesIO(content))
    return packed.getvalue()

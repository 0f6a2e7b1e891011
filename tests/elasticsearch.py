"""A server that the unmodified Elasticsearch client takes for one: noida-db, a single program from PyPI."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

_DEADLINE_SECONDS = 30


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
        command = [program, "start", "--only", "elasticsearch", "--elasticsearch-port", str(self._port)]
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

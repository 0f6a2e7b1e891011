"""Git over HTTP from a process of its own: ``python -m benchmarks.clone.server FOLDER`` prints the address."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tests.git_server import git_server


def main() -> None:
    with git_server(Path(sys.argv[1])) as server:
        print(server.url(""), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()

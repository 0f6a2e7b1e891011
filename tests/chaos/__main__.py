"""``make chaos``: the crash test at length. Progress on standard error, a summary on standard output."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import anyio

from codelupe.observability.logs import configure_logging
from tests.chaos.driver import Plan, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="how many are appended; somewhat more are emitted")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    arguments = parser.parse_args()
    configure_logging("critical", "auto")  # what goes wrong here goes wrong on purpose
    folder = Path(tempfile.mkdtemp(prefix="codelupe-chaos-"))
    folder.chmod(0o755)
    report = anyio.run(run, Plan.of_size(arguments.events, arguments.seed), folder)
    sys.stdout.write(f"{report}\n")
    if report.violations:
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

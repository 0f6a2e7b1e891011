"""``make bench-quality``: how well the score agrees with labelled files, and how it is distributed over real ones."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

import codelupe_scorers
from benchmarks.quality import agreement, distribution
from benchmarks.quality.labels import ChangedError, fetch_all, fetch_labelled, load_labels
from benchmarks.quality.registries import FetchError
from codelupe import Scorer
from codelupe_scorers.quality import score_file

_CACHE = Path(".codelupe/benchmark-packages")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Measure the quality score.")
    parser.add_argument("--distribution", action="store_true", help="the scores of some thousand real files instead")
    parser.add_argument("--cache", type=Path, default=_CACHE, help="packages are kept there (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    measure, show = (_distribution, distribution.table) if arguments.distribution else (_agreement, agreement.table)
    try:
        found = measure(arguments.cache)
    except (FetchError, ChangedError) as error:
        sys.exit(f"{error}\nWhat was fetched remains in {arguments.cache}; start again to go on.")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("\n".join(show(found)))


def _agreement(cache: Path) -> dict[str, Any]:
    labels = load_labels()
    packages = len({(label.registry, label.package, label.version) for label in labels})
    with _progress("packages", packages) as advance:
        labelled = fetch_labelled(labels, cache, advance)
    scorers = _scorers()
    return agreement.figures([agreement.Scored(one, score_file(one.file, scorers)) for one in labelled])


def _distribution(cache: Path) -> dict[str, Any]:
    packages = distribution.load_packages()
    with _progress("packages", len(packages)) as advance:
        archives = [archive for _, archive in fetch_all(packages, cache, advance)]
    scorers = _scorers()
    with _progress("files", None) as advance:
        files = []
        for file in distribution.kept_files(archives):
            files.append(file)
            advance()
    began = time.process_time()
    scores = [(file.language or "", score_file(file, scorers).value or 0.0) for file in files]
    seconds = time.process_time() - began
    print(f"{len(files) / seconds:,.0f} files a CPU-second on {os.cpu_count()} cores", file=sys.stderr)
    return distribution.figures(scores)


def _scorers() -> Sequence[Scorer]:
    return codelupe_scorers.codelupe_scorers(codelupe_scorers.codelupe_settings()())


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[], object]]:
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


if __name__ == "__main__":
    main()

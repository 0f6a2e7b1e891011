"""Prints the CPU time of one ``codelupe`` command: the median of five runs."""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "codelupe", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


if __name__ == "__main__":
    seconds = median(cpu_seconds(sys.argv[1:]) for _ in range(5))
    print(f"codelupe {' '.join(sys.argv[1:]):14} {seconds:.2f} CPU-seconds")

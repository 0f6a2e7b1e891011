"""Where and with what it was measured."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.eventlog.databases import Databases

_PACKAGES = ("codelupe", "asyncpg", "pgqueuer", "procrastinate", "eventsourcing", "psycopg")
_SETTINGS = ("server_version", "synchronous_commit", "fsync", "full_page_writes", "shared_buffers", "max_wal_size")


async def describe(databases: Databases) -> list[str]:
    """A line for the machine, one for the server's settings, one for the packages, and the date.

    Raises:
        RuntimeError: the server does not wait for the disk, so nothing measured on it would count.
    """
    settings = await databases.settings(*_SETTINGS)
    if (settings["synchronous_commit"], settings["fsync"]) != ("on", "on"):
        raise RuntimeError("the server's synchronous_commit and fsync must be on")
    hardware = f"{_cpu()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB of memory"
    return [
        f"- {datetime.now(UTC):%Y-%m-%d}, {hardware}, Linux {platform.release()}, Python {platform.python_version()}",
        f"- PostgreSQL: {', '.join(f'{name} {value}' for name, value in settings.items())}",
        f"- {', '.join(f'{name} {version(name)}' for name in _PACKAGES)}",
    ]


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30

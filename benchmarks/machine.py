"""Where and with what it was measured."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def describe_machine() -> str:
    """The date, the processor, the memory, the system and Python, in a line."""
    hardware = f"{_cpu()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB of memory"
    return f"- {datetime.now(UTC):%Y-%m-%d}, {hardware}, Linux {platform.release()}, Python {platform.python_version()}"


def describe_packages(*names: str) -> str:
    """Their installed versions, in a line."""
    return f"- {', '.join(f'{name} {version(name)}' for name in names)}"


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30

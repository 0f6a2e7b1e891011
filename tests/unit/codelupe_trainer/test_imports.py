"""The daemon stays small: what needs torch runs in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import codelupe_trainer

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "bitsandbytes")
APART = ("child", "plan/trace.py")
"""What runs as a process of its own."""


def test_nothing_of_the_daemon_s_imports_torch() -> None:
    [root] = codelupe_trainer.__path__
    paths = [path.relative_to(root).as_posix() for path in sorted(Path(root).rglob("*.py"))]
    modules = [
        "codelupe_trainer." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in paths
        if not path.startswith(APART)
    ]
    assert len(modules) > 30
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"

"""Starts a trace in a process of its own, as torch stays out of this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.util import find_spec

from codelupe import CodelupeError
from codelupe_trainer.plan.memory import TrainingShape
from codelupe_trainer.plan.model_shape import ModelShape

DEADLINE = timedelta(minutes=10)
"""On an idle core, a trace of 48 layers takes some seven seconds, and the start as many."""
_NEEDED = ("torch", "transformers", "peft", "trl", "bitsandbytes")
_INHERITED = ("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL")
_LOG_TAIL = 2000


@dataclass(frozen=True)
class Traced:
    """Bytes that were counted, with the optimiser's states, and without what the framework takes beside tensors."""

    resident: int
    forward: int
    backward: int

    @property
    def peak(self) -> int:
        """The most that there is at a time."""
        return max(self.forward, self.backward)


def run_traces(trainings: Sequence[tuple[ModelShape, TrainingShape]], deadline: timedelta = DEADLINE) -> list[Traced]:
    """Run the true shapes on FakeTensors and count, in one process.

    Raises:
        CodelupeError: a package is missing, it took too long, or it failed.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise CodelupeError(
            f"a trace needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            hint="Install what training needs with `pip install 'codelupe[train]'`, or plan without --trace.",
        )
    requests = json.dumps([{"model": asdict(model), "shape": asdict(shape)} for model, shape in trainings])
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "codelupe_trainer.plan.trace"],
            input=requests,
            capture_output=True,
            text=True,
            check=False,
            timeout=deadline.total_seconds(),
            env=_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise CodelupeError(
            f"the trace took longer than {deadline.total_seconds():.0f} seconds and was ended",
            hint="Plan without --trace, or try again on an idle machine.",
        ) from error
    if ended.returncode != 0:
        raise CodelupeError(f"the trace ended with code {ended.returncode}\n{ended.stderr.strip()[-_LOG_TAIL:]}")
    return [Traced(**one) for one in json.loads(ended.stdout)]


def _environment() -> dict[str, str]:
    """What Python needs to find its packages, and no secret. No card, no hub, and one thread: nothing is computed."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

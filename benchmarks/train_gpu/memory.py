"""What a card has to give, and what was taken of it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from codelupe_trainer.plan.memory import CONTEXT, GIB, usable


@dataclass
class Peak:
    """The most bytes at a time; without a card, those of the process."""

    allocated: int = 0
    reserved: int = 0


@contextmanager
def measure_peak(device: torch.device) -> Iterator[Peak]:
    """Filled in when the block ends."""
    peak, on_card = Peak(), device.type == "cuda"
    if on_card:
        torch.cuda.reset_peak_memory_stats(device)
    yield peak
    if on_card:
        peak.allocated, peak.reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    else:
        peak.allocated = peak.reserved = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def play_card(device: torch.device, size: int) -> int:
    """Let this process have no more of the card than one of so many bytes would give; returns what that is."""
    free = usable(size)
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction((free - CONTEXT) / total, device)
    return free


def taken_beside_tensors(device: torch.device) -> int:
    """Bytes that CUDA's context and the libraries hold on the card, if no other program is on it."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device)


def in_gib(size: float) -> str:
    return f"{size / GIB:.2f}"

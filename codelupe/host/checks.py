"""What a look at this machine found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Finding:
    """What one look found, and what to do about it. A bad one keeps ``codelupe run`` from starting."""

    what: str
    verdict: Verdict
    detail: str
    hint: str = ""

"""The shapes that turn a measurement into points."""

from __future__ import annotations


def ramp(value: float, *, zero: float, one: float) -> float:
    """0 at ``zero`` and beyond, 1 at ``one`` and beyond, a straight line between; ``zero`` may be the larger."""
    return min(1.0, max(0.0, (value - zero) / (one - zero)))

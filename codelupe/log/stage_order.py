"""In which order stages are shown: as the events flow."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from codelupe.log.stages import Stage


def flow_order(stages: Sequence[Stage]) -> list[str]:
    """The stages' names such that one comes after those whose events it consumes, else as given."""
    upstream = {stage.name: [other.name for other in stages if _feeds(other, stage)] for stage in stages}
    try:
        return list(TopologicalSorter(upstream).static_order())
    except CycleError:
        return [stage.name for stage in stages]


def _feeds(source: Stage, target: Stage) -> bool:
    return source is not target and bool(set(source.subscription.emits) & set(target.subscription.events))

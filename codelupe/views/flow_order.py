"""In which order stages are shown: as the events flow."""

from __future__ import annotations

from collections.abc import Sequence

from codelupe.work.subscriptions import Stage


def flow_order(stages: Sequence[Stage]) -> list[str]:
    """The stages' names such that one comes after those whose events it consumes, else as given."""
    waiting, order = list(stages), list[str]()
    while waiting:
        first = next((one for one in waiting if not any(_feeds(other, one) for other in waiting)), waiting[0])
        waiting.remove(first)
        order.append(first.name)
    return order


def _feeds(source: Stage, target: Stage) -> bool:
    return source is not target and bool(set(source.subscription.emits) & set(target.subscription.events))

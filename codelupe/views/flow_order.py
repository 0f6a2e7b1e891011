"""In which order subscriptions are shown: as the events flow."""

from __future__ import annotations

from collections.abc import Sequence

from codelupe.work.subscriptions import Subscribed


def flow_order(subscriptions: Sequence[Subscribed]) -> list[str]:
    """The subscriptions' names such that one comes after those whose events it consumes, else as given."""
    waiting, order = list(subscriptions), list[str]()
    while waiting:
        first = next((one for one in waiting if not any(_feeds(other, one) for other in waiting)), waiting[0])
        waiting.remove(first)
        order.append(first.name)
    return order


def _feeds(source: Subscribed, target: Subscribed) -> bool:
    return source is not target and bool(set(source.emits) & set(target.events))

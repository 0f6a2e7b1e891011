"""Placeholder until the journal helper writes it."""

from __future__ import annotations


def configure_logging(level: str, format: str) -> None:
    pass


def notify(state: str) -> None:
    pass


def watchdog_interval() -> float | None:
    return None

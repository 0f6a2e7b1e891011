"""Runs CPU-heavy work on Ray, on one machine or many: ``executor = "ray"``."""

from __future__ import annotations

from collections.abc import Iterable

from codelupe import Executor, hookimpl
from codelupe_ray.executor import RayExecutor
from codelupe_ray.settings import RaySettings


@hookimpl
def codelupe_settings() -> type[RaySettings]:
    return RaySettings


@hookimpl
def codelupe_executors(settings: RaySettings) -> Iterable[tuple[str, Executor]]:
    return [("ray", RayExecutor(settings))]

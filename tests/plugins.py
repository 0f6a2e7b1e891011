"""Plugins made on the spot, as a third party would write them."""

from __future__ import annotations

import os
import textwrap
import types
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from codelupe import BatchSubscription, Job, RetryPolicy, Service, Subscription, hookimpl
from codelupe_events import BatchReady, RepoEmpty

MIGRATIONS = """
from importlib.resources import files
from codelupe import hookimpl

@hookimpl
def codelupe_migrations(): return files(__package__) / "migrations"
"""
FAST = RetryPolicy(attempts=3, base=timedelta(milliseconds=10), cap=timedelta(milliseconds=50))


def make_plugin(
    *,
    subscriptions: Sequence[Subscription | BatchSubscription] = (),
    jobs: Sequence[Job] = (),
    services: Sequence[Service] = (),
) -> object:
    """A plugin that offers these."""

    @hookimpl
    def codelupe_subscriptions() -> Sequence[Subscription | BatchSubscription]:
        return subscriptions

    @hookimpl
    def codelupe_jobs() -> Sequence[Job]:
        return jobs

    @hookimpl
    def codelupe_services() -> Sequence[Service]:
        return services

    return types.SimpleNamespace(
        codelupe_subscriptions=codelupe_subscriptions, codelupe_jobs=codelupe_jobs, codelupe_services=codelupe_services
    )


def batch(number: int, files: int = 0) -> BatchReady:
    """An event of the stream ``batch/<number>``."""
    return BatchReady(batch_id=number, files=files, characters=0, repositories=0, min_score=0)


def empty(number: int) -> RepoEmpty:
    """An event of the stream ``repo/test:<number>``."""
    return RepoEmpty(repository_id=f"test:{number}", url="file:///nowhere")


S = TypeVar("S", Subscription, BatchSubscription)


def named(plugin: str, subscription: S) -> S:
    """The subscription under its full name, as the host makes it."""
    return replace(subscription, name=f"{plugin}.{subscription.name}")


def install_plugin(
    folder: Path,
    name: str,
    code: str = "",
    *,
    distribution: str | None = None,
    manifest: str | None = None,
    migrations: Mapping[str, str] | None = None,
) -> Path:
    """Put a distribution with one plugin into a folder for PYTHONPATH, as pip would; returns the plugin's package.

    With ``migrations``, by file name, the plugin offers them.
    """
    distribution = distribution or f"stranger-{name}"
    package = folder / f"{distribution.replace('-', '_')}_mod"
    information = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    for each in (package, information):
        each.mkdir(parents=True)
    if migrations is not None:
        (package / "migrations").mkdir()
        for file, sql in migrations.items():
            (package / "migrations" / file).write_text(sql)
        code += MIGRATIONS
    (package / "__init__.py").write_text(textwrap.dedent(code))
    if manifest is not None:
        (package / "codelupe.toml").write_text(manifest)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[codelupe]\n{name} = {package.name}\n")
    return package


def import_path(folder: Path) -> str:
    """A PYTHONPATH with this folder before what there is."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))

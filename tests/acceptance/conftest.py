"""Pipelines. The undisturbed run is made once; other runs of the same input must end with the same tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.acceptance.pipeline import LEASE_SECONDS, SETTINGS, Pipeline, held_out_share


@pytest.fixture(scope="session")
def make_pipeline(
    postgres_url: str, base_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pipeline]:
    """Builds a pipeline with a database of its own; they share the converted base model, which is the same for all."""

    def make(name: str) -> Pipeline:
        folder = tmp_path_factory.mktemp(name)
        (folder / "state" / "models").mkdir(parents=True)
        (folder / "state" / "models" / "base").symlink_to(base_models, target_is_directory=True)
        config = folder / "codelupe.toml"
        config.write_text(SETTINGS.format(lease_seconds=LEASE_SECONDS, held_out_share=held_out_share()))
        return Pipeline(folder / "state", config, postgres_url.replace("/codelupe?", f"/{name}?"))

    return make


@pytest.fixture(scope="session")
async def create_database(postgres_url: str, anyio_backend: str) -> Callable[[str], Any]:
    async def create(url: str) -> None:
        administration = await asyncpg.connect(postgres_url.replace("/codelupe?", "/postgres?"))
        try:
            name = url.partition("?")[0].rpartition("/")[2]
            await administration.execute(f"create database {name} template codelupe")
        finally:
            await administration.close()

    return create


@pytest.fixture(scope="session")
async def undisturbed(
    make_pipeline: Callable[[str], Pipeline], create_database: Callable[[str], Any]
) -> tuple[Pipeline, str]:
    """A pipeline that ran once from beginning to end, and what it printed."""
    pipeline = make_pipeline("undisturbed")
    await create_database(pipeline.url)
    return pipeline, pipeline.finish()

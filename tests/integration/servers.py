"""Postgres servers of a test's own: with settings of their own, on small disks, and standbys."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import pytest

from codelupe.postgres import Database
from codelupe.postgres.embedded import embedded_server
from codelupe.postgres.embedded.home import PORT, choose_socket_folder
from codelupe.postgres.migrate import migrate, own_migrations

_numbers = itertools.count(1)
REPLICATES: Mapping[str, str] = {"wal_level": "replica", "max_wal_senders": "4"}
"""The settings without which a server cannot have standbys."""


@asynccontextmanager
async def own_server(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[str]:
    """The URL of a new server with these settings, whose database ``codelupe`` is migrated."""
    async with embedded_server(folder):
        pass
    configure(folder, settings)
    async with embedded_server(folder) as url:
        async with Database(url) as database:
            await migrate(database, own_migrations())
        yield url


def configure(folder: Path, settings: Mapping[str, str]) -> None:
    """Settings that hold from the server's next start."""
    with (folder / "data/postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())


def clone_as_standby(primary: Path, folder: Path) -> None:
    """A copy of a stopped server's data that serves reads only and follows the primary whenever that runs."""
    folder.mkdir(mode=0o755)
    subprocess.run(["cp", "--archive", primary / "data", folder / "data"], check=True)
    socket = choose_socket_folder(primary)
    configure(folder, {"primary_conninfo": f"host={socket} port={PORT} user=codelupe"})
    (folder / "data/standby.signal").touch()
    owner = (folder / "data").stat()
    os.chown(folder / "data/standby.signal", owner.st_uid, owner.st_gid)


@asynccontextmanager
async def fresh_database(server_url: str, *, tablespace: str = "pg_default") -> AsyncIterator[str]:
    """The URL of a new database like the server's ``codelupe``, dropped in the end."""
    async with _new_database(server_url, f"template codelupe tablespace {tablespace}") as url:
        yield url


@asynccontextmanager
async def empty_database(server_url: str) -> AsyncIterator[str]:
    """The URL of a new database without a table, dropped in the end."""
    async with _new_database(server_url, "template template0") as url:
        yield url


@asynccontextmanager
async def _new_database(server_url: str, like: str) -> AsyncIterator[str]:
    name = f"fresh_{next(_numbers)}"
    administration = await asyncpg.connect(server_url.replace("/codelupe?", "/postgres?"))
    try:
        await administration.execute(f"create database {name} {like}")
        yield server_url.replace("/codelupe?", f"/{name}?")
        await administration.execute(f"drop database {name} with (force)")
    finally:
        await administration.close()


@contextmanager
def small_disk(folder: Path, size: str, owner: int = 0) -> Iterator[None]:
    """A disk of this size, mounted on the folder while the block runs; where nobody may mount the test is skipped."""
    folder.mkdir(mode=0o755)
    options = f"size={size},mode=755,uid={owner}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounting = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounting.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounting.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def enlarge_disk(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def move_write_ahead_log(folder: Path, target: Path) -> None:
    """Keep a stopped server's write-ahead log in another folder, which its user can enter."""
    subprocess.run(["mv", folder / "data/pg_wal", target], check=True)
    (folder / "data/pg_wal").symlink_to(target / "pg_wal")

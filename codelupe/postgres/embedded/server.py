"""A PostgreSQL server of our own, for when no database is named.

Its data lie in the state directory and are as safe as any server's: ``fsync`` and ``synchronous_commit`` stay on.
All processes that use the same folder share one server. Each holds a shared lock on ``users.lock``; starting and
stopping happen under ``start.lock``, and the last user to leave stops the server. A server that outlived its users
is adopted, one that was killed is started again.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import anyio
import anyio.to_thread
import asyncpg
import structlog

from codelupe.errors import DatabaseUnavailable, StateDirectoryError
from codelupe.postgres.embedded.binaries import Binaries, find_binaries
from codelupe.postgres.embedded.home import PORT, Account, choose_socket_folder, prepare_home, reporting_file_errors
from codelupe.storage.atomic import move_into_place, remove_tree
from codelupe.storage.locks import FileLock, open_lock

_QUOTED_BYTES = 4_000
_FULL_DISK_MARKS = ("No space left on device", "Check free disk space", "Disk quota exceeded")
"""What libc and PostgreSQL say of a full disk."""
_SETTINGS = """
# CodeLupe's choices for a server that shares a small machine; change them at will.
max_connections = 100
shared_buffers = 128MB
jit = off
wal_level = minimal
max_wal_senders = 0
log_checkpoints = off
timezone = 'UTC'
log_timezone = 'UTC'
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is waited for, in seconds, and how long the server's log may be."""

    start: float = 600
    """Until a server answers; after a crash it first replays its log."""
    stop: float = 120
    """Until it has written its last checkpoint."""
    orphans: float = 60
    """Until processes whose postmaster was killed have ended what they were doing."""
    log_bytes: int = 10_000_000
    """A longer log is put aside before a start."""


_DEFAULT_LIMITS = Limits()


@asynccontextmanager
async def embedded_server(folder: Path, limits: Limits = _DEFAULT_LIMITS) -> AsyncIterator[str]:
    """The URL of a running server whose data lie under ``folder``.

    Raises:
        DatabaseUnavailable: there is no PostgreSQL to run, or it does not start.
        StateDirectoryError: the folder cannot be used.
    """
    server = EmbeddedServer(*await anyio.to_thread.run_sync(prepare_home, folder), limits)
    with server.open_lock("users.lock") as users:
        try:
            async with server.start_lock() as lock:
                users.acquire_shared()
                await server.ensure_running(lock)
            yield server.url
        finally:
            await server.leave(users)


class EmbeddedServer:
    """One cluster on disk and the server that may be running on it."""

    def __init__(self, root: Path, account: Account, limits: Limits) -> None:
        self._root = root
        self._data = root / "data"
        self._log = root / "server.log"
        self._account = account
        self._limits = limits

    @property
    def url(self) -> str:
        return f"postgresql:///codelupe?host={quote(str(self._socket_folder()))}&port={PORT}&user=codelupe"

    @contextmanager
    def open_lock(self, name: str) -> Iterator[FileLock]:
        """A lock file in the root folder; its end gives up the lock, unless a child process has it too."""
        with ExitStack() as stack:
            with reporting_file_errors(self._root):
                lock = stack.enter_context(open_lock(self._root / name, mode=0o600))
                self._give(lock.descriptor)
            yield lock

    @asynccontextmanager
    async def start_lock(self) -> AsyncIterator[FileLock]:
        """Held while the server is started or stopped."""
        with self.open_lock("start.lock") as lock:
            while not lock.try_acquire():  # noqa: ASYNC110 - another process frees it, no event tells
                await anyio.sleep(0.05)
            yield lock

    async def ensure_running(self, lock: FileLock) -> None:
        """Adopt the running server or start one, and wait until it answers."""
        try:
            with anyio.fail_after(self._limits.start):
                while (state := await self._state()) != "ready":
                    if state == "absent" and self._postmaster() is None:
                        await self._start(lock)
                    await anyio.sleep(0.05)
        except TimeoutError:
            raise self._failure(
                f"the server did not answer within {self._limits.start:g} s", self._log_tail(0)
            ) from None

    async def leave(self, users: FileLock) -> None:
        """Give up the shared lock; the last to do so stops the server. Not being able to stop it loses nothing."""
        with anyio.move_on_after(self._limits.stop, shield=True):
            async with self.start_lock():
                try:
                    if users.try_acquire():
                        await self._stop()
                except (DatabaseUnavailable, StateDirectoryError) as error:
                    log.warning("postgres_not_stopped", folder=str(self._root), reason=error.message)
                finally:
                    users.release()

    async def _stop(self) -> None:
        """Stop the server if it runs: connections are cut, what is committed stays."""
        if self._postmaster() is not None:
            binaries = await self._binaries()
            pg_ctl, socket = str(binaries.folder / "pg_ctl"), self._socket_folder()
            await self._run(pg_ctl, "stop", "-D", "data", "-m", "fast", "-t", f"{self._limits.stop:.0f}")
            with suppress(OSError):
                socket.rmdir()
            log.info("postgres_stopped", folder=str(self._root))

    async def _state(self) -> Literal["ready", "busy", "absent"]:
        """Whether a server of these data answers. It leaves its pid file only when it ends by itself."""
        if not self._pid_file():
            return "absent"
        try:
            connection = await asyncpg.connect(self.url, timeout=10)
        except asyncpg.InvalidCatalogNameError:
            await self._create_database()
        except asyncpg.TooManyConnectionsError:
            pass
        except (asyncpg.CannotConnectNowError, TimeoutError):
            return "busy"
        except (OSError, asyncpg.PostgresConnectionError):
            return "absent"
        else:
            await connection.close()
        return "ready"

    async def _create_database(self) -> None:
        createdb = str((await self._binaries()).folder / "createdb")
        socket = str(self._socket_folder())
        await self._run(createdb, "-h", socket, "-p", str(PORT), "-U", "codelupe", "--no-password", "codelupe")

    async def _start(self, lock: FileLock) -> None:
        await self._wait_for_orphans()
        binaries = await self._binaries()
        if not (self._data / "PG_VERSION").exists():
            await self._initialise(binaries, lock)
        with reporting_file_errors(self._root):
            socket = self._make_socket_folder()
            size = self._rotate_log()
        pid = await self._launch(binaries, socket)
        while _is_alive(pid):
            if await self._state() == "ready":
                log.info("postgres_started", folder=str(self._root), version=binaries.version)
                return
            await anyio.sleep(0.05)
        if self._postmaster() is None:
            raise self._failure("the database server did not start", self._log_tail(size))

    async def _launch(self, binaries: Binaries, socket: Path) -> int:
        """Start the server and return its pid. It is not a child of this process, which may end before it.

        A server refuses to start while any process of its user has the pid in a left-over pid file, be it a zombie or
        another process. Its starter's pid it ignores, and learns it from PG_GRANDPARENT_PID: we name the left-over one.
        The server's own check, that no process uses the old one's shared memory, goes on.
        """
        settings = {
            "port": PORT,
            "listen_addresses": "",
            "unix_socket_directories": socket,
            "unix_socket_permissions": "0700",
        }
        command = [str(binaries.folder / "postgres"), "-D", "data", *(f"--{key}={it}" for key, it in settings.items())]
        script = 'umask 077; "$@" >>server.log 2>&1 </dev/null & echo $!'
        left_over = {"PG_GRANDPARENT_PID": pid[0]} if (pid := self._pid_file()) else {}
        environment = {**self._account.process_options["env"], **left_over}
        return int(await self._run("/bin/sh", "-c", script, "sh", *command, env=environment))

    async def _initialise(self, binaries: Binaries, lock: FileLock) -> None:
        """Make the cluster beside its place and move it there when it is whole.

        ``initdb`` holds the start lock too: one that outlives this process is not disturbed by the next.
        """
        unfinished = self._root / "data.init"
        with reporting_file_errors(unfinished):
            await anyio.to_thread.run_sync(remove_tree, unfinished)
        initdb = str(binaries.folder / "initdb")
        locale = ["--encoding=UTF8", "--locale=C", "--lc-ctype=C.UTF-8"]
        await self._run(initdb, "-D", "data.init", "-U", "codelupe", "-A", "trust", *locale, pass_fds=[lock.descriptor])
        with reporting_file_errors(self._data):
            await anyio.to_thread.run_sync(self._finish_initialising, unfinished)

    def _finish_initialising(self, unfinished: Path) -> None:
        with (unfinished / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        move_into_place(unfinished, self._data)

    async def _wait_for_orphans(self) -> None:
        """Wait until no process of a killed server is left: two at work on the same data would ruin them."""
        with anyio.move_on_after(self._limits.orphans):
            while orphans := self._server_processes():
                log.info("postgres_orphans_awaited", pids=orphans)
                await anyio.sleep(0.25)
            return
        raise DatabaseUnavailable(
            f"the database server was killed, but {len(orphans)} of its processes still run",
            hint=f"Wait until they end or end them with: kill {' '.join(map(str, orphans))}",
        )

    def _postmaster(self) -> int | None:
        """The pid of the server that runs on these data."""
        lines = self._pid_file()
        pid = int(lines[0]) if lines and lines[0].isdecimal() else None
        return pid if pid is not None and self._is_server_process(pid) else None

    def _server_processes(self) -> list[int]:
        pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [pid for pid in pids if self._is_server_process(pid)]

    def _is_server_process(self, pid: int) -> bool:
        """A pid alone says nothing, for pids are used again: a server process works inside its data folder."""
        try:
            is_postgres = Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
            return is_postgres and Path(f"/proc/{pid}/cwd").samefile(self._data)
        except OSError:
            return False

    def _pid_file(self) -> list[str]:
        """Its lines: pid, data folder, start time, port, socket folder, address, shared memory, state."""
        try:
            return (self._data / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return []

    def _socket_folder(self) -> Path:
        """Where the running server listens, or else where the next one will."""
        if self._postmaster() is not None and len(lines := self._pid_file()) > 4 and lines[4]:
            return Path(lines[4])
        return choose_socket_folder(self._root)

    def _make_socket_folder(self) -> Path:
        folder = self._socket_folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), self._account.uid):
            raise StateDirectoryError(f"{folder} is in the way", hint="Remove it: the database's socket belongs there.")
        folder.chmod(0o700)
        self._give(folder)
        return folder

    def _rotate_log(self) -> int:
        """Put a long log aside; returns the size of what is there."""
        size = self._log.stat().st_size if self._log.exists() else 0
        if size < self._limits.log_bytes:
            return size
        move_into_place(self._log, self._log.with_suffix(".log.1"), replace=True)
        return 0

    def _log_tail(self, offset: int) -> str:
        try:
            with self._log.open("rb") as file:
                file.seek(max(offset, self._log.stat().st_size - _QUOTED_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-10:])

    def _give(self, path: Path | int) -> None:
        if os.geteuid() == 0:
            os.chown(path, self._account.uid, self._account.gid)

    async def _binaries(self) -> Binaries:
        version = self._data / "PG_VERSION"
        major = int(version.read_text()) if version.exists() else None
        copies = self._root / "program"
        with reporting_file_errors(copies):
            return await anyio.to_thread.run_sync(find_binaries, self._account, copies, major)

    async def _run(self, *command: str, **options: Any) -> str:
        """The output of a program that runs inside the root folder, where relative paths need no quoting.

        Raises:
            DatabaseUnavailable: it failed; its output is quoted.
        """
        program = Path(command[0]).name
        options = {**self._account.process_options, "cwd": self._root, **options}
        try:
            done = await anyio.run_process(command, check=False, stderr=asyncio.subprocess.STDOUT, **options)
        except OSError as error:
            raise self._failure(f"{program} cannot be run", str(error)) from error
        output = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise self._failure(f"{program} failed", output)
        return output

    def _failure(self, what: str, output: str) -> DatabaseUnavailable | StateDirectoryError:
        message = f"{what}, in {self._root}: {output.strip() or 'no reason was given'}"
        if any(mark in output for mark in _FULL_DISK_MARKS):
            return StateDirectoryError(message, hint="Free some space; nothing is lost.")
        return DatabaseUnavailable(message, hint=f"The server's own log is {self._log}.")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

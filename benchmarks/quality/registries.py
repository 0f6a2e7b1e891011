"""Packages of PyPI, npm and Debian, fetched by the registries' own clients and read without unpacking them.

Nothing of a package is run: pip takes wheels only, ``npm pack`` and ``apt-get download`` only fetch.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from codelupe.storage.atomic import move_into_place

_SECONDS = 300


class FetchError(Exception):
    """A package cannot be had; the message names it, its registry and what the client said."""


@dataclass(frozen=True, order=True)
class Package:
    registry: str
    """``pypi``, ``npm`` or ``debian``."""
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.registry})"


def _pip(package: Package, folder: Path) -> list[str]:
    """The wheel for CPython 3.11 on Linux, whatever this machine is."""
    platforms = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--only-binary", ":all:", "--python-version", "3.11"),
        *(option for platform in platforms for option in ("--platform", platform)),
        *("--dest", str(folder), f"{package.name}=={package.version}"),
    ]


def _npm(package: Package, folder: Path) -> list[str]:
    return ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{package.name}@{package.version}"]


def _apt(package: Package, _: Path) -> list[str]:
    return ["apt-get", "download", "--quiet", f"{package.name}={package.version}"]


_CLIENTS: dict[str, Callable[[Package, Path], list[str]]] = {"pypi": _pip, "npm": _npm, "debian": _apt}


def fetch(package: Package, cache: Path) -> Path:
    """The package's archive, fetched unless it lies in the cache.

    Raises:
        FetchError: its registry cannot be reached, or has no such package.
    """
    home = cache / package.registry / quote(f"{package.name}@{package.version}", safe="@")
    kept = next(home.glob("*"), None)
    if kept is None:
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            archive = _download(package, Path(folder))
            kept = home / archive.name
            move_into_place(archive, kept, replace=True)
    return kept


def _download(package: Package, folder: Path) -> Path:
    command = _CLIENTS[package.registry](package, folder)
    if shutil.which(command[0]) is None:
        raise FetchError(f"{package} needs {command[0]}, which is not on this machine")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{package}: no answer in {_SECONDS} s") from error
    found = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode or len(found) != 1:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing came"]
        raise FetchError(f"{package} cannot be fetched: {said[-1]}")
    return found[0]


def read(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The path and content of each file in a wheel, an npm tarball or a Debian package."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist() if not name.endswith("/"))
    elif archive.suffix == ".deb":
        unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
            yield from _read_tar(tar)
    else:
        with tarfile.open(archive) as tar:
            yield from _read_tar(tar)


def _read_tar(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        content = archive.extractfile(member) if member.isfile() else None
        if content is not None:
            yield member.name, content.read()

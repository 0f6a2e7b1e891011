"""What GitHub publishes about its APIs, and what others recorded of them: fetched when tests need it, kept nowhere."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.registries import FetchError, Package, fetch, read
from tests.made_once import made_once, shared_temporary_folder

OPENAPI = Package("npm", "@octokit/openapi", "23.0.2")
GRAPHQL = Package("npm", "@octokit/graphql-schema", "15.26.1")
FETCHED_S = 300
"""Seconds after which what is fetched does not come any more."""


def unavailable(reason: object) -> None:
    """Skip the test; in continuous integration nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(reason))
    pytest.skip(str(reason))


def published(package: Package, file: str, factory: pytest.TempPathFactory) -> bytes:
    """A file of a package, fetched once in a run of the tests."""
    try:
        archive = fetch(package, shared_temporary_folder(factory) / "published")
    except FetchError as error:
        unavailable(error)
    return next(text for name, text in read(archive) if name == file)


@dataclass(frozen=True)
class Recorded:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    content: Any


def recorded_by_github3(factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """What github3.py's tests recorded."""
    for name, text in files_of_release("github3.py==4.0.1", factory):
        if "/cassettes/" in name:
            for exchange in json.loads(text)["http_interactions"]:
                response = exchange["response"]
                headers = {name.lower(): first(value) for name, value in response["headers"].items()}
                status = response["status"]["code"] if "status" in response else response["status_code"]
                yield Recorded(status, headers, content_of(response["body"]))


def recorded_by_pygithub(factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """What PyGithub's tests recorded: ten lines an exchange, of which the eighth is the status."""
    for name, text in files_of_release("PyGithub==2.10.0", factory):
        lines = iter(text.decode(errors="replace").split("\n") if "/ReplayData/" in name else [])
        for line in lines:
            if line in ("https", "http"):
                exchange = [next(lines) for _ in range(9)]
                headers = {name.lower(): str(value) for name, value in ast.literal_eval(exchange[7])}
                yield Recorded(int(exchange[6]), headers, as_json(exchange[8]))


def files_of_release(requirement: str, factory: pytest.TempPathFactory) -> Iterator[tuple[str, bytes]]:
    """The files of a source release, fetched once in a run of the tests."""

    def download(folder: Path) -> None:
        name = requirement.partition("==")[0]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
        command += ["--dest", str(folder), requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCHED_S, check=False)
        if done.returncode:
            unavailable(f"{requirement} cannot be fetched: {done.stderr.strip().splitlines()[-1]}")

    folder = made_once(shared_temporary_folder(factory) / requirement.replace("==", "-"), download)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


def first(value: str | list[str]) -> str:
    return value if isinstance(value, str) else value[0]


def content_of(body: Mapping[str, str]) -> Any:
    """None if it is no JSON."""
    raw = base64.b64decode(body["base64_string"]) if "base64_string" in body else body["string"].encode()
    return as_json(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)


def as_json(text: str | bytes) -> Any:
    """None if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def repositories_in(answer: Any) -> Iterator[dict[str, Any]]:
    if isinstance(answer, list):
        for one in answer:
            yield from repositories_in(one)
    elif isinstance(answer, dict):
        if "full_name" in answer and "stargazers_count" in answer:
            yield answer
        yield from repositories_in(answer.get("items"))

"""Running the clients of registries, with all of their own configuration, for a limited time and output."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL
from typing import NamedTuple

import anyio
import anyio.abc

from codelupe_crawler.registries.archives import MAX_ARCHIVE_BYTES
from codelupe_crawler.registries.release import RegistryFailed

_MAX_OUTPUT_BYTES = 16 << 20


class Ended(NamedTuple):
    """How a client ended, and what it printed."""

    status: int
    output: bytes


async def run_client(name: str, command: Sequence[str], *, within: float, folder: Path | None = None) -> Ended:
    """Run a client to its end, in that folder; cancelled or late, nothing of it is left.

    No file that it writes grows beyond the size of an archive. What it complains about is not read, for it may name an
    address with a password in it.

    Raises:
        RegistryFailed: it cannot be started, takes longer than ``within`` seconds, or says too much.
    """
    try:
        with anyio.fail_after(within):
            process = await anyio.open_process(
                command, cwd=folder, stdin=DEVNULL, stderr=DEVNULL, start_new_session=True
            )
            try:
                with suppress(ProcessLookupError):
                    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MAX_ARCHIVE_BYTES, MAX_ARCHIVE_BYTES))
                output = await _read(name, process)
                return Ended(await process.wait(), output)
            finally:
                await _end(process)
    except TimeoutError:
        raise RegistryFailed(f"{name} took longer than {within:g} seconds") from None
    except OSError as error:
        raise RegistryFailed(f"{name} cannot be started: {error.strerror}") from error


async def _read(name: str, process: anyio.abc.Process) -> bytes:
    output = bytearray()
    assert process.stdout is not None
    async for chunk in process.stdout:
        output += chunk
        if len(output) > _MAX_OUTPUT_BYTES:
            raise RegistryFailed(f"{name} answered with more than {_MAX_OUTPUT_BYTES >> 20} MiB")
    return bytes(output)


async def _end(process: anyio.abc.Process) -> None:
    """Kill it with all that it has started, unless it has ended."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()

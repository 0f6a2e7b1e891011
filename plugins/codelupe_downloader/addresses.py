"""Which hosts may be asked for a repository that some source has named."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote

import anyio
import anyio.to_thread

from codelupe_downloader.git import RepositoryRefused


class NotPublic(RepositoryRefused):
    """The host is one of this machine or its network."""


async def require_public(host: str) -> None:
    """Make sure that no address of the host is one of this machine or its network.

    What a name leads to that is not known here, such as behind a proxy, is left to git.

    Raises:
        NotPublic: one is.
        codelupe_downloader.git.RepositoryRefused: the name is none.
    """
    if "[" in host:
        raise RepositoryRefused(f"{host!r} is no name of a host")
    try:
        found = await anyio.to_thread.run_sync(socket.getaddrinfo, host, None, abandon_on_cancel=True)
    except UnicodeError as error:
        raise RepositoryRefused(f"{host!r} is no name of a host") from error
    except OSError:
        return
    for address in (ip_address(str(each[4][0]).partition("%")[0]) for each in found):
        if not _outward(address).is_global:
            raise NotPublic(f"{host} is at {address}, on this machine or its network")


def missing_folder(url: str) -> str | None:
    """Where the repository of a ``file`` URL, or an absolute path, should be, if there is nothing."""
    path = "/" + unquote(url[7:]).partition("/")[2] if url[:7].lower() == "file://" else url
    return path if path.startswith("/") and not os.path.exists(path) else None  # noqa: PTH110 - takes any text


def _outward(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that one of IPv6 stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or address.sixtofour or _translated(address) or address


def _translated(address: IPv6Address) -> IPv4Address | None:
    """As gateways between IPv6 and IPv4 do (RFC 6052)."""
    is_so = address.packed.startswith(bytes.fromhex("0064ff9b0000000000000000"))
    return IPv4Address(address.packed[-4:]) if is_so else None

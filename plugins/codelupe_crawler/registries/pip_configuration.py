"""Where pip looks for packages, and how it gets there, as pip itself says."""

from __future__ import annotations

import ast
import re
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from codelupe_crawler.registries.clients import run_client
from codelupe_crawler.registries.release import RegistryFailed

PYPI = "https://pypi.org/simple"
_LINE = re.compile(r"^(global|download|:env:)\.([\w-]+)=(.*)$", re.MULTILINE)
_SECTIONS = ("global", "download", ":env:")
"""In the order in which pip lets the later win."""


@dataclass(frozen=True, kw_only=True)
class PipConfiguration:
    """The part of pip's configuration that is about indexes; ``credentials`` are by host and port."""

    indexes: tuple[str, ...]
    credentials: Mapping[str, tuple[str, str]]
    proxy: str | None = None
    trusted_hosts: frozenset[str] = frozenset()
    certificates: str | None = None
    client_certificate: str | None = None

    def tls(self, *, trusted: bool) -> ssl.SSLContext:
        """How a host is known; a trusted one is not asked for its certificate.

        Raises:
            RegistryFailed: a file of certificates cannot be read.
        """
        place = self.certificates
        try:
            is_folder = place is not None and Path(place).is_dir()
            context = ssl.create_default_context(
                cafile=None if is_folder else place, capath=place if is_folder else None
            )
            if self.client_certificate:
                context.load_cert_chain(self.client_certificate)
        except OSError as error:
            raise RegistryFailed(f"the certificates that pip is to use cannot be read: {error.strerror}") from error
        if trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


async def ask_pip(within: float) -> PipConfiguration:
    """What the pip beside this Python is configured to do.

    Raises:
        RegistryFailed: pip cannot be asked.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    ended = await run_client("pip", command, within=within)
    if ended.status != 0:
        raise RegistryFailed(f"`pip config list` ended with status {ended.status}; run it to see why")
    return read_configuration(ended.output.decode(errors="replace"))


def read_configuration(text: str) -> PipConfiguration:
    """What ``pip config list`` has printed.

    Raises:
        RegistryFailed: it makes no sense, or forbids every index.
    """
    values = _values(text)
    if values.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        raise RegistryFailed("pip's configuration says `no-index`, so there is no index to ask")
    addresses = [values.get("index-url") or PYPI, *values.get("extra-index-url", "").split()]
    split = [_without_credentials(address) for address in addresses]
    return PipConfiguration(
        indexes=tuple(dict.fromkeys(address for address, _ in split)),
        credentials={place: found for address, found in split if found for place in [host_of(address)]},
        proxy=values.get("proxy") or None,
        trusted_hosts=frozenset(values.get("trusted-host", "").split()),
        certificates=values.get("cert") or None,
        client_certificate=values.get("client-cert") or None,
    )


def host_of(url: str) -> str:
    """Host and port, as they stand in the URL."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _values(text: str) -> dict[str, str]:
    by_section: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for section, name, value in _LINE.findall(text):
        try:
            by_section[section][name] = str(ast.literal_eval(value))
        except (ValueError, SyntaxError):
            raise RegistryFailed(f"`pip config list` says of {name} what cannot be read") from None
    return {name: value for section in _SECTIONS for name, value in by_section[section].items()}


def _without_credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    parts = urlsplit(url.rstrip("/"))
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return parts.geturl(), None
    name, _, password = user.partition(":")
    return parts._replace(netloc=host).geturl(), (unquote(name), unquote(password))

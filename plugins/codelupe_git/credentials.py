"""What git proves to a host who asks: lent to one process of git, never written anywhere."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

_USERINFO = re.compile(r"(?<=://)(?![^/@:]*:\d*(?:/|$))(?P<user>[^/@:]*)(?::(?P<password>[^/]*|.*))?@")
"""What stands before the host, also where a password holds an ``@`` or a ``/`` that should have been escaped."""
_LINE_BREAKS = re.compile(r"[\r\n\0]")
_HELPER = '!f() {{ test "$1" = get && cat /proc/self/fd/{descriptor}; }}; f'


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A user's name and password, or token, for one host."""

    address: str
    """``https://host`` or ``https://host:port``: git sends it there and nowhere else."""
    username: str
    password: SecretStr

    def hidden_in(self, text: str) -> str:
        """The text, without what a host may have repeated of the secret."""
        plain = self.password.get_secret_value()
        spoken = f"{self.username}:{plain}"
        for secret in (plain, quote(plain, safe=""), base64.b64encode(spoken.encode()).decode()):
            text = text.replace(secret, "***") if secret else text
        return text


class NoCredential(ValueError):
    """A line is not of the form ``https://user:token@host``; the text does not quote it."""


def read_credentials(lines: str) -> dict[str, Credential]:
    """By address, those that are written as in the file of git-credential-store(1).

    Raises:
        NoCredential: a line is something else.
    """
    found = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        _, credential = without_credential(line.strip())
        if credential is None or not credential.username:
            raise NoCredential(f"line {number} is not https://user:token@host")
        found[credential.address] = credential
    return found


def without_credential(url: str) -> tuple[str, Credential | None]:
    """The URL without what it says of a user, and that as a credential, if it is one that HTTP takes.

    The name of a user stays for ssh, which needs it.
    """
    scheme = url.partition("://")[0].lower()
    match = _USERINFO.search(url)
    if match is None:
        return url, None
    if scheme not in ("http", "https"):
        kept = f"{match['user']}@" if "ssh" in scheme else ""
        return _USERINFO.sub(kept, url, count=1), None
    bare = _USERINFO.sub("", url, count=1)
    username, password = unquote(match["user"]), unquote(match["password"] or "")
    if _LINE_BREAKS.search(username + password):
        return bare, None
    return bare, Credential(address=address_of(bare), username=username, password=SecretStr(password))


def address_of(url: str) -> str:
    """Scheme, host and port of a URL; empty for what has none, such as a path."""
    scheme, separator, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}://{host}".lower() if separator and host else ""


def host_of(url: str) -> str | None:
    """The name of the host that is asked for the URL; None for what lies on this machine."""
    if url.partition("://")[0].lower() == "file":
        return None
    if "://" in url:
        try:
            return urlsplit(url).hostname
        except ValueError:
            return None
    before, colon, _ = url.partition(":")
    return before.rpartition("@")[2].lower() if colon and "/" not in before else None


@contextmanager
def lent(credential: Credential | None) -> Iterator[tuple[list[str], list[int]]]:
    """Options of git by which it finds the credential when its host asks for it, and descriptors that it is to inherit.

    It lies in memory that has no name, and git is told where: neither a command line nor an environment has it.
    """
    if credential is None:
        yield [], []
        return
    descriptor = os.memfd_create("codelupe")
    try:
        os.write(
            descriptor, f"username={credential.username}\npassword={credential.password.get_secret_value()}\n".encode()
        )
        helper = _HELPER.format(descriptor=descriptor)
        yield ["-c", f"credential.{credential.address}.helper={helper}"], [descriptor]
    finally:
        os.close(descriptor)

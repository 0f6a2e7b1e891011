"""Hides secrets in whatever is logged or shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from structlog.typing import EventDict, WrappedLogger

from codelupe.postgres.address import is_address

_SECRET_WORDS = {"password", "passwd", "passphrase", "secret", "token", "authorization", "credential", "credentials"}
_SECRET_NAMES = {"api_key", "apikey", "private_key", "access_key", "cookie"}
_URL = re.compile(r"[A-Za-z][\w+.-]{0,30}://[^\s'\"<>]+")
"""Bounded, for a word of a million letters must not be searched from each of them to its end."""
_PASSWORD = re.compile(r"(://[^:/@]*):(?:[^/]{0,1000}|[^@]{0,1000})@")
_BARE_TOKEN = re.compile(r"^(https?://)[^/:@]+@")
_PARAMETER = re.compile(r"(password=)[^&]*")
_DATABASE = re.compile(r"(postgres(?:ql)?://)([^\s'\"]*)([^\n'\"]*)")
"""With what follows on the line or in the quotation: nothing tells where a password with a space in it ends."""
_REDACTED = "***"


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return cast("EventDict", _without_secrets(event))


def _without_secrets(value: Any) -> Any:
    """The value in terms of JSON; what is neither text, number nor container is shown as text."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redact_text(value)
        case Mapping():
            return {str(key): _REDACTED if _is_secret(key) else _without_secrets(it) for key, it in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_without_secrets(each) for each in value]
        case _:
            return _without_secrets(str(value))


def redact_text(text: str) -> str:
    """The text with every password and token hidden that stands in a URL."""
    return _URL.sub(lambda url: _redact_url(url[0]), _DATABASE.sub(_redact_address, text))


def _redact_address(match: re.Match[str]) -> str:
    """Nothing of it stays unless it is clear where it ends and which part of it is the password."""
    scheme, address, rest = match.groups()
    is_clear = address.count("@") <= 1 and "@" not in rest and not (rest and "password=" in address)
    return match[0] if is_clear and is_address(scheme + address) else scheme + _REDACTED


def _redact_url(url: str) -> str:
    url = _PASSWORD.sub(rf"\1:{_REDACTED}@", _BARE_TOKEN.sub(rf"\1{_REDACTED}@", url))
    return _PARAMETER.sub(rf"\1{_REDACTED}", url)


def _is_secret(key: object) -> bool:
    name = str(key).lower().replace("-", "_")
    return name in _SECRET_NAMES or not _SECRET_WORDS.isdisjoint(name.split("_"))

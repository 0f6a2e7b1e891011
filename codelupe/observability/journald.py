"""Sends log records to the journal by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codelupe.observability.systemd import send_datagram

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
LONGEST_VALUE = 32_768
"""Characters of a field that the journal gets; a datagram holds about 200 KiB."""
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""Syslog's, as syslog(3) numbers them."""


def send_to_journal(event: Mapping[str, Any], *, otherwise: Callable[[str], None]) -> None:
    """Send a record by systemd.io/JOURNAL_NATIVE_PROTOCOL; when the journal is away it goes to stderr instead."""
    try:
        send_datagram(b"".join(_encode(name, text) for name, text in _fields(event)), str(JOURNAL_SOCKET))
    except OSError:
        otherwise(json.dumps(event))


def _fields(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    details = {key: _text(value) for key, value in event.items() if key not in ("event", "level", "exception")}
    shown = [f"{key}={text}" for key, text in details.items() if key not in ("logger", "plugin")]
    yield "MESSAGE", " ".join([str(event["event"]), *shown])
    yield "PRIORITY", str(_PRIORITIES[event["level"]])
    yield "SYSLOG_IDENTIFIER", "codelupe"
    yield "CODELUPE_EVENT", str(event["event"])
    for key, text in details.items():
        yield _field_name(key), text
    if "exception" in event:
        yield "CODELUPE_TRACEBACK", str(event["exception"])


def _field_name(key: str) -> str:
    """Upper-case letters, digits and underscores, at most 64: the journal drops any other."""
    return f"CODELUPE_{re.sub(r'[^A-Z0-9]', '_', key.upper())}"[:64]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _encode(name: str, text: str) -> bytes:
    """``NAME=value``, or with a length before the value when that has more than one line."""
    if len(text) > LONGEST_VALUE:
        text = f"{text[:LONGEST_VALUE]}… [{len(text) - LONGEST_VALUE} more characters]"
    value = text.encode(errors="backslashreplace")
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
    return b"%b=%b\n" % (name.encode(), value)

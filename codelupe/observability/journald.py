"""Sends log records to the journal: by systemd-python where it is installed (extra ``systemd``), else by ourselves.

Ours speaks the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) as far as it fits into a datagram.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codelupe.observability.systemd import send_datagram

try:
    from systemd.journal import sendv
except ImportError:
    sendv = None

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
LONGEST_VALUE = 32_768
"""Characters of a field that the journal gets; a datagram holds about 200 KiB."""
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""Syslog's, as syslog(3) numbers them."""


def send_to_journal(event: Mapping[str, Any], *, otherwise: Callable[[str], None]) -> None:
    """Send a record; when the journal is away it goes ``otherwise`` instead."""
    fields = [(name.encode(), _shortened(text).encode(errors="backslashreplace")) for name, text in _fields(event)]
    try:
        if sendv is not None and JOURNAL_SOCKET.is_socket():  # without one, it would say that all went well
            sendv(*(b"%b=%b" % field for field in fields))
        else:
            send_datagram(b"".join(_encode(*field) for field in fields), str(JOURNAL_SOCKET))
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


def _shortened(text: str) -> str:
    more = len(text) - LONGEST_VALUE
    return text if more <= 0 else f"{text[:LONGEST_VALUE]}… [{more} more characters]"


def _encode(name: bytes, value: bytes) -> bytes:
    """``NAME=value``, or with a length before the value when that has more than one line."""
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name, len(value).to_bytes(8, "little"), value)
    return b"%b=%b\n" % (name, value)

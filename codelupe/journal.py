"""Logs, and the word with systemd: readiness and the watchdog.

A record is an event's name plus fields. It goes to the journal as fields of its own (``journalctl
CODELUPE_PLUGIN=crawler``), to a terminal in colour, and anywhere else as a line of JSON. Records of the standard
library's loggers take the same way. Secrets are removed before any of it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from codelupe.errors import ConfigurationError
from codelupe.postgres.database import redact_url

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
LONGEST_VALUE = 32_768
"""Characters of a field that the journal gets; a datagram holds about 200 KiB."""

_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""Syslog's, as syslog(3) numbers them."""
_SECRET_WORDS = {"password", "passwd", "passphrase", "secret", "token", "authorization", "credential", "credentials"}
_SECRET_NAMES = {"api_key", "apikey", "private_key", "access_key", "cookie"}
_URL = re.compile(r"[A-Za-z][\w+.-]{0,30}://[^\s'\"<>]+")
"""Bounded, for a word of a million letters must not be searched from each of them to its end."""
_BARE_TOKEN = re.compile(r"^(https?://)[^/:@]+@")
_REDACTED = "***"
_SYSTEMD_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

_hidden: dict[str, str] = {}

log = structlog.get_logger(__name__)

LogFormat = Literal["auto", "console", "json", "journal"]


# --- logs ---


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Send all log records from ``level`` on where ``log_format`` says.

    ``auto`` is the journal when stderr leads there, the console when stderr is a terminal, JSON lines otherwise.

    Raises:
        ConfigurationError: the journal is asked for and there is none.
    """
    chosen = _detect_format() if log_format == "auto" else log_format
    write, renderers = _OUTPUTS[chosen]()
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _add_origin,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            _redact,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda name="": _Output(name, write),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_StandardLibrary()], level=threshold, force=True)


def _detect_format() -> str:
    """How sd_journal_stream(3) advises: the variable names the device and inode that stderr has in the journal."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return "json"
    if os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" and JOURNAL_SOCKET.exists():
        return "journal"
    return "console" if sys.stderr.isatty() else "json"


class _Output:
    """The last link of a structlog logger: its name, and where rendered records go."""

    def __init__(self, name: str, write: Callable[[Any], None]) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = self.msg = write


class _StandardLibrary(logging.Handler):
    """Hands records of the standard library's loggers on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                _structlog_level(record.levelno), record.getMessage(), logger=record.name, exc_info=record.exc_info
            )
        except Exception:  # noqa: BLE001 - the standard library's rule for handlers
            self.handleError(record)


def _structlog_level(number: int) -> int:
    """Libraries may use levels of their own; structlog knows the five standard ones."""
    return max(logging.DEBUG, min(number // 10 * 10, logging.CRITICAL))


def _add_origin(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The logger's name, and the plugin: the first part of the stage's name or of the logger's."""
    if logger.name:
        event.setdefault("logger", logger.name)
    source = event.get("stage") or logger.name.removeprefix("codelupe_")
    plugin = str(source).partition(".")[0]
    if plugin not in ("", "codelupe"):
        event.setdefault("plugin", plugin)
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
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
    return _URL.sub(lambda url: _BARE_TOKEN.sub(rf"\1{_REDACTED}@", redact_url(url[0])), text)


def _is_secret(key: object) -> bool:
    name = str(key).lower().replace("-", "_")
    return name in _SECRET_NAMES or not _SECRET_WORDS.isdisjoint(name.split("_"))


# --- where records go ---


def _to_console() -> tuple[Callable[[Any], None], list[Processor]]:
    def drop_plugin(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.pop("plugin", None)
        return event

    renderer = structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
    )
    return _print, [structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False), drop_plugin, renderer]


def _to_json() -> tuple[Callable[[Any], None], list[Processor]]:
    return _print, [structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()]


def _to_journal() -> tuple[Callable[[Any], None], list[Processor]]:
    if not JOURNAL_SOCKET.is_socket():
        raise ConfigurationError(
            f"log_format = 'journal', but there is no journal at {JOURNAL_SOCKET}",
            hint="Use 'auto', 'console' or 'json'.",
        )
    return _send_to_journal, [lambda _logger, _method, event: ((event,), {})]


_OUTPUTS = {"console": _to_console, "json": _to_json, "journal": _to_journal}


def _print(rendered: str) -> None:
    """Write to what stderr is now, for a live display may have taken its place. A broken pipe stops nobody's work."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{rendered}\n")
        sys.stderr.flush()


def _send_to_journal(event: Mapping[str, Any]) -> None:
    """Send a record by systemd.io/JOURNAL_NATIVE_PROTOCOL; when the journal is away it goes to stderr instead."""
    try:
        _send(b"".join(_encode(name, text) for name, text in _fields(event)), str(JOURNAL_SOCKET))
    except OSError:
        _print(json.dumps(event))


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


# --- systemd ---


def notify(state: str) -> None:
    """Tell the service manager, such as ``READY=1`` (sd_notify(3)). Without one, do nothing."""
    address = _variable("NOTIFY_SOCKET")
    if not address:
        return
    try:
        _send(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError as error:
        log.warning("service_manager_not_told", state=state, reason=str(error))


def watchdog_interval() -> float | None:
    """Seconds within which the service manager must hear ``WATCHDOG=1``; None when it does not watch this process."""
    for_whom = _variable("WATCHDOG_PID")
    if for_whom and for_whom != str(os.getpid()):
        return None
    microseconds = _variable("WATCHDOG_USEC")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) > 0 else None


def hide_service_manager() -> None:
    """Take the service manager's variables out of the environment, so that no child speaks in this process's name."""
    for name in _SYSTEMD_VARIABLES:
        if name in os.environ:
            _hidden[name] = os.environ.pop(name)


def _send(datagram: bytes, address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(1)
        sender.sendto(datagram, address)


def _variable(name: str) -> str:
    return os.environ.get(name) or _hidden.get(name, "")

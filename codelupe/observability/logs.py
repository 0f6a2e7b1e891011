"""Where log records go.

A record is an event's name plus fields. It goes to the journal as fields of its own (``journalctl
CODELUPE_PLUGIN=NAME``), to a terminal in colour, and anywhere else as a line of JSON. Records of the standard
library's loggers take the same way. Secrets are removed before any of it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from codelupe.errors import ConfigurationError
from codelupe.observability import journald
from codelupe.observability.redaction import redact

LogFormat = Literal["auto", "console", "json", "journal"]


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
            redact,
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
    if os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" and journald.JOURNAL_SOCKET.exists():
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
    if not journald.JOURNAL_SOCKET.is_socket():
        raise ConfigurationError(
            f"log_format = 'journal', but there is no journal at {journald.JOURNAL_SOCKET}",
            hint="Use 'auto', 'console' or 'json'.",
        )
    return partial(journald.send_to_journal, otherwise=_print), [lambda _logger, _method, event: ((event,), {})]


_OUTPUTS = {"console": _to_console, "json": _to_json, "journal": _to_journal}


def _print(rendered: str) -> None:
    """Write to what stderr is now, for a live display may have taken its place. A broken pipe stops no work."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{rendered}\n")
        sys.stderr.flush()

"""The page of log events has each that is logged as a warning or worse, with its level, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for room in ("codelupe", "plugins", "events", "sql") for path in (ROOT / room).rglob("*.py")]
PAGE = ROOT / "docs/reference/log-events.md"

_LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error", "critical": "critical"}
"""By method: ``exception`` has no level of its own."""
_LOGGERS = {"log", "logger", "logging", "get_logger", "getLogger"}
"""What loggers are called, but for underscores before the name, and what makes them."""
_UNREADABLE = "?"
"""Stands for an event that is no constant where it is logged, and so cannot be compared with the page."""
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \|$", re.MULTILINE)


class LogEvent(NamedTuple):
    name: str
    level: str


def logged(source: str) -> Iterator[LogEvent]:
    """What a module logs at ``info`` or above."""
    called: set[ast.expr] = set()
    for node in ast.walk(ast.parse(source)):  # a call comes before what is called
        if isinstance(node, ast.Call):
            methods = list(filter(_level, _alternatives(node.func)))
            called.update(methods)
            yield from (LogEvent(name, _level(method)) for method in methods for name in _names(node))
        elif isinstance(node, ast.Attribute) and node not in called and _level(node):
            yield LogEvent(_UNREADABLE, _level(node))


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    """What a conditional expression may be."""
    if isinstance(node, ast.IfExp):
        yield from _alternatives(node.body)
        yield from _alternatives(node.orelse)
    else:
        yield node


def _level(method: ast.expr) -> str:
    """At which it logs; empty if it is no method of a logger's that logs at ``info`` or above."""
    if isinstance(method, ast.Attribute) and _is_logger(method.value):
        return _LEVELS.get(method.attr, "")
    return ""


def _is_logger(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=bound, attr="bind" | "new" | "unbind" | "try_unbind")):
            return _is_logger(bound)
        case ast.Call(func=maker):
            return _is_logger(maker)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lstrip("_") in _LOGGERS
        case _:
            return False


def _names(call: ast.Call) -> Iterator[str]:
    given = [*call.args[:1], *(one.value for one in call.keywords if one.arg == "event")] or [call]
    for event in _alternatives(given[0]):
        match event:
            case ast.Constant(value=str(name)):
                yield name
            case _:
                yield _UNREADABLE


def loggers_by_another_name(source: str) -> Iterator[str]:
    """What a logger is assigned to that would not be known as one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _is_logger(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (ast.unparse(target) for target in targets if not _is_logger(target))


LOGGED = {event for path in SOURCES for event in logged(path.read_text(encoding="utf-8"))}
ROWS = _ROW.findall(PAGE.read_text(encoding="utf-8"))
LISTED = {LogEvent(name, level) for name, level, _, _ in ROWS}


def _severe(events: set[LogEvent]) -> set[LogEvent]:
    return {event for event in events if event.level != "info"}


def test_every_warning_and_every_error_is_on_the_page() -> None:
    assert len(SOURCES) > 150
    assert len(_severe(LOGGED)) > 40
    assert sorted(_severe(LOGGED) - LISTED) == []


def test_every_event_on_the_page_is_logged() -> None:
    assert sorted(LISTED - LOGGED) == []


def test_the_page_has_every_event_once_and_says_what_to_do() -> None:
    tables = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(ROWS) == len(tables), "a row lacks a column"
    assert len(LISTED) == len(ROWS)
    assert [name for name, _, *texts in ROWS if not all(text.endswith(".") for text in texts)] == []


def test_every_logger_is_known_by_its_name() -> None:
    strangers = [name for path in SOURCES for name in loggers_by_another_name(path.read_text(encoding="utf-8"))]
    assert strangers == ["bound"], "a logger that is made for others, which call it `log`"
    assert list(loggers_by_another_name("journal = structlog.get_logger(__name__)")) == ["journal"]


@pytest.mark.parametrize(
    ("source", "events"),
    [
        ("log.warning('gone')", {("gone", "warning")}),
        ("log.error('gone', reason=1, exc_info=error)", {("gone", "error")}),
        ("_log.critical('gone')", {("gone", "critical")}),
        ("self._log.warning('gone')", {("gone", "warning")}),
        ("context.log.exception('gone')", {("gone", "error")}),
        ("self._context.log.error('gone')", {("gone", "error")}),
        ("logger(name).warning('gone')", {("gone", "warning")}),
        ("structlog.get_logger('x').bind(stage=1).error('gone')", {("gone", "error")}),
        ("log.bind(stream=1).warning('gone')", {("gone", "warning")}),
        ("log.warning(event='gone')", {("gone", "warning")}),
        ("(log.debug if known else log.warning)('gone')", {("gone", "warning")}),
        ("(log.error if bad else log.warning if odd else log.debug)('gone')", {("gone", "error"), ("gone", "warning")}),
        ("log.warning('gone' if away else 'back')", {("gone", "warning"), ("back", "warning")}),
        ("Timer(10, lambda: log.critical('late'))", {("late", "critical")}),
        ("log.info('back')", {("back", "info")}),
        ("log.warning(f'{name}_gone')", {("?", "warning")}),
        ("log.warning(name)", {("?", "warning")}),
        ("log.warning(**record)", {("?", "warning")}),
        ("logging.getLogger(__name__).warning('gone')", {("gone", "warning")}),
        ("say = log.warning\nsay('gone')", {("?", "warning")}),
        ("loop.call_soon(log.error, 'gone')", {("?", "error")}),
    ],
)
def test_a_planted_event_is_found(source: str, events: set[tuple[str, str]]) -> None:
    assert set(logged(source)) == events


@pytest.mark.parametrize(
    "source",
    [
        "log.debug('gone')",
        "self._log.append(connection, entries)",
        "task.exception()",
        "warnings.warn('gone')",
        "parser.error('gone')",
        "Finding('database', 'warning', 'gone')",
        "math.log(2)",
    ],
)
def test_what_only_looks_like_one_is_not(source: str) -> None:
    assert list(logged(source)) == []

"""Checks subscriptions, jobs and services when a plugin offers them, rather than when the first event comes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial
from typing import Any

from codelupe.work.subscriptions import BatchSubscription, Job, Service, Subscription
from codelupe_events import Event

Declaration = Subscription | BatchSubscription | Job | Service

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NUMBERS = ("concurrency", "size", "version")
_DURATIONS = ("every", "timeout", "grace")
_CHOICES = ("dead_letter_blocks_stream", "from_now", "replayable", "leader")


def check_declaration(plugin: str, offered: Declaration) -> Declaration:
    """What the plugin offers, under its full name and with its events as tuples.

    Raises:
        TypeError: a field has a value of the wrong type, or a function cannot be called as it will be.
        ValueError: a value is out of range.
    """
    if not _NAME.fullmatch(offered.name):
        raise ValueError(f"the name {offered.name!r} must be of letters, digits, underscores and hyphens, 64 at most")
    declaration = replace(offered, name=f"{plugin}.{offered.name}")
    _check_numbers(declaration)
    match declaration:
        case Subscription() | BatchSubscription():
            arguments = "(event, context)" if isinstance(declaration, Subscription) else "(events, context)"
            _check_function(declaration, declaration.handler, arguments)
            return replace(
                declaration, events=_event_classes(declaration, "events"), emits=_event_classes(declaration, "emits")
            )
        case Job():
            _check_function(declaration, declaration.run, "(context)")
            return replace(declaration, emits=_event_classes(declaration, "emits"))
        case Service():
            _check_function(declaration, declaration.run, "(context)")
            return declaration


def _check_numbers(declaration: Declaration) -> None:
    for name in _NUMBERS:
        _check_count(declaration, name, getattr(declaration, name, 1))
    for each in fields(declaration):
        value = getattr(declaration, each.name)
        is_unlimited = each.name == "timeout" and value is None
        if each.name in _DURATIONS and not is_unlimited:
            _check_duration(declaration, each.name, value, least=timedelta(microseconds=1))
        elif each.name in _CHOICES and not isinstance(value, bool):
            raise TypeError(f"{declaration.name}: {each.name} = {value!r} is neither True nor False")
    if isinstance(declaration, Subscription | BatchSubscription):
        retry = declaration.retry
        _check_count(declaration, "retry.attempts", getattr(retry, "attempts", None))
        _check_count(declaration, "retry.crashes", getattr(retry, "crashes", None))
        _check_duration(declaration, "retry.base", getattr(retry, "base", None), least=timedelta(0))
        _check_duration(declaration, "retry.cap", getattr(retry, "cap", None), least=timedelta(0))


def _check_count(declaration: Declaration, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{declaration.name}: {name} = {value!r} is no whole number")
    if value < 1:
        raise ValueError(f"{declaration.name}: {name} = {value} must be at least 1")


def _check_duration(declaration: Declaration, name: str, value: object, *, least: timedelta) -> None:
    if not isinstance(value, timedelta):
        raise TypeError(f"{declaration.name}: {name} = {value!r} is no timedelta")
    if value < least:
        raise ValueError(f"{declaration.name}: {name} = {value!r} must be {'more than' if least else 'at least'} zero")


def _event_classes(declaration: Subscription | BatchSubscription | Job, field: str) -> tuple[type[Event], ...]:
    offered: Any = getattr(declaration, field)
    if isinstance(offered, str) or not isinstance(offered, Iterable):
        raise TypeError(f"{declaration.name}: {field} = {offered!r} is no tuple of event classes")
    events = tuple(offered)
    for event in events:
        if not (isinstance(event, type) and issubclass(event, Event)):
            raise TypeError(f"{declaration.name} names {event!r} where an event class belongs")
    if field == "events" and not events:
        raise ValueError(f"{declaration.name} names no events, so it would never be called")
    return events


def _check_function(declaration: Declaration, function: Callable[..., Any], arguments: str) -> None:
    """That it is async, and takes these arguments."""
    said = f"{declaration.name}: {_name_of(function)}"
    if not callable(function):
        raise TypeError(f"{said} cannot be called")
    if not _is_async(function):
        raise TypeError(f"{said} is not async: write `async def`, without `yield`")
    given = [object()] * (arguments.count(",") + 1)
    try:
        inspect.signature(function, follow_wrapped=False).bind(*given)
    except TypeError as error:
        raise TypeError(f"{said} cannot take {arguments}: {error}") from None


def _is_async(function: Callable[..., Any]) -> bool:
    """Also a partial of a coroutine function, a decorator that wraps one, an object whose ``__call__`` is one."""
    while isinstance(function, partial):
        function = function.func
    unwrapped = inspect.unwrap(function)
    is_function = inspect.isroutine(unwrapped) or inspect.isclass(unwrapped)
    return inspect.iscoroutinefunction(unwrapped if is_function else type(unwrapped).__call__)


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))

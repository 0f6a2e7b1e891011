"""The boundary around what plugins contribute: whatever goes wrong inside names the plugin that offered it.

Each contribution is wrapped where the host gathers it, and looks to those who use it as it is: its class, its fields
and its attributes are those of what is inside. What it raises, and an answer of the wrong type or out of range, comes
out as :class:`ContributionFailed`.

The boundary is in worker processes, too. A contribution travels there as bytes of its own inside of its wrapping, so
that its pickling and its unpickling can fail for it alone. The bytes are made by plain pickle, whatever pickles the
wrapping: worker processes read nothing else, also where an executor's own pickler, which brings the wrapping to another
machine, would take closures as well. On such a way the bytes are passed on unread.
"""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio

from codelupe.errors import CodelupeError, DatabaseUnavailable, LeaseLost, Reject, RetryLater

_PASSES = (RetryLater, Reject, LeaseLost, DatabaseUnavailable)
"""What asynchronous contributions say to the host by raising it."""
_LONGEST_TEXT = 2000
_SENDING = "being sent to a worker process"
_SENDING_HINT = (
    "It is pickled: define its class at the top level of a module that can be imported, and open locks, files and"
    " connections when they are first used."
)


@dataclass(frozen=True)
class Part:
    """What can fail, and be paused, by itself: a subscription, a job or a contribution of a plugin's."""

    plugin: str
    kind: str
    """Such as ``subscription`` or ``file rule``."""
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.plugin}.{self.name}"

    @property
    def only_judges(self) -> bool:
        """Whether it needs nothing but what it is given, so that trying again cannot help."""
        return self.kind in ("repository rule", "file rule", "scorer")

    def __str__(self) -> str:
        return f"{self.kind} {self.full_name}"


class ContributionFailed(CodelupeError):
    """What a plugin contributed raised something, or answered what its contract does not allow; ``part`` says who."""

    code = "contribution-failed"

    def __init__(self, part: Part, subject: str, fault: str, hint: str | None = None) -> None:
        failed = f"the {part.kind} {part.name!r} of the plugin {part.plugin!r} failed on {subject}"
        super().__init__(f"{failed}: {fault}", hint=hint)
        self.part = part
        self._arguments = part, subject, fault, hint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments, self.__dict__


_used: ContextVar[set[Part] | None] = ContextVar("used", default=None)


@contextmanager
def used_parts() -> Iterator[set[Part]]:
    """The contributions that were called inside the block, or sent to worker processes."""
    used: set[Part] = set()
    token = _used.set(used)
    try:
        yield used
    finally:
        _used.reset(token)


_on_load: ContextVar[Callable[[Part | None], None] | None] = ContextVar("on_load", default=None)


@contextmanager
def loading_at_once(on_load: Callable[[Part | None], None]) -> Iterator[None]:
    """Inside the block, contributions that arrive are unpickled at once, and not when they are first used.

    ``on_load`` is told which one is next, and None when it is there: it may end the process.
    """
    token = _on_load.set(on_load)
    try:
        yield
    finally:
        _on_load.reset(token)


def not_sent(part: Part, fault: str) -> ContributionFailed:
    """It could not be pickled, or be unpickled in a worker process."""
    return ContributionFailed(part, _SENDING, fault, _SENDING_HINT)


def is_cancelled_by_host() -> bool:
    """Whether the host is cancelling the task that runs now."""
    return anyio.current_effective_deadline() == -math.inf


def part_of(contribution: object) -> Part | None:
    """Who offered it; None if it was not gathered from plugins."""
    return contribution._part if isinstance(contribution, Guarded) else None  # noqa: SLF001 - it is of this module


_loading = threading.RLock()
"""Only one thread at a time unpickles what arrived; this may load further contributions."""


class Guarded:
    """Looks like the contribution inside.

    Raises:
        TypeError: an attribute that its contract names is of the wrong type.
        ValueError: it is out of range.
    """

    kind: str

    def __init__(self, plugin: str, inner: Any, name: str | None = None) -> None:
        self.name: str = _checked_name(inner.name if name is None else name)
        self._part = Part(plugin, self.kind, self.name)
        self._inner = inner

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._inner)

    @property
    def __dataclass_fields__(self) -> Mapping[str, Any]:
        return getattr(self._inner, "__dataclass_fields__", {})

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":
            return self._load()
        if name in ("_part", "_sent"):
            raise AttributeError(f"this {type(self).__name__} has not been made yet: it has no {name}")
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return f"{self._part} ({self._inner!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        self._note_use()
        state = dict(self.__dict__)
        if "_inner" in state:
            state["_sent"] = self._pickled(state.pop("_inner"))
        return _restore, (type(self), state)

    def __copy__(self) -> Guarded:
        return _restore(type(self), self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Guarded:
        copied = memo[id(self)] = _restore(type(self), {})
        copied.__dict__.update(copy.deepcopy(dict(self.__dict__), memo))
        return copied

    def _pickled(self, inner: Any) -> bytes:
        try:
            return pickle.dumps(inner, pickle.HIGHEST_PROTOCOL)
        except BaseException as error:
            raise self._not_sent(error) from error

    def _load(self) -> Any:
        """What is inside, which arrived as bytes, unless another thread has loaded it by now."""
        with _loading:
            if "_inner" not in self.__dict__:
                self._inner = self._unpickled(self._sent)
                self.__dict__.pop("_sent", None)
            return self._inner

    def _unpickled(self, sent: bytes) -> Any:
        on_load = _on_load.get() or _ignore
        on_load(self._part)
        try:
            inner = pickle.loads(sent)  # noqa: S301 - from the parent
        except MemoryError:  # a worker process ends by it
            raise
        except BaseException as error:
            raise self._not_sent(error) from error
        on_load(None)
        return inner

    def _not_sent(self, error: BaseException) -> ContributionFailed:
        return not_sent(self._part, _describe(error))

    def _note_use(self) -> None:
        used = _used.get()
        if used is not None:
            used.add(self._part)

    def _failed(self, subject: str, fault: str) -> ContributionFailed:
        return ContributionFailed(self._part, subject, fault)

    def _raised(self, subject: str, error: BaseException) -> ContributionFailed:
        """It says what to do, and ends a command, as an error of ours does that came of it."""
        if not isinstance(error, CodelupeError):
            return self._failed(subject, _describe(error))
        try:
            failed = ContributionFailed(self._part, subject, error.message, error.hint)
            failed.exit_code = int(error.exit_code)
        except BaseException:  # a class of the plugin's that is made otherwise than ours
            return self._failed(subject, _describe(error))
        return failed

    def _called(self, subject: str, faults: Callable[[Any], str], method: str, *arguments: object) -> Any:
        """What its method answers, if ``faults`` finds nothing wrong with it."""
        self._note_use()
        inner = self._inner
        try:
            answer = getattr(inner, method)(*arguments)
            fault = faults(answer)
        except BaseException as error:
            raise self._raised(subject, error) from error
        if fault:
            raise self._failed(subject, fault)
        return answer

    @contextmanager
    def _awaited(self, subject: str) -> Iterator[None]:
        """Inside the block, what is raised is the contribution's, except for what it says to the host."""
        self._note_use()
        try:
            yield
        except (*_PASSES, ContributionFailed):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled_from_outside():
                raise
            raise self._raised(subject, error) from error


def _ignore(part: Part | None) -> None: ...


def _restore(kind: type[Guarded], state: dict[str, Any]) -> Guarded:
    guarded = kind.__new__(kind)
    guarded.__dict__.update(state)
    if _on_load.get() is not None and "_sent" in state:
        guarded._load()  # noqa: SLF001 - it is of this module
    return guarded


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise TypeError(f"offers the name {name!r} where a printable text belongs")
    return str.__str__(name)  # of no class of the plugin's, which other processes may not know


def _describe(error: BaseException) -> str:
    try:
        text = str(error)[:_LONGEST_TEXT]
    except BaseException:
        text = "it cannot say what"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_cancelled_from_outside() -> bool:
    """By the host, or by a time limit that the caller has set."""
    task = asyncio.current_task()
    return is_cancelled_by_host() or (task is not None and task.cancelling() > 0)

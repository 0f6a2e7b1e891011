"""Errors with a stable code, what happened, and what to do next."""

from __future__ import annotations

from datetime import timedelta


class CodelupeError(Exception):
    """Base of every error that a person is meant to read.

    ``code`` is stable and fit for a search engine, ``hint`` says what to do next, ``exit_code`` is what the
    command line ends with.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ConfigurationError(CodelupeError):
    """A settings file, a variable or a credential is wrong (``EX_CONFIG``)."""

    code = "configuration"
    exit_code = 78


class DatabaseUnavailable(CodelupeError):
    """Postgres cannot be reached, or went away (``EX_UNAVAILABLE``).

    ``outage`` is what the loops of the process know of it together, if it comes from a connection. Such a one may have
    ``ended_session``: it was in use, and the server may well be there for others.
    """

    code = "database-unavailable"
    exit_code = 69

    def __init__(
        self, message: str, *, hint: str | None = None, outage: object = None, ended_session: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.outage = outage
        self.ended_session = ended_session


class ConnectionsExhausted(CodelupeError):
    """Plugin code held all connections that it is lent, for as long as one is waited for; this one's held most."""

    code = "connections-exhausted"


class StateDirectoryError(CodelupeError):
    """The state directory cannot be used: not writable, full, or another daemon has it."""

    code = "state-directory"


class CheckFailed(CodelupeError):
    """This machine lacks what a plugin needs, such as a program in PATH."""

    code = "check-failed"


class MigrationError(CodelupeError):
    """The database's schema is newer than this code, or an applied migration's text has changed."""

    code = "migration"


class PluginError(CodelupeError):
    """A plugin could not be loaded or broke its contract; it is isolated and the others go on."""

    code = "plugin"


class LeaseLost(CodelupeError):
    """The task belongs to another worker by now; what this one did is discarded."""

    code = "lease-lost"


class RetryLater(Exception):
    """Raised by a handler: not now, try again after ``after``; uses up an attempt only if ``counts``.

    It makes no dead letter, however often it comes: attempts that it used up are missing once the handler fails. With
    ``counts``, the batch of a batch handler is split at once as after a failure. In a job or service it is a failure
    like any other: a job runs again when it is due, a service after its pause, whatever ``after`` says.
    """

    def __init__(self, reason: str, *, after: timedelta, counts: bool = True) -> None:
        super().__init__(reason)
        self.after = after
        self.counts = counts


class ConnectionsHeldByOthers(RetryLater, ConnectionsExhausted):
    """Other plugin code held more of the connections, so a handler that waited in vain is called again, uncounted."""

    code = "connections-held-by-others"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, after=timedelta(seconds=1), counts=False)
        self.hint = hint


class Reject(Exception):
    """Raised by a handler: trying again cannot help. The task is dead-lettered at once.

    In a batch handler it makes the batch smaller, as any failure does, and counts once the event is handled by itself.
    In a job or service it is a failure like any other.
    """

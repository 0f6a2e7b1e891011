"""When GitHub wants to be left alone, and for how long.

By "Rate limits for the REST API", "Rate limits and query limits for the GraphQL API" and "Best practices for using the
REST API" in GitHub's documentation. What these leave out is known from what befell other clients: a secondary limit may
come as 403 or 429, without a header, with quota left, so that only the body tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from codelupe import storable

UNSAID = timedelta(minutes=1)
"""How long to wait where an answer does not say."""
LONGEST = timedelta(hours=1)
"""The longest that such waits grow to: a primary limit begins again after an hour."""
_MARGIN = timedelta(seconds=1)
"""The times of headers are whole seconds."""
_FARTHEST = timedelta(days=1)
"""A time that lies farther ahead is a mistake."""
_DIGITS = 9
_LONGEST_TEXT = 300
_SECONDARY = ("secondary rate limit", "abuse detection", "secondary-rate-limits", "abuse-rate-limits")
"""In messages, then in addresses of the documentation; the messages changed once, the addresses twice."""
_PRIMARY = ("rate limit exceeded", "rate limit already exceeded", "number of login attempt")
_LIMIT_TYPES = ("RATE_LIMITED", "RATE_LIMIT")


@dataclass(frozen=True)
class Limit:
    """A limit that an answer tells of."""

    wait: timedelta
    reason: str
    of_account: bool
    """Whether it is for all requests on behalf of the account, and not for those of one kind."""
    is_stated: bool
    """Whether the answer says how long; if not, each in a row waits for twice as long."""


def limit_of(
    status: int, headers: Mapping[str, str], body: Any, received_at: datetime, renewed_at: datetime | None = None
) -> Limit | None:
    """The limit that made this answer an error, if one did; ``headers`` by lower-case names, ``body`` decoded, and as
    text where it is no JSON. ``renewed_at`` is what an earlier answer said of the quota.
    """
    told = _told(body)
    server_time = _date(headers.get("date")) or received_at
    wait = _retry_after(headers.get("retry-after"), server_time)
    if status >= 500 and wait is not None:
        return Limit(wait, f"GitHub is not available: HTTP {status}", of_account=True, is_stated=True)
    if status not in (403, 429) and not (status == 200 and told.is_limit):
        return None
    if wait is not None:
        return Limit(wait, told.text or "GitHub asks to be left alone", of_account=True, is_stated=True)
    if headers.get("x-ratelimit-remaining") == "0" and not told.is_secondary:
        return _primary(headers, received_at, renewed_at)
    if told.is_limit or status == 429:
        return Limit(UNSAID, told.text or "GitHub limits requests", of_account=True, is_stated=False)
    return None


def used_up(headers: Mapping[str, str], received_at: datetime, renewed_at: datetime | None = None) -> Limit | None:
    """The limit that the next request would run into, by the headers of a good answer, and what one before it said."""
    return _primary(headers, received_at, renewed_at) if headers.get("x-ratelimit-remaining") == "0" else None


def renewal_of(headers: Mapping[str, str], received_at: datetime) -> datetime | None:
    """When the quota begins again, by the client's clock; None if the answer names no time that lies ahead."""
    server_time = _date(headers.get("date")) or received_at
    try:
        reset = datetime.fromtimestamp(int(headers["x-ratelimit-reset"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    return received_at + min(reset - server_time, _FARTHEST) if reset > server_time else None


def _primary(headers: Mapping[str, str], received_at: datetime, renewed_at: datetime | None) -> Limit:
    """Where the answer names a time that has passed, that of an earlier one stands as long as it lies ahead."""
    kind = headers.get("x-ratelimit-resource", "rate")
    reason = f"the {kind} limit of {headers.get('x-ratelimit-limit', 'an unknown number of')} requests is used up"
    renewal = renewal_of(headers, received_at) or renewed_at
    if renewal is None or renewal <= received_at:
        return Limit(UNSAID, reason, of_account=False, is_stated=False)
    return Limit(renewal - received_at + _MARGIN, reason, of_account=False, is_stated=True)


def _retry_after(text: str | None, server_time: datetime) -> timedelta | None:
    """Seconds or a date (RFC 9110, section 10.2.3); None if it does not lie ahead."""
    if not text:
        return None
    if text.strip().isdecimal():
        wait = timedelta(seconds=int(text.strip()[:_DIGITS]))
    else:
        date = _date(text)
        wait = timedelta(0) if date is None else date - server_time
    return min(wait, _FARTHEST) + _MARGIN if wait > timedelta(0) else None


def _date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


@dataclass(frozen=True)
class _Told:
    """What an error says for people."""

    text: str
    is_secondary: bool
    is_limit: bool


def _told(body: Any) -> _Told:
    """In REST's ``message`` or GraphQL's ``errors``, each of which may come with any status, or as plain text."""
    if isinstance(body, str):
        return _judged([body], "", [])
    if not isinstance(body, dict):
        return _judged([], "", [])
    errors = body.get("errors")
    told = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    of_limits = [each for each in told if str(each.get("type")).upper() in _LIMIT_TYPES]
    messages = [str(each["message"]) for each in (body, *of_limits, *told) if each.get("message")]
    return _judged(messages, str(body.get("documentation_url") or ""), of_limits)


def _judged(messages: Sequence[str], page: str, of_limits: Sequence[Any]) -> _Told:
    told = [*(text.lower() for text in messages), page.lower()]
    is_secondary = any(sign in text for text in told for sign in _SECONDARY)
    is_limit = bool(is_secondary or of_limits or any(sign in text for text in told for sign in _PRIMARY))
    return _Told(storable(messages[0][:_LONGEST_TEXT]) if messages else "", is_secondary, is_limit)

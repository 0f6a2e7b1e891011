"""When GitHub wants to be left alone, and for how long.

By "Rate limits for the REST API", "Rate limits and query limits for the GraphQL API" and "Best practices for using the
REST API" in GitHub's documentation. What these leave out is known from what befell other clients: a secondary limit may
come as 403 or 429, without a header, with quota left, so that only the body tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

UNSAID = timedelta(minutes=1)
"""How long to wait where an answer does not say."""
LONGEST = timedelta(hours=1)
"""The longest that such waits grow to: a primary limit begins again after an hour."""
_MARGIN = timedelta(seconds=1)
"""The times of headers are whole seconds."""
_SECONDARY_TEXTS = ("secondary rate limit", "abuse detection", "triggered an abuse")
_SECONDARY_PAGES = ("secondary-rate-limits", "abuse-rate-limits")


@dataclass(frozen=True)
class Limit:
    """A limit that an answer tells of."""

    wait: timedelta
    reason: str
    of_account: bool
    """Whether it is for all requests on behalf of the account, and not for those of one kind."""
    is_stated: bool
    """Whether the answer says how long; if not, each in a row waits for twice as long."""


def limit_of(status: int, headers: Mapping[str, str], body: Any, received_at: datetime) -> Limit | None:
    """The limit that made this answer an error, if one did; ``headers`` by lower-case names."""
    message, page = _told(body)
    is_refused = status in (403, 429) or (status == 200 and _is_graphql_limit(body))
    if not is_refused:
        return None
    server_time = _date(headers.get("date")) or received_at
    if (wait := _retry_after(headers.get("retry-after"), server_time)) is not None:
        return Limit(wait, message or "GitHub asks to be left alone", of_account=True, is_stated=True)
    if headers.get("x-ratelimit-remaining") == "0":
        return _primary(headers, server_time)
    is_secondary = any(text in message.lower() for text in _SECONDARY_TEXTS)
    if is_secondary or any(each in page for each in _SECONDARY_PAGES) or status in (200, 429):
        return Limit(UNSAID, message or "GitHub limits requests", of_account=True, is_stated=False)
    return None


def used_up(headers: Mapping[str, str], received_at: datetime) -> Limit | None:
    """The limit that the next request would run into, by the headers of a good answer."""
    if headers.get("x-ratelimit-remaining") != "0":
        return None
    limit = _primary(headers, _date(headers.get("date")) or received_at)
    return limit if limit.is_stated else None


def _primary(headers: Mapping[str, str], server_time: datetime) -> Limit:
    kind = headers.get("x-ratelimit-resource", "rate")
    reason = f"the {kind} limit of {headers.get('x-ratelimit-limit', 'an unknown number of')} requests is used up"
    try:
        reset = datetime.fromtimestamp(int(headers["x-ratelimit-reset"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        reset = server_time
    if reset <= server_time:
        return Limit(UNSAID, reason, of_account=False, is_stated=False)
    return Limit(reset - server_time + _MARGIN, reason, of_account=False, is_stated=True)


def _retry_after(text: str | None, server_time: datetime) -> timedelta | None:
    """Seconds or a date (RFC 9110, section 10.2.3)."""
    if not text:
        return None
    if text.strip().isdecimal():
        return timedelta(seconds=min(int(text), 10**9)) + _MARGIN
    date = _date(text)
    return None if date is None else max(date - server_time, timedelta(0)) + _MARGIN


def _date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _told(body: Any) -> tuple[str, str]:
    """The message and the page of the documentation that an error names."""
    if not isinstance(body, dict):
        return "", ""
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict) and "message" not in body:
        return str(errors[0].get("message", "")), ""
    return str(body.get("message", "")), str(body.get("documentation_url", ""))


def _is_graphql_limit(body: Any) -> bool:
    errors = body.get("errors") if isinstance(body, dict) else None
    if not isinstance(errors, list):
        return False
    told = [each for each in errors if isinstance(each, dict)]
    return any(each.get("type") in ("RATE_LIMITED", "RATE_LIMIT") for each in told) or any(
        text in str(each.get("message", "")).lower() for each in told for text in _SECONDARY_TEXTS
    )

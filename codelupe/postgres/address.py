"""Where a database is, for messages: host and name, and nothing of a URL that may hold a secret."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

UNKNOWN = "the address in database_url"
_URL = re.compile(
    r"postgres(?:ql)?://"
    r"(?:[^\s:/?#@\[\]]*(?::[^\s:/?#@\[\]]*)?@)?"
    r"(?P<hosts>(?:(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d+)?,?)*)"
    r"(?:/(?P<database>[\w.%+-]*))?"
    r"(?:\?(?P<query>[^\s@#?]*))?"
)
"""Only what can be read in one way: a password with a character that should have been encoded fits in nowhere."""
_PLAIN = re.compile(r"[\w./:,+-]*")


def is_address(url: str) -> bool:
    """Whether the URL can be read in one way only."""
    return _URL.fullmatch(url) is not None


def describe_address(url: str) -> str:
    """For example ``db.example.org:5432/codelupe`` or ``/run/postgresql codelupe``."""
    match = _URL.fullmatch(url)
    if match is None:
        return UNKNOWN
    query = dict(parse_qsl(match["query"] or ""))
    named = match["hosts"] or ""
    hosts = str(named or query.get("host", ""))
    database = str(unquote(match["database"] or "") or query.get("dbname") or query.get("database", ""))
    if not (named or _PLAIN.fullmatch(hosts)) or not _PLAIN.fullmatch(database):
        return UNKNOWN
    if not hosts or hosts.startswith("/"):
        return f"{hosts or 'the local server'} {database}".strip()
    port = query.get("port", "")
    return f"{hosts}:{port}/{database}" if port.isdecimal() and not named else f"{hosts}/{database}"

"""Every sign of a limit that GitHub was seen to give, and answers that look like one and are none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe_crawler.github.limits import LONGEST, UNSAID, Limit, limit_of, renewal_of, used_up

NOW = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
SKEW = timedelta(seconds=90)
SECOND = timedelta(seconds=1)
DOCS = "https://docs.github.com/rest"
PRIMARY_PAGE = f"{DOCS}/using-the-rest-api/rate-limits-for-the-rest-api"
SECONDARY_PAGES = (
    f"{PRIMARY_PAGE}#about-secondary-rate-limits",
    "https://docs.github.com/en/rest/overview/resources-in-the-rest-api#secondary-rate-limits",
    "https://developer.github.com/v3/#abuse-rate-limits",
)
NEW_TEXT = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
OLD_TEXT = "You have triggered an abuse detection mechanism. Please wait a few minutes before you try again."
PRIMARY_TEXT = "API rate limit exceeded for user ID 1."
QUOTA_LEFT = {"x-ratelimit-limit": "30", "x-ratelimit-remaining": "29", "x-ratelimit-reset": "1"}
BLOCKED = {"message": "Repository access blocked", "block": {"reason": "dmca"}}


def date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def seconds(moment: datetime) -> str:
    return str(int(moment.timestamp()))


def limit(status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> Limit:
    found = limit_of(status, headers or {}, body, NOW)
    assert found is not None
    return found


def exhausted(reset: datetime) -> dict[str, str]:
    return {"x-ratelimit-remaining": "0", "x-ratelimit-reset": seconds(reset), "x-ratelimit-resource": "search"}


@pytest.mark.parametrize("status", [403, 429, 503])
@pytest.mark.parametrize("skew", [-SKEW, timedelta(0), SKEW], ids=["behind", "right", "ahead"])
@pytest.mark.parametrize("is_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_kept_by_the_server_s_clock(status: int, skew: timedelta, *, is_date: bool) -> None:
    wait = timedelta(seconds=37)
    text = date(NOW + skew + wait) if is_date else "37"
    found = limit(status, {"message": NEW_TEXT}, {"date": date(NOW + skew), "retry-after": text})
    assert found.wait == wait + SECOND
    assert found.of_account
    assert found.is_stated


def test_a_date_without_a_server_s_clock_is_measured_by_ours() -> None:
    assert limit(429, None, {"retry-after": date(NOW + timedelta(minutes=5))}).wait == timedelta(minutes=5) + SECOND


@pytest.mark.parametrize("text", ["0", "", " ", "soon", "-5", "1.5", date(NOW - SKEW), "Mon, 99 Nov 2026 08:00:00 GMT"])
def test_a_retry_after_that_says_nothing_waits_as_if_it_were_not_there(text: str) -> None:
    assert limit(403, {"message": NEW_TEXT}, {"retry-after": text}) == Limit(
        UNSAID, NEW_TEXT, of_account=True, is_stated=False
    )


@pytest.mark.parametrize("text", ["9" * 5000, date(datetime(9999, 1, 1, tzinfo=UTC))], ids=["seconds", "date"])
def test_a_wait_beyond_all_bounds_is_a_mistake(text: str) -> None:
    assert limit(429, None, {"retry-after": text}).wait == timedelta(days=1) + SECOND


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("skew", [-SKEW, SKEW], ids=["behind", "ahead"])
def test_a_used_up_quota_waits_for_its_reset_by_the_server_s_clock(status: int, skew: timedelta) -> None:
    server = NOW + skew
    found = limit(status, {"message": PRIMARY_TEXT}, exhausted(server + timedelta(seconds=40)) | {"date": date(server)})
    assert found.wait == timedelta(seconds=41)
    assert found.is_stated
    assert not found.of_account
    assert "search limit" in found.reason


@pytest.mark.parametrize("reset", ["1", "", "soon", "-1", "1790000000000000000000", seconds(NOW)])
def test_a_reset_in_the_past_or_no_time_waits_a_minute(reset: str) -> None:
    headers = exhausted(NOW) | {"x-ratelimit-reset": reset, "date": date(NOW)}
    assert (limit(403, None, headers).wait, limit(403, None, headers).is_stated) == (UNSAID, False)
    found = used_up(headers, NOW)
    assert found is not None
    assert found.wait == UNSAID


def test_a_quota_that_is_used_up_by_a_good_answer_is_waited_for() -> None:
    found = used_up(exhausted(NOW + timedelta(seconds=9)), NOW)
    assert found is not None
    assert found.wait == timedelta(seconds=10)
    assert used_up(QUOTA_LEFT, NOW) is None
    assert used_up({}, NOW) is None


SECONDARY = [
    *({"message": text, "documentation_url": DOCS} for text in (NEW_TEXT, OLD_TEXT, NEW_TEXT.upper())),
    *({"message": "Forbidden", "documentation_url": page} for page in SECONDARY_PAGES),
    *({"documentation_url": page} for page in SECONDARY_PAGES),
    NEW_TEXT,
    f"<html><body><p>{OLD_TEXT}</p></body></html>",
    {"message": "Sorry", "errors": [{"message": NEW_TEXT}]},
]


@pytest.mark.parametrize("body", SECONDARY)
@pytest.mark.parametrize("status", [403, 429, 200])
@pytest.mark.parametrize("headers", [{}, QUOTA_LEFT], ids=["no headers", "quota left"])
def test_hub4j_2009_1805_1842_plugin_throttling_437_the_body_alone_tells_of_a_secondary_limit(
    status: int, body: Any, headers: dict[str, str]
) -> None:
    found = limit(status, body, headers)
    assert (found.wait, found.of_account, found.is_stated) == (UNSAID, True, False)


def test_where_the_reset_has_passed_what_an_earlier_answer_said_of_it_stands() -> None:
    earlier = {"x-ratelimit-remaining": "5", "x-ratelimit-reset": seconds(NOW + timedelta(seconds=9))}
    renewed_at = renewal_of(earlier, NOW)
    assert renewed_at == NOW + timedelta(seconds=9)
    later = NOW + timedelta(seconds=7)
    stale = exhausted(NOW - timedelta(hours=1))
    for found in (used_up(stale, later, renewed_at), limit_of(403, stale, None, later, renewed_at)):
        assert found is not None
        assert (found.wait, found.is_stated) == (timedelta(seconds=3), True)
    over = used_up(stale, NOW + timedelta(seconds=10), renewed_at)
    assert over is not None
    assert (over.wait, over.is_stated) == (UNSAID, False)


def test_a_reset_that_has_passed_says_nothing_of_the_renewal() -> None:
    assert renewal_of(exhausted(NOW), NOW) is None
    assert renewal_of({}, NOW) is None
    skewed = {"date": date(NOW + SKEW), "x-ratelimit-reset": seconds(NOW + SKEW + SECOND)}
    assert renewal_of(skewed, NOW) == NOW + SECOND


def test_a_secondary_limit_is_the_account_s_even_when_one_quota_is_used_up() -> None:
    found = limit(403, {"message": NEW_TEXT}, exhausted(NOW + timedelta(seconds=5)))
    assert (found.wait, found.of_account) == (UNSAID, True)


def test_429_is_a_limit_whatever_else_it_says() -> None:
    bodies: list[Any] = [None, {}, [], "", "<html>", {"message": "Whoa there!"}]
    for body in bodies:
        assert limit(429, body) == Limit(UNSAID, limit(429, body).reason, of_account=True, is_stated=False)
        assert limit(429, body).reason


def test_a_primary_limit_is_told_by_its_text_where_headers_are_lost() -> None:
    assert limit(403, {"message": "API rate limit exceeded for 203.0.113.1. (But here's the good news …)"}).of_account
    assert limit(200, {"message": PRIMARY_TEXT}).of_account


@pytest.mark.parametrize(
    "errors",
    [
        [{"type": "RATE_LIMITED", "message": PRIMARY_TEXT}],
        [{"type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": "API rate limit already exceeded"}],
        [{"message": NEW_TEXT}],
        [{"type": "NOT_FOUND", "message": "Could not resolve"}, {"type": "RATE_LIMITED", "message": PRIMARY_TEXT}],
        [None, {"type": "RATE_LIMITED"}],
    ],
)
def test_graphql_tells_of_limits_at_200(errors: list[Any]) -> None:
    for body in ({"errors": errors}, {"data": None, "errors": errors}, {"data": {"c0": None}, "errors": errors}):
        found = limit(200, body)
        assert (found.wait, found.of_account, found.is_stated) == (UNSAID, True, False)
        reset = limit(200, {"errors": errors}, exhausted(NOW + timedelta(minutes=20)))
        is_secondary = errors[0] is not None and errors[0]["message"] == NEW_TEXT
        assert reset.wait == (UNSAID if is_secondary else timedelta(minutes=20) + SECOND)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, BLOCKED),
        (403, {"message": "Resource not accessible by personal access token", "documentation_url": DOCS}),
        (403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"),
        (403, None),
        (403, {"message": None, "documentation_url": None, "errors": None}),
        (403, []),
        (401, {"message": "Bad credentials"}),
        (404, {"message": "Not Found", "documentation_url": DOCS}),
        (451, BLOCKED),
        (422, {"message": "Only the first 1000 search results are available", "documentation_url": DOCS}),
        (500, None),
        (502, "<html>"),
        (503, {"message": "No server is currently available"}),
        (200, {"total_count": 0, "incomplete_results": False, "items": []}),
        (200, {"data": None, "errors": [{"type": "RESOURCE_LIMITS_EXCEEDED", "message": "Resource limits exceeded"}]}),
        (200, {"data": {}, "errors": "none"}),
        (301, {"message": "Moved Permanently"}),
    ],
)
def test_other_answers_are_no_limits(status: int, body: Any) -> None:
    assert limit_of(status, QUOTA_LEFT, body, NOW) is None
    assert limit_of(status, {}, body, NOW) is None


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
NAMES = st.sampled_from(["message", "documentation_url", "errors", "data", "items", "type", "path"])


@given(
    status=st.sampled_from([200, 301, 401, 403, 404, 429, 451, 500, 503]),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "date", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-limit"]),
        st.text(max_size=30) | st.integers().map(str) | st.datetimes().map(lambda it: date(it.replace(tzinfo=UTC))),
    ),
    body=JSON | st.dictionaries(NAMES, JSON | st.lists(st.dictionaries(NAMES, JSON))),
)
def test_whatever_an_answer_says_a_wait_is_bounded_and_never_none(
    status: int, headers: dict[str, str], body: Any
) -> None:
    found = limit_of(status, headers, body, NOW)
    assert found is not None or status != 429
    for each in (found, used_up(headers, NOW)):
        if each is not None:
            assert SECOND < each.wait <= timedelta(days=1) + SECOND
            assert each.reason
            assert each.is_stated or each.wait == UNSAID < LONGEST

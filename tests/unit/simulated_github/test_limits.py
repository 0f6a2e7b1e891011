"""Limits of the simulated GitHub: what it tells, and what it counts as a violation."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from tests.simulated_github.client import BEGAN, Client, content, simulated
from tests.simulated_github.faults import Faults
from tests.simulated_github.github import Answer, Request
from tests.simulated_github.shapes import API

SECONDARY = Faults(secondary=1.0)
CHEAP = "{ viewer { login } }"


def breaches(client: Client) -> list[str]:
    return [one.what for one in client.github.violations]


def use_up(client: Client, requests: int = 30) -> Answer:
    """The last answer of a full window."""
    client.pause = 0.1
    for _ in range(requests):
        answer = client.get("/search/repositories", q="stars:>=10", per_page=1)
    assert answer.status == 200
    assert answer.headers["x-ratelimit-remaining"] == "0"
    return answer


def blocked(client: Client, status: int = 403, *, has_header: bool = True) -> Answer:
    """An answer that tells of a secondary limit, in this form."""
    for _ in range(100):
        answer = client.get("/user")
        if answer.status == status and ("retry-after" in answer.headers) == has_header:
            client.github.users["ann"].violations.clear()
            return answer
        client.clock.time += 60
    raise AssertionError("there was none")


def test_thirty_searches_a_minute_and_no_more() -> None:
    client = simulated()
    use_up(client)
    assert breaches(client) == []
    assert client.get("/search/repositories", q="stars:>=10").status in (403, 429)
    assert breaches(client) == ["beyond the primary limit"]
    assert client.get("/user").status == 200, "other kinds have limits of their own"
    [violation] = client.github.violations
    assert violation.account == "ann"
    assert violation.at == pytest.approx(BEGAN + 3.1)
    assert "ann search: beyond the primary limit (https://api.github.com/search" in str(violation)


def test_each_request_beyond_the_limit_counts() -> None:
    client = simulated()
    use_up(client)
    for _ in range(5):
        client.get("/search/repositories", q="stars:>=10")
    assert len(breaches(client)) == 5


def test_after_the_reset_there_is_a_new_minute() -> None:
    client = simulated()
    answer = use_up(client)
    client.clock.time = float(answer.headers["x-ratelimit-reset"])
    use_up(client)
    assert breaches(client) == []


def test_tokens_of_one_account_share_its_limit_and_other_accounts_do_not() -> None:
    client = simulated()
    use_up(client)
    client.token = "b1"
    assert client.get("/search/repositories", q="stars:>=10").status == 200
    client.token = "a2"
    assert client.get("/search/repositories", q="stars:>=10").status != 200
    assert [one.account for one in client.github.violations] == ["ann"]


def test_without_a_token_ten_searches_a_minute_sixty_others_an_hour_and_no_graphql() -> None:
    client = simulated()
    client.token = None
    use_up(client, 10)
    assert client.get("/search/repositories", q="stars:>=10").status != 200
    for _ in range(60):
        assert client.get("/repositories/1").status == 404
    assert client.get("/repositories/1").status in (403, 429)
    assert client.graphql(CHEAP).status == 401
    assert {one.account for one in client.github.violations} == {""}


def test_two_requests_at_once_of_one_account_are_a_violation() -> None:
    client = simulated()
    github = client.github
    headers = {"user-agent": "test", "authorization": "Bearer a1"}
    first = github.open(Request("GET", f"{API}/user", headers))
    other = github.open(Request("GET", f"{API}/user", {**headers, "authorization": "Bearer b1"}))
    assert breaches(client) == []
    second = github.open(Request("GET", f"{API}/user", {**headers, "authorization": "token a2"}))
    assert breaches(client) == ["another request is in flight"]
    for exchange in (first, second, other):
        github.close(exchange)
    assert github.open(Request("GET", f"{API}/user", headers)).answer.status == 200
    assert len(breaches(client)) == 1


@pytest.mark.parametrize("path", ["/user", "/rate_limit", "/search/repositories?q=a"])
def test_no_request_of_any_kind_while_a_secondary_limit_lasts(path: str) -> None:
    client = simulated(SECONDARY)
    wait = int(blocked_in_seconds(client).headers["retry-after"])
    client.github.faults = Faults()
    client.pause = wait - 1.0
    answer = client.get(path)
    assert answer.status == 403
    assert breaches(client) == ["within the wait for a secondary limit"]
    client.clock.time += 1
    client.pause = 0
    assert client.get(path).status == 200
    assert len(breaches(client)) == 1


def blocked_in_seconds(client: Client) -> Answer:
    while not (answer := blocked(client)).headers["retry-after"].isdecimal():
        client.clock.time += 60
    return answer


@pytest.mark.parametrize("status", [403, 429])
def test_retry_after_may_be_a_date_by_the_server_s_clock(status: int) -> None:
    client = simulated(Faults(secondary=1.0, clock_skew=90.0))
    while (answer := blocked(client, status)).headers["retry-after"].isdecimal():
        client.clock.time += 60
    until, now = (parsedate_to_datetime(answer.headers[name]).timestamp() for name in ("retry-after", "date"))
    assert until > client.clock.time + 89, "the server's clock is ahead"
    client.github.faults = Faults()
    client.pause = until - now
    assert client.get("/user").status == 200
    assert breaches(client) == []


def test_a_bare_403_has_quota_left_and_only_its_body_tells() -> None:
    """hub4j/github-api#2009, #1805; octokit/plugin-throttling#437."""
    client = simulated(SECONDARY)
    answers = []
    for _ in range(40):
        answers.append(blocked(client, has_header=False))
        client.clock.time += 60
    assert all(int(one.headers.get("x-ratelimit-remaining", 1)) > 0 for one in answers)
    assert any("x-ratelimit-remaining" not in one.headers for one in answers)
    bodies = [content(one) for one in answers]
    texts = {one["message"] for one in bodies}
    assert len(texts) == 3
    assert all("rate" in one["documentation_url"].rpartition("#")[2] for one in bodies)


def test_after_a_bare_403_a_minute_has_to_pass() -> None:
    client = simulated(SECONDARY)
    blocked(client, has_header=False)
    client.github.faults = Faults()
    client.pause = 59
    client.get("/user")
    assert breaches(client) == ["within the wait for a secondary limit"]


def test_a_reset_in_the_past_allows_to_ask_again_after_a_minute() -> None:
    client = simulated(Faults(stale_resets=1.0))
    client.github.users["ann"].windows["core"].limit = 2
    for _ in range(2):
        answer = client.get("/user")
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert float(answer.headers["x-ratelimit-reset"]) < client.clock.time
    client.pause = 30
    assert client.get("/user").status != 200
    assert breaches(client) == ["beyond the primary limit"]
    client.pause = 60
    assert client.get("/user").status != 200
    assert len(breaches(client)) == 1, "it waited as long as it could know"


def test_a_client_that_goes_by_the_server_s_date_waits_long_enough() -> None:
    client = simulated(Faults(clock_skew=90.0))
    answer = use_up(client)
    now = parsedate_to_datetime(answer.headers["date"]).timestamp()
    assert now == int(client.clock.time + 90)
    client.pause = float(answer.headers["x-ratelimit-reset"]) - now
    assert client.get("/search/repositories", q="stars:>=10").status == 200
    assert breaches(client) == []


def test_a_token_is_revoked_midway_and_others_go_on() -> None:
    client = simulated(revoked_at={"a1": BEGAN + 10})
    assert client.get("/user").status == 200
    client.clock.time = BEGAN + 11
    assert client.get("/user").status == 401
    assert content(client.get("/search/repositories", q="a"))["message"] == "Bad credentials"
    client.token = "a2"
    assert content(client.get("/user"))["login"] == "ann"
    assert client.github.unauthorised == {"a1": 2}
    assert client.github.requests == {"core": 2, "unauthorised": 2}


def test_graphql_tells_its_primary_limit_at_http_200() -> None:
    """octokit/plugin-throttling."""
    client = simulated()
    client.github.users["ann"].windows["graphql"].limit = 1
    assert "errors" not in content(client.graphql(CHEAP))
    answer = client.graphql(CHEAP)
    assert answer.status == 200
    assert content(answer)["errors"][0]["type"] == "RATE_LIMITED"
    assert answer.headers["x-ratelimit-resource"] == "graphql"
    assert breaches(client) == ["beyond the primary limit"]


def test_graphql_tells_secondary_limits_at_http_200_or_403() -> None:
    client = simulated(SECONDARY)
    client.pause = 61
    answers = [client.graphql(CHEAP) for _ in range(40)]
    assert {one.status for one in answers} == {200, 403, 429}
    at_200 = [one for one in answers if one.status == 200]
    assert all("secondary" in content(one)["errors"][0]["message"] for one in at_200)
    assert {"retry-after" in one.headers for one in at_200} == {True, False}
    assert all(int(one.headers["x-ratelimit-remaining"]) > 0 for one in at_200)
    assert breaches(client) == []


def test_points_of_a_request_count_by_its_connections() -> None:
    client = simulated()
    topics = "... on Repository { repositoryTopics(first: 20) { totalCount } languages(first: 10) { totalCount } }"
    asked = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ {topics} }} rateLimit {{ cost remaining }} }}"
    told = content(client.graphql(asked, ids=["R_kg0"] * 100))["data"]["rateLimit"]
    assert told == {"cost": 2, "remaining": 4_998}
    counts = " ".join(f'c{n}: search(query: "stars:{n}", type: REPOSITORY) {{ repositoryCount }}' for n in range(50))
    assert content(client.graphql(f"{{ {counts} rateLimit {{ cost }} }}"))["data"]["rateLimit"] == {"cost": 1}


def test_asking_for_the_limits_is_free() -> None:
    client = simulated()
    use_up(client)
    answer = content(client.get("/rate_limit"))
    assert answer["resources"]["search"]["remaining"] == 0
    assert answer["rate"]["remaining"] == 5_000
    assert breaches(client) == []
    assert client.github.requests["core"] == 1


def test_more_than_900_requests_in_a_minute_meet_a_secondary_limit() -> None:
    client = simulated()
    client.pause = 0.01
    assert {client.get("/user").status for _ in range(900)} == {200}
    assert client.get("/user").status == 403
    assert breaches(client) == ["more requests in a minute than the secondary limit allows"]


def test_how_much_of_a_limit_was_used_while_none_was_in_the_way() -> None:
    client = simulated()
    for _ in range(60):
        client.search("stars:>=10", per_page=1)
    ann = client.github.users["ann"]
    assert ann.usage("search") == pytest.approx(1.0)
    ann.block(client.clock.time, 60)
    client.clock.time += 60
    client.search("stars:>=10", per_page=1)
    assert ann.usage("search") == pytest.approx(1.0)
    client.clock.time += 30
    client.search("stars:>=10", per_page=1)
    assert ann.usage("search") < 0.85
    assert breaches(client) == []

"""The wait between attempts stays within its bounds, whatever the policy and the number of failures."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from codelupe import RetryPolicy, Subscription
from codelupe.work.retry import backoff
from codelupe_events import BatchReady, TaskDeadLettered

_PAUSES = st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=30))


@given(base=_PAUSES, cap=_PAUSES, failures=st.integers(min_value=1, max_value=10**6))
def test_the_wait_is_between_half_and_the_whole_of_the_doubled_base_and_never_over_the_cap(
    base: timedelta, cap: timedelta, failures: int
) -> None:
    whole = base.total_seconds() * 2 ** min(failures - 1, 60)
    longest = min(cap.total_seconds(), whole)
    wait = backoff(RetryPolicy(base=base, cap=cap), failures).total_seconds()
    assert longest / 2 - 1e-6 <= wait <= longest + 1e-6


def test_waits_double_until_the_cap() -> None:
    policy = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=10))
    longest = [max(backoff(policy, failures).total_seconds() for _ in range(500)) for failures in range(1, 7)]
    assert [round(one) for one in longest] == [1, 2, 4, 8, 10, 10]


def test_waits_do_not_come_in_step() -> None:
    policy = RetryPolicy(base=timedelta(seconds=10))
    waits = [backoff(policy, 1).total_seconds() for _ in range(500)]
    assert min(waits) < 6
    assert max(waits) > 9
    assert len(set(waits)) > 400


def test_a_subscription_names_the_types_it_consumes_former_names_too() -> None:
    async def handle(event: object, context: object) -> None: ...

    subscription = Subscription(name="b", events=(BatchReady, TaskDeadLettered), handler=handle)
    assert subscription.event_types == ["BatchReady", "TaskDeadLettered", "TaskParked"]

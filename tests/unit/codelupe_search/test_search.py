from __future__ import annotations

from datetime import UTC, datetime

import codelupe_search
from codelupe_events import RepoDiscovered


def test_an_event_becomes_the_repository_that_it_came_from() -> None:
    pushed = datetime(2026, 1, 2, tzinfo=UTC)
    event = RepoDiscovered(
        repository_id="local:a:b",
        source="local",
        full_name="n",
        url="u",
        revision="r",
        topics=("x",),
        stars=2,
        pushed_at=pushed,
    )
    repository = codelupe_search.as_repository(event)
    assert (repository.id, repository.external_id) == ("local:a:b", "a:b")
    assert (repository.stars, repository.topics, repository.pushed_at) == (2, ("x",), pushed)

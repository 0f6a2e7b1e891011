"""The simulated GitHub as httpx2 sees it, within the process and over loopback."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest

from tests.simulated_github.client import ACCOUNTS, BEGAN, SMALL
from tests.simulated_github.clock import FakeClock, ScaledClock
from tests.simulated_github.faults import NONE, Faults
from tests.simulated_github.github import SimulatedGitHub
from tests.simulated_github.server import serve
from tests.simulated_github.shapes import API
from tests.simulated_github.transport import SimulatedTransport
from tests.simulated_github.world import World

pytestmark = pytest.mark.anyio
HEADERS = {"authorization": "Bearer a1", "user-agent": "test"}
KILLED = "import sys, httpx2; httpx2.get(sys.argv[1] + '/user', headers={'authorization': 'Bearer a1'}, timeout=60)"


@asynccontextmanager
async def in_process(faults: Faults = NONE) -> AsyncIterator[tuple[SimulatedGitHub, FakeClock, httpx2.AsyncClient]]:
    clock = FakeClock(BEGAN)
    github = SimulatedGitHub(World(1, BEGAN, SMALL), clock.now, ACCOUNTS, faults)
    client = httpx2.AsyncClient(transport=SimulatedTransport(github, clock), base_url=API, headers=HEADERS)
    async with anyio.create_task_group() as background, client:
        background.start_soon(clock.run)
        yield github, clock, client
        background.cancel_scope.cancel()


async def outcomes(client: httpx2.AsyncClient, requests: int, clock: FakeClock | ScaledClock) -> Counter[str]:
    found = Counter[str]()
    for _ in range(requests):
        try:
            found[str((await client.get("/user")).status_code)] += 1
        except httpx2.TransportError as error:
            found[type(error).__name__] += 1
        await clock.sleep(2)
    return found


async def test_an_answer_takes_its_time_by_the_clock() -> None:
    async with in_process() as (github, clock, client):
        response = await client.get("/search/repositories", params={"q": "stars:>=10", "per_page": 1})
        assert response.json()["items"][0]["stargazers_count"] >= 10
        assert response.headers["X-RateLimit-Remaining"] == "29"
        assert 0.1 < clock.now() - BEGAN < 3
        posted = await client.post("/graphql", json={"query": "{ viewer { login } }"})
        assert posted.json() == {"data": {"viewer": {"login": "ann"}}}
        moved = github.world.name_of(3)
        github.world.rename(3, "new/name")
        followed = await client.get(f"/repos/{moved}", follow_redirects=True)
        assert followed.json()["full_name"] == "new/name"
        assert github.violations == []


async def test_two_at_once_are_seen_and_one_that_is_cancelled_is_over() -> None:
    async with in_process() as (github, clock, client):
        with anyio.move_on_after(0):
            await client.get("/user")
        await client.get("/user")
        assert github.violations == []
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, "/user")
            group.start_soon(client.get, "/user")
        assert [one.what for one in github.violations] == ["another request is in flight"]
        assert clock.now() > BEGAN


async def test_a_connection_that_breaks_raises_what_httpx2_raises() -> None:
    expected = {"200", "RemoteProtocolError", "ReadError"}
    async with in_process(Faults(cut=0.5)) as (_, clock, client):
        within = await outcomes(client, 60, clock)
    scaled = ScaledClock.start(BEGAN, pace=1_000)
    github = SimulatedGitHub(World(1, BEGAN, SMALL), scaled.now, ACCOUNTS, Faults(cut=0.5))
    with serve(github, scaled) as server:
        async with httpx2.AsyncClient(base_url=server.url, headers=HEADERS) as client:
            over_loopback = await outcomes(client, 60, scaled)
    assert within == over_loopback
    assert within.keys() == expected
    assert github.violations == []


async def test_hours_pass_while_two_accounts_wait_each_at_its_own_pace() -> None:
    async def ask(client: httpx2.AsyncClient, clock: FakeClock, token: str) -> None:
        headers = {"authorization": f"Bearer {token}"}
        for _ in range(100):
            began = clock.now()
            response = await client.get(
                "/search/repositories", params={"q": "stars:>=10", "per_page": 1}, headers=headers
            )
            assert response.status_code == 200
            await clock.sleep(began + 2 - clock.now())

    async with in_process() as (github, clock, client):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client, clock, "a1")
            group.start_soon(ask, client, clock, "b1")
        assert clock.now() - BEGAN == pytest.approx(200, abs=4)
        assert github.violations == []
        assert github.requests["search"] == 200
        assert all(len(github.users[login].times["search"]) == 100 for login in ("ann", "bob"))


async def test_a_client_that_was_killed_is_not_in_the_way_of_its_successor() -> None:
    clock = ScaledClock.start(BEGAN, pace=1)
    github = SimulatedGitHub(World(1, BEGAN, SMALL), clock.now, ACCOUNTS, slowness=200)
    with serve(github, clock) as server:
        killed = subprocess.Popen([sys.executable, "-c", KILLED, server.url])
        with anyio.fail_after(30):
            while not github.users["ann"].in_flight:
                await anyio.sleep(0.01)
            killed.kill()
            killed.wait()
            while github.users["ann"].in_flight:
                await anyio.sleep(0.01)
        github.slowness = 0
        async with httpx2.AsyncClient(base_url=server.url, headers=HEADERS) as client:
            assert (await client.get("/user")).status_code == 200
    assert github.violations == []
    assert github.requests["core"] == 2

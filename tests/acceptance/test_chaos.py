"""The log's promises under fire, in short (``make chaos`` does it at length), and what becomes of broken logs there."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.chaos.driver import SQL, Plan, run

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # The driver's own connections are cut, too, also while they listen.
    pytest.mark.filterwarnings("default::asyncpg.InterfaceWarning"),
]


@pytest.fixture
def folder(open_directory: Path) -> Path:
    """The run's own, with a server of its own that it may stop."""
    folder = open_directory / f"chaos-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def seed() -> int:
    return secrets.randbelow(2**32)


async def test_every_event_takes_effect_once_and_in_order_whatever_is_killed_frozen_cut_or_restarted(
    folder: Path, seed: int
) -> None:
    plan = Plan.of_size(5_000, seed)
    report = await run(plan, folder)
    assert report.violations == [], str(report)
    assert {kind for kind, least in plan.faults.items() if report.faults[kind] < least} == set()
    assert report.events >= 10_000
    assert report.later_effects > 0, "no fault met anything under way"
    assert report.held_back > 100, "nothing waited behind the dead letter"


async def test_a_log_that_checks_off_before_it_acts_is_found_out(folder: Path, seed: int) -> None:
    plan = Plan(seed=seed, events=1000, faults={"kill": 3}, worker_options=("--sabotage", "checkpoint_before_effect"))
    report = await run(plan, folder)
    kinds = {violation.kind for violation in report.violations}
    assert "lost_effect" in kinds
    assert {kind for kind in kinds if kind.startswith("doubled_")} == set()


async def test_older_code_that_claims_what_it_does_not_want_is_found_out(folder: Path, seed: int) -> None:
    plan = Plan(seed=seed, events=300, faults={}, worker_options=("--sabotage", "claims_of_any_type"))
    report = await run(plan, folder)
    assert {violation.kind for violation in report.violations} == {"effect_of_older_code"}


async def test_a_log_without_a_high_water_mark_is_found_out(folder: Path, seed: int) -> None:
    plan = Plan(seed=seed, events=2000, faults={}, preparation=SQL.break_high_water_mark)
    report = await run(plan, folder)
    assert {violation.kind for violation in report.violations} == {"lost_effect", "lost_emission"}

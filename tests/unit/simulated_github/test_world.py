"""The repositories of the simulated GitHub: how they are spread, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulated_github.client import BEGAN, SMALL
from tests.simulated_github.world import LONGEST_RUN, ODD_TEXTS, Shape, World

COLUMNS = ("created", "pushed", "stars", "forks", "language", "size", "gone", "archived", "invisible")
DAY = 86_400


def same(one: World, other: World) -> bool:
    return one.names == other.names and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS
    )


def test_a_seed_makes_the_same_repositories_and_another_seed_others() -> None:
    assert same(World(1, BEGAN, SMALL), World(1, BEGAN, SMALL))
    assert not same(World(1, BEGAN, SMALL), World(2, BEGAN, SMALL))


def test_what_happens_does_not_depend_on_how_often_it_is_looked_at() -> None:
    at_once, in_steps = World(1, BEGAN, SMALL), World(1, BEGAN, SMALL)
    at_once.advance(BEGAN + 3 * DAY)
    for hour in range(3 * 24 + 1):
        in_steps.advance(BEGAN + hour * 3_600)
    assert same(at_once, in_steps)
    assert not same(at_once, World(1, BEGAN, SMALL))


def test_two_hundred_thousand_are_as_skewed_as_they_should_be() -> None:
    world = World(3, BEGAN)
    years = np.histogram(world.created, bins=9)[0]
    assert list(years) == sorted(years), "ever more are created"
    seconds, counts = np.unique(world.created[world.language == 0], return_counts=True)
    assert len(seconds) > 10_000
    assert counts.max() >= 1_500
    assert np.median(world.stars) < 25
    assert world.stars.max() > 50_000
    shares = np.bincount(world.language) / len(world.language)
    assert shares[0] > 10 * shares[5] > 0
    assert 0.004 < world.invisible.mean() < 0.006


def test_descriptions_names_and_licences_are_as_odd_as_people_write_them() -> None:
    world = World(1, BEGAN, Shape(repositories=20_000))
    described = [world.describe(index) for index in range(20_000)]
    assert None in described
    for odd in ODD_TEXTS[1:]:
        assert any(text and text.endswith(odd) for text in described), odd
    assert {world.licence_of(index) for index in range(2_000)} > {"NOASSERTION", None, "MIT"}
    names = " ".join(world.names.values())
    assert "\u202e" in names
    assert "/-config" in names


def test_a_takes_the_name_of_b_while_b_becomes_c() -> None:
    """cla-assistant/cla-assistant#779, houndci/hound#1128."""
    world = World(1, BEGAN, SMALL)
    a, b = world.name_of(10), world.name_of(11)
    world.change(10, "renamed")
    assert world.name_of(10) == b
    c = world.name_of(11)
    assert c not in (a, b)
    assert world.find(a) == (10, True)
    assert world.find(b) == (10, False)
    assert world.find(c) == (11, False)


def test_names_are_found_in_any_case_and_through_many_renames() -> None:
    world = World(1, BEGAN, SMALL)
    first = world.name_of(7)
    world.rename(7, "o/second")
    world.rename(7, "o/third")
    assert world.find(first.upper()) == world.find("O/Second") == (7, True)
    assert world.find("o/THIRD") == (7, False)
    world.rename(8, "o/second")
    assert world.find("o/second") == (8, False)


def test_another_repository_comes_under_the_name_of_a_deleted_one() -> None:
    """houndci/hound#1128, augurlabs/augur#3056."""
    world = World(1, BEGAN, SMALL)
    name = world.name_of(20)
    world.change(20, "recreated")
    found = world.find(name)
    assert world.reason[20] == "deleted"
    assert found is not None
    assert found[0] != 20
    assert world.created[found[0]] == int(BEGAN)
    assert list(world.created) == sorted(world.created)


def test_a_name_no_longer_leads_to_a_repository_that_is_gone() -> None:
    world = World(1, BEGAN, SMALL)
    former = world.name_of(7)
    world.rename(7, "o/second")
    world.change(7, "private")
    assert world.find(former) is None


def test_in_a_day_two_in_a_hundred_are_pushed_to_and_some_vanish() -> None:
    world = World(1, BEGAN, Shape(repositories=20_000))
    before = world.stars.copy()
    world.advance(BEGAN + DAY)
    assert 300 < (world.pushed > BEGAN).sum() < 500
    assert 300 < (world.stars > before).sum() < 500
    world.advance(BEGAN + LONGEST_RUN)
    assert {"deleted", "private"} <= set(world.reason.values())
    assert world.created[~world.gone].max() > BEGAN, "some are created during the crawl"


@pytest.mark.parametrize(
    "shape",
    [
        Shape(repositories=5_000, language_shares=(0, 0, 0, 1)),
        Shape(repositories=5_000, growth=9, bursts=0.5, largest_burst=4_000),
        Shape(repositories=5_000, growth=0, bursts=0, largest_burst=0, tail=0.4, invisible=0.2, counted=0.2),
        Shape(repositories=5_000, odd_names=1, changes_per_day=3),
        Shape(repositories=40),
    ],
)
def test_other_shapes_of_the_same_world(shape: Shape) -> None:
    world = World(7, BEGAN, shape)
    assert list(world.created) == sorted(world.created)
    assert len(set(world.id)) == len({world.name_of(index) for index in range(shape.repositories)}) == len(world.id)
    world.advance(BEGAN + LONGEST_RUN)
    alive = [
        index for index in range(shape.repositories) if not world.gone[index] and world.created[index] <= world.now
    ]
    assert all(world.find(world.name_of(index)) == (index, False) for index in alive)

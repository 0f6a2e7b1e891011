from __future__ import annotations

import random
from functools import partial

from codelupe_scorers.repetition import Repetition
from tests.processes import cpu_seconds
from tests.unit.codelupe_scorers.samples import source


def points(content: str) -> float:
    return Repetition(1).score(source(content)).value


def words(count: int) -> str:
    numbers = random.Random(1)
    return "\n".join(" ".join(f"w{numbers.randrange(10**6)}" for _ in range(8)) for _ in range(count // 8))


def test_nothing_said_twice_has_nearly_all_points() -> None:
    assert points(words(800)) > 95


def test_the_same_line_over_and_over_has_none() -> None:
    assert points("insert into table values one\n" * 100) == 0


def test_a_block_that_comes_again_costs_points() -> None:
    block = words(400)
    assert points(words(800)) > points(block + "\n" + block) > points("\n".join([block] * 4))


def test_the_reason_names_the_worst_share() -> None:
    [reason] = Repetition(1).score(source("a b\n" * 80)).reasons
    assert reason.startswith("most frequent")


def test_short_and_empty_files_are_not_blamed() -> None:
    assert points("") == points("}\n}\n}\n") == points("import a\nimport b\nimport c\n") == 100


def test_braces_alone_are_no_repeated_lines() -> None:
    assert points(words(160) + "\n}\n}\n}\n" * 50) > 90


def test_a_huge_file_takes_no_longer_than_a_large_one() -> None:
    def taken(words: int) -> float:
        return min(cpu_seconds(partial(points, "word " * words)) for _ in range(5))

    assert taken(200_000) < 20 * taken(1_600), "it is 125 times as long"

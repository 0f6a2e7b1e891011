"""Which piece of a file a window is, and which groups decide."""

from __future__ import annotations

from dataclasses import replace

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from codelupe_trainer.gate.windows import Candidate, Part, Window, cut_window, divide, fingerprint

# What Postgres can hold.
CONTENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.just("\n"), max_size=400)


def candidate(
    content: str = "x = 1\n" * 100,
    group: str = "g",
    known: tuple[int, int] | None = None,
    part: Part | None = None,
) -> Candidate:
    return Candidate(
        file_id=1,
        repository_id=f"{group}/r",
        group_id=group,
        language="Python",
        content=content,
        content_hash=xxhash.xxh3_128_digest(content.encode()),
        is_young=None,
        known=known,
        part=part,
    )


def window(group: str, part: Part | None = None) -> Window:
    return Window(file=candidate(group=group, part=part), first_byte=0, end_byte=6)


@given(CONTENTS, st.integers(1, 100), st.integers(0, 9))
def test_a_window_is_whole_lines_within_the_bytes(content: str, most: int, seed: int) -> None:
    cut = cut_window(candidate(content), most, seed)
    lines = content.encode().split(b"\n")
    if cut is None:
        assert not content.strip() or any(not line.strip() for line in lines) or max(map(len, lines)) + 1 > most
        return
    data = content.encode()
    assert 0 < cut.end_byte - cut.first_byte <= most
    assert cut.first_byte == 0 or data[cut.first_byte - 1 : cut.first_byte] == b"\n"
    assert cut.end_byte == len(data) or data[cut.end_byte - 1 : cut.end_byte] == b"\n"
    assert cut.text.encode() == data[cut.first_byte : cut.end_byte]
    assert cut.text_hash == xxhash.xxh3_128_digest(cut.text.encode())


def test_a_short_file_is_its_own_window_and_a_long_one_s_place_is_drawn() -> None:
    short = cut_window(candidate("a = 1\nb = 2"), 100, 1)
    assert short is not None
    assert short.text == "a = 1\nb = 2"
    places = {cut_window(candidate(), 60, seed) for seed in range(30)}
    assert len({one.first_byte for one in places if one}) > 10
    assert {len(one.text) for one in places if one} == {60}
    assert cut_window(candidate(), 60, 3) == cut_window(candidate(), 60, 3)


@pytest.mark.parametrize("content", ["", "\n\n  \n", "x" * 61])
def test_blanks_and_lines_that_are_too_long_make_none(content: str) -> None:
    assert cut_window(candidate(content), 60, 1) is None


def test_a_file_keeps_the_window_that_it_had() -> None:
    cut = cut_window(candidate(known=(6, 18)), 600, 1)
    assert cut is not None
    assert (cut.first_byte, cut.end_byte) == (6, 18)


@given(st.sets(st.text("abcdef", min_size=1, max_size=5), min_size=1, max_size=40), st.integers(0, 99))
def test_half_of_the_groups_decide(groups: set[str], seed: int) -> None:
    parts = divide([window(group) for group in groups], seed)
    assert parts.keys() == groups
    deciding = sum(part == "decides" for part in parts.values())
    assert deciding == (len(groups) + 1) // 2
    assert divide([window(group) for group in sorted(groups, reverse=True)], seed) == parts


def test_groups_keep_their_part_and_new_ones_fill_the_smaller() -> None:
    known = [window("a", "decides"), window("b", "decides"), window("c", "decides"), window("d", "reports")]
    parts = divide([*known, window("e"), window("f")], 1)
    assert {group: parts[group] for group in "abcd"} == {"a": "decides", "b": "decides", "c": "decides", "d": "reports"}
    assert {parts["e"], parts["f"]} == {"reports"}


def test_a_group_that_has_decided_never_reports() -> None:
    """Two groups of different parts became one."""
    assert divide([window("a", "reports"), window("a", "decides"), window("a")], 1)["a"] == "decides"


def test_the_fingerprint_tells_every_change() -> None:
    other = replace(window("b"), file=candidate("z = 3\n" * 9, "b"))
    windows, parts = [window("a"), other], dict[str, Part](a="decides", b="reports")
    known = fingerprint(windows, parts)
    assert fingerprint(windows, parts) == known
    changed = [
        fingerprint(windows[::-1], parts),
        fingerprint(windows[:1], parts),
        fingerprint([replace(windows[0], end_byte=12), windows[1]], parts),
        fingerprint(windows, dict[str, Part](a="reports", b="decides")),
        fingerprint([replace(windows[0], file=candidate("y = 2\n" * 9, "a")), windows[1]], parts),
    ]
    assert len({known, *changed}) == 6

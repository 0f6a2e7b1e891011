from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelupe import Sample, SourceFile
from codelupe_trainer.samples.infill import InfillFormat, RepositoryInfillFormat
from tests.unit.codelupe_trainer.samples.requests import count_words, request
from tests.unit.codelupe_trainer.samples.test_windows import codes, texts

FILE = "".join(f"value_{number} = {number}\n" for number in range(40))
INFILL = re.compile(r"<\|fim_prefix\|>(.*)<\|fim_suffix\|>(.*)<\|fim_middle\|>", re.DOTALL)


def put_together(sample: Sample) -> str:
    [(prefix, suffix)] = INFILL.findall(sample.prompt)
    return f"{prefix}{sample.answer}{suffix}"


@given(texts | codes, st.integers(10, 400))
def test_the_answer_fills_the_gap_of_the_code(content: str, room: int) -> None:
    sample = InfillFormat().make(request(content, room))
    if sample is None:
        return
    assert put_together(sample) in content
    assert sample.answer.strip()
    assert len(sample.answer) <= len(content) / 3
    assert sample.ends
    assert sample.form == "text"
    assert sum(count_words([put_together(sample)])) + 3 <= room


def test_gaps_differ_and_some_reach_to_the_end_of_a_line() -> None:
    samples = [InfillFormat().make(request(FILE, seed=str(seed))) for seed in range(200)]
    assert all(sample is not None and not sample.is_cut and put_together(sample) == FILE for sample in samples)
    assert len({sample.answer for sample in samples if sample is not None}) > 150
    at_line_end = [sample for sample in samples if sample is not None and "<|fim_suffix|>\n" in sample.prompt]
    assert 50 < len(at_line_end) < 150


@pytest.mark.parametrize("content", ["", "x", "ab", "   \n   \n   \n"])
def test_what_has_no_gap_makes_no_sample(content: str) -> None:
    assert InfillFormat().make(request(content)) is None


def test_files_of_the_repository_stand_before_the_gap() -> None:
    neighbours = [SourceFile(path=f"n{n}.py", content=f"n = {n}", language="Python", licence=None) for n in range(3)]
    sample = RepositoryInfillFormat().make(request(FILE, neighbours=neighbours))
    assert sample is not None
    before, _, rest = sample.prompt.partition("<|fim_prefix|>")
    assert before == (
        "<|repo_name|>local/one\n<|file_sep|>n0.py\nn = 0\n<|file_sep|>n1.py\nn = 1\n<|file_sep|>n2.py\nn = 2\n"
        "<|file_sep|>one.py\n"
    )
    assert put_together(sample) == FILE
    assert rest


@pytest.mark.parametrize("room", [60, 100, 250, 1000])
def test_neighbours_leave_the_file_half_of_the_room(room: int) -> None:
    neighbours = [SourceFile(path="n.py", content="n " * n, language="Python", licence=None) for n in (500, 20, 30, 40)]
    sample = RepositoryInfillFormat().make(request(FILE * 9, room, neighbours=neighbours))
    if sample is None:
        assert room == 60
        return
    before = sample.prompt.partition("<|fim_prefix|>")[0]
    assert "n " * 500 not in before or room == 1000
    assert count_words([before])[0] <= room // 2 + 20
    assert sum(count_words([before, put_together(sample)])) + 3 <= room


def test_a_file_alone_makes_no_sample_of_a_repository() -> None:
    assert RepositoryInfillFormat().make(request(FILE)) is None

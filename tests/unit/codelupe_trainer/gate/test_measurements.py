"""What was measured stays, whatever ends the process that measures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from codelupe_trainer.gate.measurements import Header, Measurement, MeasurementFile, read_measurements

HEADER = Header(adapter="", base="b", quantisation="nf4", system="", evaluators={"plain": 1}, generated_tokens=48)
ONE = Measurement(by="plain", of="1", values={"nats": 2.5, "bytes": 10})
TWO = Measurement(by="generation", of="1", values={"ends": 1.0})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "base.measured.jsonl"
    with MeasurementFile(path, HEADER) as file:
        assert file.known == {}
        file.add(ONE)
        file.add(TWO)
    return path


def test_the_next_process_goes_on(path: Path) -> None:
    three = Measurement(by="plain", of="2", values={})
    with MeasurementFile(path, HEADER) as file:
        assert file.known == {ONE.key: ONE, TWO.key: TWO}
        file.add(three)
    assert read_measurements(path) == {one.key: one for one in (ONE, TWO, three)}


@pytest.mark.parametrize("rest", [b'{"by": "pl', b"\0" * 512 + b"\n", b'{"by": "plain"}\n', b"\xff\n", b"null\n"])
def test_a_line_that_is_not_whole_ends_what_counts(path: Path, rest: bytes) -> None:
    first, one, two = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + one + rest + two)
    with MeasurementFile(path, HEADER) as file:
        assert file.known == {ONE.key: ONE}
        file.add(TWO)
    assert path.read_bytes() == first + one + two


@pytest.mark.parametrize("change", [{"adapter": "other"}, {"quantisation": "none"}, {"evaluators": {"plain": 2}}])
def test_what_was_measured_otherwise_does_not_count(path: Path, change: dict[str, object]) -> None:
    with MeasurementFile(path, HEADER.model_copy(update=change)) as file:
        assert file.known == {}
    assert read_measurements(path) == {}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"nonsense\n{}\n"])
def test_what_is_no_such_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.measured.jsonl"
    path.write_bytes(content)
    with MeasurementFile(path, HEADER) as file:
        file.add(ONE)
    assert read_measurements(path) == {ONE.key: ONE}


def test_nats_that_are_no_number_are_kept_as_such(tmp_path: Path) -> None:
    path = tmp_path / "m.measured.jsonl"
    with MeasurementFile(path, HEADER) as file:
        file.add(Measurement(by="plain", of="1", values={"nats": math.nan, "bytes": 1}))
    assert math.isnan(read_measurements(path)["plain", "1"].values["nats"])

"""What was measured of a model, on disk: a line each, so that a process that ends early loses one at most."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

GENERATION = "generation"
"""The measure of short generations; others are called as their evaluators are."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Header(_Line):
    """Which model was measured, and how; what was measured in another way is of no use."""

    adapter: str
    """SHA-256 of the adapter's weights; empty for a base alone."""
    base: str
    """Fingerprint of the base."""
    quantisation: str
    system: str
    evaluators: dict[str, int]
    """By name with their versions."""
    generated_tokens: int


Key = tuple[str, str]
"""What measured, and what it was measured on: a window, by the hash of its text, or a problem by its id."""


Value = Literal["nats", "bytes", "next_line", "edit_similarity", "syntax_valid", "ends", "solved"]
Values = dict[Value, float]


class Measurement(_Line):
    """One evaluator's answer about one window or problem."""

    by: str
    of: str
    values: Values
    """``nats`` are the sum of ``-ln p`` over a text of so many ``bytes`` (UTF-8); the others are shares or
    similarities, from 0 to 1. Empty where the window does not suit."""

    @property
    def key(self) -> Key:
        return self.by, self.of


class MeasurementFile:
    """The measurements of one model; those that an earlier process has left there count, if they have this header."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header

    def __enter__(self) -> Self:
        self._path.touch()
        self._file = self._path.open("r+b")
        known = list(self._read())
        self.known: dict[Key, Measurement] = {one.key: one for one in known}
        self._file.truncate()
        if self._file.tell() == 0:
            self._write(self._header)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, measurement: Measurement) -> None:
        """Keep it from now on."""
        self._write(measurement)
        self.known[measurement.key] = measurement

    def _write(self, line: _Line) -> None:
        self._file.write(line.model_dump_json().encode() + b"\n")
        self._file.flush()

    def _read(self) -> Iterator[Measurement]:
        """Up to the first line that is not whole, where the file's position stays."""
        whole = 0
        try:
            if Header.model_validate_json(self._file.readline()) == self._header:
                whole = self._file.tell()
                while line := self._file.readline():
                    if not line.endswith(b"\n"):
                        break
                    yield Measurement.model_validate_json(line)
                    whole = self._file.tell()
        except ValidationError:
            pass
        self._file.seek(whole, os.SEEK_SET)


def measurement_path(folder: Path, model: str) -> Path:
    """Where a model's measurements lie in the folder of a job."""
    return folder / f"{model}.measured.jsonl"


def read_measurements(path: Path) -> dict[Key, Measurement]:
    """What a :class:`MeasurementFile` holds, whatever its header says."""
    with path.open("rb") as file:
        file.readline()
        found = [Measurement.model_validate_json(line) for line in file]
    return {one.key: one for one in found}

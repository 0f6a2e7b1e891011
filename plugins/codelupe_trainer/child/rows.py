"""The rows that a training reads: samples of the job's files, packed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import pyarrow as pa
import torch
from datasets import Dataset, concatenate_datasets
from trl.data_utils import pack_dataset

from codelupe import SourceFile
from codelupe_trainer.child.errors import Unusable
from codelupe_trainer.child.stop import Stop, Stopped
from codelupe_trainer.exports import read_files
from codelupe_trainer.jobs import FILES, Activity, OnReport, SampleTotals, TrainJob, unpack
from codelupe_trainer.samples.drawing import SampleCounts, SampleMaker, why_dropped
from codelupe_trainer.samples.encoding import IGNORED, Encoded, Encoder
from codelupe_trainer.samples.files import CodeFile
from codelupe_trainer.settings import TrainerSettings

_SCHEMA = pa.schema({"input_ids": pa.list_(pa.int32()), "labels": pa.list_(pa.int32())})
_AT_A_TIME = 1000
_NEIGHBOURS = 8
_EXAMPLES = 10
_LONGEST_PROMPT = 512
"""Tokens of an example's prompt at most."""


@dataclass(frozen=True)
class Example:
    """The tokens of a sample."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is trained on and what is only watched."""

    train: Dataset
    """Rows of ``input_ids`` and ``labels``, at most ``max_length`` long; packed ones with ``seq_lengths``."""
    validation: Dataset
    examples: Callable[[], list[Example]]
    """The first of the validation samples, the same at every call."""
    files: int
    """Files that are trained on."""
    validation_files: int
    unused: frozenset[str]
    """The hashes of the files that gave no sample or were not needed."""
    samples: SampleTotals
    per_step: int
    """Rows that hold as many samples as a step is to have."""


def read_rows(job: TrainJob, encoder: Encoder, on_report: OnReport, stop: Stop) -> Rows:
    """Make the samples of the job's files and pack them.

    Raises:
        Unusable: there is none for training, or none for validation.
        UnfitBase: the base cannot be trained in the formats in use.
        Stopped: it was asked to stop.
    """
    settings = job.settings
    steps, validation_files = settings.max_steps, settings.max_validation_files
    reader = _Reader(job, encoder, on_report, stop)
    train = reader.read("train", math.inf if steps is None else steps * settings.samples_per_step)
    validation = reader.read("validation", validation_files)
    rows, validation_rows = pack(train.samples, settings), pack(validation.samples, settings)
    return Rows(
        train=rows,
        validation=validation_rows,
        examples=partial(_examples, validation.samples),
        files=len(train.used),
        validation_files=len(validation.used),
        unused=frozenset(train.unused | validation.unused),
        samples=_totals(train, rows, settings),
        per_step=rows_per_step(len(rows), len(train.samples), settings),
    )


def pack(samples: Dataset, settings: TrainerSettings) -> Dataset:
    """Rows full of samples, if the settings say so; otherwise each sample is a row.

    Best-fit decreasing: no sample is parted, as none is longer than a row.
    """
    return pack_dataset(samples, settings.max_length, "bfd") if settings.packing else samples


def rows_per_step(rows: int, samples: int, settings: TrainerSettings) -> int:
    """As many as hold the samples of a step, in the mean."""
    return max(1, round(settings.samples_per_step * rows / samples))


def in_order(rows: Rows, settings: TrainerSettings, ranks: int) -> Dataset:
    """The rows of all epochs as they are read, one step behind the other; each epoch has an order of its own.

    A step whose rows cannot be divided among the ranks, or in which an epoch ends, is filled up with blank rows, in
    which nothing is learned: so it has the same rows whatever the number of ranks.
    """
    count = len(rows.train)
    blank = rows.train.from_dict(_blank(rows.train.column_names), features=rows.train.features)
    fill = -rows.per_step % ranks
    order: list[int] = []
    for epoch in range(settings.epochs):
        shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(settings.seed + epoch)).tolist()
        for at in range(0, count, rows.per_step):
            step = shuffled[at : at + rows.per_step]
            order += [*step, *[count] * (rows.per_step + fill - len(step))]
    return concatenate_datasets([rows.train, blank]).select(order)


def _blank(columns: Collection[str]) -> dict[str, list[list[int]]]:
    values = {"input_ids": [[0, 0]], "labels": [[IGNORED, IGNORED]], "seq_lengths": [[2]]}
    return {name: values[name] for name in columns}


def files_with(samples: Collection[tuple[int, ...]], job: TrainJob, encoder: Encoder) -> list[CodeFile]:
    """The files that these samples, tokens each, were made of: the samples of all are made once more."""
    return _Reader(job, encoder, lambda _: None, None).find(samples)


@dataclass(frozen=True)
class _Split:
    samples: Dataset
    used: set[str]
    unused: set[str]
    counts: SampleCounts


class _Reader:
    """Goes through the job's files once for each split, and keeps none of them in memory."""

    def __init__(self, job: TrainJob, encoder: Encoder, on_report: OnReport, stop: Stop | None) -> None:
        settings = job.settings
        formats = unpack(job.formats)
        self._maker = SampleMaker(formats, settings.formats, encoder, settings.max_length, job.draw)
        self._settings = settings
        self._path = job.folder / FILES
        self._on_report = on_report
        self._stop = stop
        self._siblings = _Siblings(self._path, encoder)

    def read(self, split: str, limit: float) -> _Split:
        """The samples of the split's files, in their order, until there are enough."""
        self._maker.counts = counts = SampleCounts()
        used: set[str] = set()
        unused: set[str] = set()

        def samples() -> Iterator[Encoded]:
            made = 0
            for file in self._files(split):
                of_file = list(self._samples(file)) if made < limit else []
                made += len(of_file)
                (used if of_file else unused).add(file.content_hash)
                yield from of_file

        dataset = _dataset(samples())
        if not len(dataset):
            reasons = ", ".join(f"{count:,} for {reason}" for reason, count in counts.dropped.items())
            raise Unusable(f"no file of the batch makes a usable sample for {split}; dropped: {reasons or 'none'}")
        return _Split(dataset, used, unused, counts)

    def find(self, samples: Collection[tuple[int, ...]]) -> list[CodeFile]:
        """The files of the training split whose samples have these tokens."""
        self._maker.counts = SampleCounts()
        files = self._files("train")
        return [file for file in files if any(tuple(one.ids) in samples for one in self._samples(file))]

    def _files(self, split: str) -> Iterator[CodeFile]:
        for number, file in enumerate(read_files(self._path)):
            if self._stop:
                raise Stopped
            if number % _AT_A_TIME == 0:
                self._on_report(Activity(what=f"making the samples for {split}: file {number:,}"))
            if file.split == split or (file.split, split) == ("replay", "train"):
                yield file

    def _samples(self, file: CodeFile) -> Iterator[Encoded]:
        neighbours = self._siblings.of(file)
        if (first := self._maker.make(file, neighbours)) is None:
            return
        yield first
        if file.split != "validation" and self._is_drawn_again(file):
            extra = self._maker.make(file, neighbours, extra=True)
            if extra is not None:
                yield extra

    def _is_drawn_again(self, file: CodeFile) -> bool:
        """Never at the lowest score of a batch, always at 100, and between them in proportion."""
        settings = self._settings
        if not settings.weigh_by_score or file.score is None or settings.min_score >= 100:
            return False
        share = (file.score - settings.min_score) / (100 - settings.min_score)
        return int(file.content_hash[-8:], 16) < share * 16**8


class _Siblings:
    """Finds the other files of a file's repository by where they stand in the job's file."""

    def __init__(self, path: Path, encoder: Encoder) -> None:
        self._path = path
        self._encoder = encoder
        self._places: dict[str, list[int]] = {}
        self._number: dict[str, int] = {}
        with path.open("rb") as lines:
            place = 0
            for line in lines:
                file = CodeFile.model_validate_json(line)
                if file.split != "validation":
                    places = self._places.setdefault(file.repository_id, [])
                    self._number[file.content_hash] = len(places)
                    places.append(place)
                place += len(line)

    def of(self, file: CodeFile) -> Callable[[], list[SourceFile]]:
        """Reads those that follow the file, when they are asked for; none for a file that is only watched."""
        number = self._number.get(file.content_hash) if file.split != "validation" else None
        places = self._places.get(file.repository_id, [])
        if number is None:
            return list
        after = list(islice(cycle(places), number + 1, number + 1 + min(_NEIGHBOURS, len(places) - 1)))
        return lambda: list(self._read(after))

    def _read(self, places: Sequence[int]) -> Iterator[SourceFile]:
        with self._path.open("rb") as lines:
            for place in places:
                lines.seek(place)
                file = CodeFile.model_validate_json(lines.readline())
                if why_dropped(file, self._encoder) is None:
                    yield file.source


def _dataset(samples: Iterator[Encoded]) -> Dataset:
    batches = []
    while some := list(islice(samples, _AT_A_TIME)):
        columns = {"input_ids": [one.ids for one in some], "labels": [one.labels for one in some]}
        batches.append(pa.RecordBatch.from_pydict(columns, _SCHEMA))
    return Dataset(pa.Table.from_batches(batches, _SCHEMA))


def _examples(samples: Dataset) -> list[Example]:
    """Ten at most, whose prompts are short enough that none costs much."""
    return list(islice((one for one in map(_parted, samples) if len(one.prompt) <= _LONGEST_PROMPT), _EXAMPLES))


def _parted(sample: dict[str, list[int]]) -> Example:
    ids, labels = sample["input_ids"], sample["labels"]
    begin = next(place for place, label in enumerate(labels) if label >= 0)
    return Example(ids[:begin], ids[begin:])


def _totals(split: _Split, rows: Dataset, settings: TrainerSettings) -> SampleTotals:
    counts = split.counts
    return SampleTotals(
        formats=dict(counts.formats.most_common()),
        cut=counts.cut,
        dropped=dict(counts.dropped.most_common()),
        failed=dict(counts.failed.most_common()),
        learned=counts.learned,
        masked=counts.masked,
        padding=0 if settings.packing else _padding(split.samples, settings.micro_batch),
        rows=len(rows),
    )


def _padding(samples: Dataset, micro_batch: int) -> int:
    """What rows of several samples are filled up with, if they are taken in this order; the training shuffles them."""
    lengths = [len(ids) for ids in samples["input_ids"]]
    batches = (lengths[at : at + micro_batch] for at in range(0, len(lengths), micro_batch))
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

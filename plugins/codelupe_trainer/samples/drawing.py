"""Which format makes the sample of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from codelupe import CodelupeError, SampleFormat, SampleRequest, SourceFile
from codelupe_trainer.samples.completion import CompletionFormat
from codelupe_trainer.samples.encoding import Encoded, Encoder, UnfitBase
from codelupe_trainer.samples.files import CodeFile

_FALLBACK = CompletionFormat()


@dataclass
class SampleCounts:
    """What became of files. Tokens are those of the base's tokenizer, without padding."""

    formats: Counter[str] = field(default_factory=Counter)
    """Samples of each format."""
    cut: int = 0
    """Samples that show only a part of their file."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Files without a sample, by reason."""
    failed: Counter[str] = field(default_factory=Counter)
    """Files at which a format failed; another one made the sample."""
    learned: int = 0
    """Tokens that are learned."""
    masked: int = 0
    """Tokens that are only read."""


def why_dropped(file: CodeFile, encoder: Encoder) -> str | None:
    """Why the file makes no sample, whatever the format: it could speak to the model in place of its user."""
    texts = (file.content, file.path, file.repository)
    if any(token in text for token in encoder.control_tokens for text in texts):
        return "control-tokens"
    return None if file.content.strip() else "empty"


def sample_request(
    file: CodeFile,
    encoder: Encoder,
    max_length: int,
    draw: str,
    neighbours: Callable[[], Sequence[SourceFile]] = list,
) -> SampleRequest:
    """What a format is asked; ``draw`` and the file's content decide what it draws."""
    return SampleRequest(
        file=file.source,
        repository=file.repository,
        neighbours=neighbours,
        room=max_length - encoder.overhead,
        count_tokens=encoder.count_tokens,
        random=Random(f"{draw}/{file.content_hash}"),
    )


class SampleMaker:
    """Makes the samples of files, each in a format that is drawn by the weights.

    ``draw`` says what is drawn for, such as the batch and the seed: the same draw and file make the same sample.

    Raises:
        UnfitBase: a format in use needs control tokens that the base does not know, or there is no such format.
    """

    def __init__(
        self,
        formats: Sequence[SampleFormat],
        weights: Mapping[str, float],
        encoder: Encoder,
        max_length: int,
        draw: str,
    ) -> None:
        self._formats = _in_use(formats, weights, encoder)
        self._weights = weights
        self._encoder = encoder
        self._max_length = max_length
        self._draw = draw
        self.counts = SampleCounts()

    def make(
        self, file: CodeFile, neighbours: Callable[[], Sequence[SourceFile]] = list, *, extra: bool = False
    ) -> Encoded | None:
        """One sample of the file, counted; None if it makes none. ``extra`` makes another than without."""
        reason = why_dropped(file, self._encoder)
        draw = f"{self._draw}/extra" if extra else self._draw
        request = sample_request(file, self._encoder, self._max_length, draw, neighbours)
        made = None if reason else self._first(request)
        if made is None:
            self.counts.dropped[reason or "too-little-room"] += not extra
            return None
        name, is_cut, encoded = made
        self.counts.formats[name] += 1
        self.counts.cut += is_cut
        self.counts.learned += encoded.learned
        self.counts.masked += len(encoded.ids) - encoded.learned
        return encoded

    def _first(self, request: SampleRequest) -> tuple[str, bool, Encoded] | None:
        """What the first format makes that suits the file."""
        for each in self._drawn(request.random):
            try:
                sample = each.make(request)
            except CodelupeError:
                self.counts.failed[each.name] += 1
                continue
            if sample is not None and (encoded := self._encoder.encode(sample, self._max_length)) is not None:
                return each.name, sample.is_cut, encoded
        return None

    def _drawn(self, random: Random) -> Iterator[SampleFormat]:
        """The formats in use in the order in which they are drawn, and the one that suits every file."""
        left = list(self._formats)
        while left:
            [drawn] = random.choices(left, [self._weights[each.name] for each in left])
            left.remove(drawn)
            yield drawn
        yield _FALLBACK


def _in_use(formats: Sequence[SampleFormat], weights: Mapping[str, float], encoder: Encoder) -> list[SampleFormat]:
    by_name = {each.name: each for each in formats}
    if unknown := sorted(name for name, weight in weights.items() if weight and name not in by_name):
        raise UnfitBase(
            f"no plugin offers the sample format {unknown[0]!r}, which the setting formats names; there are "
            f"{', '.join(sorted(by_name))}"
        )
    used = [each for each in formats if weights.get(each.name)]
    for each in used:
        if missing := [token for token in each.control_tokens if token not in encoder.control_tokens]:
            raise UnfitBase(
                f"the base model does not know {missing[0]}, which the sample format {each.name!r} needs; set "
                f"formats.{each.name} = 0, or choose another base"
            )
    return used

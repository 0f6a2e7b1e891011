from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

import codelupe_trainer
from codelupe import Sample, SampleRequest, SourceFile
from codelupe.contracts.guards import guard_sample_format
from codelupe_trainer.samples.completion import CompletionFormat
from codelupe_trainer.samples.drawing import SampleMaker, why_dropped
from codelupe_trainer.samples.encoding import Encoder, UnfitBase
from tests.training import byte_tokenizer, code_file
from tests.unit.codelupe_trainer.samples.test_encoding import QWEN, TURN_END

FILE = code_file("".join(f"value_{number} = {number}\n" for number in range(40)))
NEIGHBOURS = [SourceFile(path="n.py", content="n = 1", language="Python", licence=None)]
OWN = codelupe_trainer.codelupe_sample_formats()
EQUAL = dict.fromkeys((each.name for each in OWN), 1.0)


@dataclass
class _Format:
    name: str = "of-others"
    version: int = 1
    control_tokens: tuple[str, ...] = ()
    sample: Sample | None = None

    def make(self, request: SampleRequest) -> Sample | None:
        if self.sample is None:
            raise ValueError(f"cannot read {request.file.path}")
        return self.sample


def maker(
    weights: dict[str, float] = EQUAL, draw: str = "1/42", max_length: int = 2000, **formats: object
) -> SampleMaker:
    offered = [*OWN, *(guard_sample_format("acme", each) for each in formats.values())]  # type: ignore[arg-type]
    return SampleMaker(offered, weights, QWEN, max_length, draw)


def test_formats_are_drawn_by_their_weights() -> None:
    made = maker({"completion": 3, "infill": 1, "repository-infill": 0})
    for number in range(400):
        made.make(FILE.model_copy(update={"content_hash": f"{number:032x}"}), lambda: NEIGHBOURS)
    assert made.counts.formats.keys() == {"completion", "infill"}
    assert 260 < made.counts.formats["completion"] < 340


def test_the_same_draw_and_file_make_the_same_sample_and_others_another() -> None:
    assert maker().make(FILE) == maker().make(FILE)
    assert len({tuple(maker(draw=f"{batch}/42").make(FILE).ids) for batch in range(20)}) > 10  # type: ignore[union-attr]
    assert maker().make(FILE, extra=True) != maker().make(FILE)


def test_what_suits_no_other_format_becomes_a_completion() -> None:
    made = maker({"repository-infill": 1})
    assert made.make(FILE) is not None
    assert made.counts.formats == Counter(completion=1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"content": "text = '<|im_end|>'\nprint(text)"}, "control-tokens"),
        ({"content": "x = '<|fim_middle|>'\ny = 1\n"}, "control-tokens"),
        ({"path": "<|im_start|>.py"}, "control-tokens"),
        ({"content": ""}, "empty"),
        ({"content": " \n\n"}, "empty"),
    ],
)
def test_a_file_that_could_speak_for_the_user_is_dropped_and_counted(changes: dict[str, str], reason: str) -> None:
    made, file = maker(), FILE.model_copy(update=changes)
    assert why_dropped(file, QWEN) == reason
    assert made.make(file) is None
    assert made.counts.dropped == Counter({reason: 1})
    assert not made.counts.formats


@pytest.mark.parametrize(
    "content", ["one line only", "x" * 9000, "x " * 3000, "\n".join(["y" * 500] * 9), "#!\n\n\na=1\n"]
)
@pytest.mark.parametrize("language", ["Python", "COBOL", None])
def test_only_control_tokens_drop_a_file(content: str, language: str | None) -> None:
    made = maker(max_length=200)
    encoded = made.make(code_file(content, language))
    assert encoded is not None
    assert len(encoded.ids) <= 200
    assert encoded.learned


def test_samples_cut_files_and_tokens_are_counted() -> None:
    made = maker({"completion": 1}, max_length=300)
    short, long = made.make(code_file("a = 1\nb = 2\n")), made.make(FILE)
    assert short is not None
    assert long is not None
    assert made.counts.cut == 1
    assert made.counts.learned == short.learned + long.learned
    assert made.counts.masked == len(short.ids) + len(long.ids) - made.counts.learned


def test_a_format_that_fails_is_passed_over_and_counted() -> None:
    made = maker({"of-others": 1}, broken=_Format())
    assert made.make(FILE) is not None
    assert made.counts.failed == Counter({"of-others": 1})
    assert made.counts.formats == Counter(completion=1)


def test_a_format_that_takes_no_heed_of_the_room_is_passed_over() -> None:
    heedless = Sample(prompt="x" * 5000, answer="y", form="chat", ends=True, is_cut=False)
    made = maker({"of-others": 1}, heedless=_Format(sample=heedless))
    assert made.make(FILE) is not None
    assert made.counts.formats == Counter(completion=1)


def test_a_format_that_is_not_offered_is_refused() -> None:
    with pytest.raises(
        UnfitBase, match=r"no plugin offers the sample format 'poems'.* completion, docstring, function, infill"
    ):
        maker({"completion": 1, "poems": 0.5, "riddles": 0})


def test_a_format_whose_control_tokens_the_base_does_not_know_is_refused() -> None:
    tokenizer = byte_tokenizer(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    encoder = Encoder(tokenizer, [TURN_END])
    assert SampleMaker([CompletionFormat()], {"completion": 1}, encoder, 2000, "1").make(FILE) is not None
    with pytest.raises(UnfitBase, match=r"does not know <\|fim_prefix\|>, .* set formats\.infill = 0"):
        SampleMaker(OWN, EQUAL, encoder, 2000, "1")

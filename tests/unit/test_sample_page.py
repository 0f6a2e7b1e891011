"""The page about samples shows what the formats make."""

from __future__ import annotations

import re

from codelupe_trainer.settings import TrainerSettings
from scripts.sample_page import FORMATS, PAGE, make_sample, renewed


def test_the_examples_are_what_the_formats_make() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text) == text, "run `make docs`"


def test_every_format_has_an_example() -> None:
    assert re.findall(r"^<!-- sample: (?!end)(\S+) -->$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == list(
        FORMATS
    )


def test_a_changed_example_is_noticed() -> None:
    text, answer = PAGE.read_text(encoding="utf-8"), make_sample("function").answer
    assert answer in text
    assert renewed(text.replace(answer, "    pass")) == text


def test_the_weights_are_those_of_the_settings() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: float(weight) for name, weight in rows} == TrainerSettings().formats

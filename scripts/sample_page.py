"""Writes into docs/explanation/samples.md what the trainer's sample formats make of the example beside it.

The page has an example of each format between ``<!-- sample: FORMAT -->`` and ``<!-- sample: end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

import codelupe_trainer
from codelupe import Sample, SampleRequest, SourceFile

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "samples.md"
FORMATS = {each.name: each for each in codelupe_trainer.codelupe_sample_formats()}
_EXAMPLE = re.compile(r"<!-- sample: (?!end)(\S+) -->\n.*?<!-- sample: end -->\n", re.DOTALL)
_ROOM = 4000
_DRAW = 8
"""One whose gaps are easily seen."""


def renewed(page: str) -> str:
    """The page's text with what the formats make now."""
    return _EXAMPLE.sub(lambda found: _example(found[1]), page)


def _example(name: str) -> str:
    sample = make_sample(name)
    end = "and its end" if sample.ends else "without an end"
    return (
        f"<!-- sample: {name} -->\nThe question:\n\n```text\n{sample.prompt}\n```\n\n"
        f"The answer, {end}:\n\n```text\n{sample.answer}\n```\n<!-- sample: end -->\n"
    )


def make_sample(name: str) -> Sample:
    """What the format makes of ``meter.py``."""
    file, neighbour = (_read(PAGE.parent / "example-samples" / each) for each in ("meter.py", "reading.py"))
    request = SampleRequest(
        file=file,
        repository="example/meters",
        neighbours=lambda: [neighbour],
        room=_ROOM,
        count_tokens=_count_words,
        random=Random(f"{_DRAW}/{name}"),
    )
    sample = FORMATS[name].make(request)
    assert sample is not None
    return sample


def _read(path: Path) -> SourceFile:
    return SourceFile(path=path.name, content=path.read_text(encoding="utf-8"), language="Python", licence="MIT")


def _count_words(texts: Sequence[str]) -> list[int]:
    """Near enough, as there is room for all."""
    return [len(re.findall(r"\w+|\W", text)) for text in texts]


def main() -> None:
    """Write the page."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

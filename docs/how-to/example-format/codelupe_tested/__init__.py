"""A sample format: tests from the code that they test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from codelupe import Sample, SampleFormat, SampleRequest, hookimpl

TEST = re.compile(r"test_(\w+\.py)|(\w+)_test(\.go)|(\w+)\.test(\.[jt]sx?)")
INSTRUCTIONS = ("Write tests for this {language} code.", "Here is {name}. Write its tests.", "Test the code of {name}.")


class TestsFormat:
    """Suits a file of tests in whose repository the tested file is in the batch, too."""

    name = "tests"
    version = 1
    control_tokens: Sequence[str] = ()

    def make(self, request: SampleRequest) -> Sample | None:
        """The whole file of tests, from the whole tested file."""
        test = TEST.fullmatch(PurePosixPath(request.file.path).name)
        if test is None:
            return None
        name = "".join(filter(None, test.groups()))
        code = [each.content for each in request.neighbours() if PurePosixPath(each.path).name == name]
        if not code:
            return None
        instruction = request.random.choice(INSTRUCTIONS).format(language=request.file.language, name=name)
        prompt, answer = f"{instruction}\n\n{code[0]}", request.file.content
        if sum(request.count_tokens([prompt, answer])) > request.room:
            return None
        return Sample(prompt=prompt, answer=answer, form="chat", ends=True, is_cut=False)


@hookimpl
def codelupe_sample_formats() -> list[SampleFormat]:
    return [TestsFormat()]

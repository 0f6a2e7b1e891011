"""The settings ``[plugins.filters]``: every threshold of the repository rules and the file rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from codelupe_filters.licences import PERMISSIVE

TARGET_LANGUAGES = ("Rust", "Go", "Python", "TypeScript", "JavaScript", "Dart")
TEACHING_WORDS = (
    "tutorial",
    "tutorials",
    "demo",
    "demos",
    "course",
    "courses",
    "coursework",
    "homework",
    "homeworks",
    "assignment",
    "assignments",
    "bootcamp",
    "bootcamps",
    "workshop",
    "workshops",
    "exercise",
    "exercises",
    "cheatsheet",
    "cheatsheets",
    "awesome",
    "leetcode",
)


class Criterion(BaseModel):
    """One thing that repositories are judged by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    required: bool = Field(default=True, description="Whether a repository that does not meet it is turned down.")
    weight: float = Field(default=0, ge=0, allow_inf_nan=False, description="Its share in the score.")
    reason: str = Field(min_length=1, description="Why it is asked for, as `codelupe repos explain` tells.")


def _required(weight: float, reason: str, meaning: str) -> Any:
    return Field(default=Criterion(weight=weight, reason=reason), description=meaning)


def _counted(weight: float, reason: str, meaning: str) -> Any:
    return Field(default=Criterion(required=False, weight=weight, reason=reason), description=meaning)


class Criteria(BaseModel):
    """What repositories are judged by.

    Each criterion is a table. `required`: whether a repository that does not meet it is turned down. `weight`: its
    share in the score, 0 or more; the score is the mean of how well each is met, by weight, from 0 to 100. `reason`:
    why it is asked for, as `codelupe repos explain` tells. What is left out stays as it is by default. A criterion that
    is not required and has no weight is switched off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_stars: Criterion = _required(40, "stars say that others have found it of use", "It has `min_stars` stars.")
    min_forks: Criterion = _required(20, "forks say that others have worked with it", "It has `min_forks` forks.")
    language: Criterion = _required(
        0, "files in other languages are not learned from", "Its main language is one of `languages`, or is unknown."
    )
    teaching: Criterion = _required(
        0, "code to teach or to show something is simpler than code in use", "It has none of the `excluded_words`."
    )
    max_size: Criterion = _required(
        0, "what is so large is mostly data", "It has at most `max_size_kib`, or its size is unknown."
    )
    fork: Criterion = _required(0, "a fork has its parent's files", "It is no fork of another repository.")
    mirror: Criterion = _required(0, "a mirror has the files of what it mirrors", "It is no mirror of another one.")
    template: Criterion = _required(
        0, "a template's files are in all that was made from it", "It is no template for others."
    )
    archived: Criterion = _required(0, "what is archived is not kept up any more", "It is not archived.")
    disabled: Criterion = _required(0, "what its host has disabled cannot be cloned", "It is not disabled.")
    description: Criterion = _counted(10, "a description says that it is meant for others", "It has a description.")
    topics: Criterion = _counted(10, "topics say that it is meant to be found", "It has topics; three are enough.")
    licence: Criterion = _counted(10, "without a licence its files may not be used", "It states a licence (SPDX).")
    recency: Criterion = _counted(
        10,
        "code that is worked on follows today's practice",
        "It was pushed to: in full up to a year ago, 0 after five.",
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_what_is_left_out(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: cls._completed(name, values) for name, values in given.items()}

    @classmethod
    def _completed(cls, name: str, values: Any) -> Any:
        if not isinstance(values, Mapping) or name not in cls.model_fields:
            return values
        return cls.model_fields[name].default.model_dump() | dict(values)

    @model_validator(mode="after")
    def _has_a_score(self) -> Self:
        if not any(criterion.weight for _, criterion in self.each()):
            raise ValueError("no criterion has a weight, so there is no score; give one, and set min_score to 0")
        return self

    def each(self) -> list[tuple[str, Criterion]]:
        """All of them by name, in their order."""
        return [(name.replace("_", "-"), getattr(self, name)) for name in type(self).model_fields]


class FiltersSettings(BaseModel):
    """What may be cloned, and which files of a clone are worth keeping."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[str, ...] = Field(
        default=TARGET_LANGUAGES,
        min_length=1,
        description="Languages to keep, named as on GitHub; upper and lower case are one.",
    )

    min_stars: int = Field(default=10, ge=0, description="Fewest stars of a repository.")
    min_forks: int = Field(default=3, ge=0, description="Fewest forks of a repository.")
    min_score: float = Field(default=50, ge=0, le=100, description="Lowest repository score, 0 to 100.")
    max_size_kib: int = Field(
        default=1024 * 1024, ge=1, description="Largest repository, in KiB as its source states it."
    )
    excluded_words: tuple[str, ...] = Field(
        default=TEACHING_WORDS,
        description="Words and phrases that mark teaching material when a name, a topic or a description has one:"
        " `cheat sheet` is in `CheatSheet` and `my_cheat-sheet`, `demo` is not in `democracy`. Where good descriptions"
        " have a word, too (`awesome`, `demo`, `course` …), only what tells the kind counts: `a demo project`.",
    )
    criteria: Criteria = Field(default_factory=Criteria, description="What repositories are judged by.")

    licences: tuple[str, ...] = Field(
        default=PERMISSIVE,
        description="SPDX identifiers of the licences under which a file is stored; the permissive ones by default.",
    )
    unknown_licence: Literal["accept", "reject"] = Field(
        default="reject", description="What becomes of files whose licence neither the source nor a text tells."
    )
    max_redacted_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Highest share of secrets, e-mail and IP addresses; up to it they are replaced by placeholders.",
    )

    decontaminate: tuple[str, ...] = Field(
        default=("humaneval",),
        description="Benchmarks whose problems may not be in a file: `humaneval` (extra `decontamination`), and paths"
        " of JSONL files, one problem a line, or of folders, one problem a file.",
    )

    max_files: int = Field(
        default=100_000, ge=1, description="Most files and folders of one repository; the walk stops there."
    )
    max_file_bytes: int = Field(default=1024 * 1024, ge=1, description="Largest file that is read.")
    max_lines: int = Field(default=100_000, ge=1, description="Most lines of a file.")
    max_data_lines: int = Field(
        default=512, ge=1, description="Most lines of a file of data: JSON, YAML or plain text, if these are kept."
    )
    max_line_length: int = Field(default=1000, ge=1, description="Longest line, in characters.")
    max_mean_line_length: float = Field(
        default=100, gt=0, description="Highest mean length of a file's lines, in characters."
    )
    max_prose_line_length: int = Field(
        default=100_000, ge=1, description="Longest line of HTML, JSON, Markdown and other text, in characters."
    )
    min_letters: float = Field(
        default=0.25, ge=0, le=1, description="Lowest share of letters among a file's characters."
    )
    max_encoded_run: int = Field(default=1024, ge=64, description="Longest run of encoded data, in characters.")
    max_encoded_share: float = Field(
        default=0.5, ge=0, le=1, description="Highest share of encoded data among the characters."
    )

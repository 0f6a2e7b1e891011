"""The settings ``[plugins.filters]``: every threshold of the repository rules and the file rules."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from codelupe_filters.licences import PERMISSIVE

TARGET_LANGUAGES = ("Rust", "Go", "Python", "TypeScript", "JavaScript", "Dart")
TEACHING_WORDS = (
    "tutorial",
    "tutorials",
    "demo",
    "demos",
    "course",
    "coursework",
    "homework",
    "bootcamp",
    "workshop",
    "exercises",
    "cheatsheet",
    "awesome",
    "leetcode",
)


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
    accept_forks: bool = Field(default=False, description="Whether a fork of another repository is accepted.")
    accept_archived: bool = Field(default=True, description="Whether an archived repository is accepted.")
    excluded_words: tuple[str, ...] = Field(
        default=TEACHING_WORDS,
        description="Words that mark teaching material when a name, a topic or a description has one.",
    )

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

"""The settings ``[plugins.filters]``: every threshold of the repository rules and the file rules."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

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

    max_files: int = Field(
        default=100_000, ge=1, description="Most files and folders of one repository; the walk stops there."
    )
    max_file_bytes: int = Field(default=1024 * 1024, ge=1, description="Largest file that is read.")
    max_lines: int = Field(default=100_000, ge=1, description="Most lines of a file.")
    max_line_length: int = Field(default=1000, ge=1, description="Longest line, in characters.")
    max_mean_line_length: float = Field(
        default=100, gt=0, description="Highest mean length of a file's lines, in characters."
    )
    min_letters: float = Field(
        default=0.25, ge=0, le=1, description="Lowest share of letters among a file's characters."
    )
    max_encoded_run: int = Field(default=1024, ge=64, description="Longest run of encoded data, in characters.")
    max_encoded_share: float = Field(
        default=0.5, ge=0, le=1, description="Highest share of encoded data among the characters."
    )

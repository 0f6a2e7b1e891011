"""Hostile repositories through the real daemon: a reason is stored for each file, nothing outside is read, and the
workers' memory stays bounded. What takes a worker along is the executor's own test."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import codelupe_filters
import codelupe_scorers
from codelupe import Database
from codelupe_events import FilesExtracted, FilesScored, RepoCloned, RepoDiscovered, TaskDeadLettered
from codelupe_filters.contents import read_bytes
from codelupe_filters.file_rules import file_rules
from codelupe_filters.judge import Judge, judge_file
from codelupe_filters.licences import find_licences
from codelupe_filters.redaction import MaxRedacted
from codelupe_filters.settings import FiltersSettings
from codelupe_filters.walk import Found, walk
from tests.conftest import RunUntilIdle
from tests.git_server import make_repository
from tests.processes import cpu_seconds

pytestmark = pytest.mark.anyio

PLUGINS: dict[str, object] = {"filters": codelupe_filters, "scorers": codelupe_scorers}
OPEN: dict[str, Any] = {"min_stars": 0, "min_forks": 0, "min_score": 0}
CODE = b"def add(one, other):\n    return one + other\n"
GIGABYTE = 1024**3


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of one file in the folder where the daemon expects it, to be made worse."""
    make_repository(tmp_path / "state" / "repos" / "r", {"good.py": CODE})
    return tmp_path / "state" / "repos" / "r"


async def judged(
    run_until_idle: RunUntilIdle, database: Database, clone: Path, **settings: object
) -> dict[str, tuple[str | None, str | None]]:
    """The rule that refused each file, if any, and its words."""
    commit = subprocess.check_output(["git", "-C", clone, "rev-parse", "HEAD"], text=True).strip()
    chosen = {"filters": {**OPEN, **settings}}
    found = RepoDiscovered(
        repository_id="test:r", source="test", full_name="o/r", url="https://h/o/r", revision="1", licence="MIT"
    )
    await run_until_idle(PLUGINS, chosen, [found])
    event = RepoCloned(repository_id="test:r", commit=commit, path="r", size_bytes=1, seconds=0)
    events = await run_until_idle(PLUGINS, chosen, [event])
    assert not [it for it in events if isinstance(it, TaskDeadLettered)]
    [extracted] = [it for it in events if isinstance(it, FilesExtracted)]
    assert len([it for it in events if isinstance(it, FilesScored)]) == 1
    rows = await database.fetch("select file_path, rejected_by, rejection->>'detail' as detail from processed_files")
    assert len(rows) == extracted.stored + sum(extracted.rejected.values())
    verdicts = {row["file_path"]: (row["rejected_by"], row["detail"]) for row in rows}
    assert verdicts["good.py"] == (None, None)
    return verdicts


async def test_files_that_are_too_large_are_not_read(
    run_until_idle: RunUntilIdle, database: Database, clone: Path
) -> None:
    """2 GB with a hole in it, and 50 MB in one line."""
    with (clone / "sparse.py").open("wb") as file:
        file.truncate(2 * GIGABYTE)
    (clone / "line.py").write_bytes(b"x = '" + b"words " * (50_000_000 // 6) + b"'\n")
    verdicts = await judged(run_until_idle, database, clone)
    assert verdicts["sparse.py"] == ("too-large", f"{2 * GIGABYTE} bytes, at most 1048576 are read")
    assert verdicts["line.py"][0] == "too-large"


async def test_where_large_files_are_wanted_one_endless_line_is_still_refused(
    run_until_idle: RunUntilIdle, database: Database, clone: Path
) -> None:
    (clone / "line.py").write_bytes(b"x = '" + b"words " * (50_000_000 // 6) + b"'\n")
    verdicts = await judged(run_until_idle, database, clone, max_file_bytes=64 * 1024**2)
    assert verdicts["line.py"][0] == "long-lines"


async def test_the_walk_ends_among_very_many_empty_files(
    run_until_idle: RunUntilIdle, database: Database, clone: Path
) -> None:
    """30,000 of the million, with a limit as much lower: more would only take longer to make."""
    for folder in range(30):
        (clone / f"f{folder}").mkdir()
        for name in range(1000):
            os.close(os.open(clone / f"f{folder}" / f"{name}.py", os.O_CREAT))
    verdicts = await judged(run_until_idle, database, clone, max_files=3000)
    assert verdicts["."] == ("too-many-files", "the walk stopped at more than 3000 entries")
    assert 1000 < len(verdicts) <= 3002
    assert {rule for rule, _ in verdicts.values()} == {None, "too-many-files", "empty"}


@pytest.fixture
def deep(clone: Path) -> Iterator[Path]:
    here = os.open(clone, os.O_RDONLY)
    for _ in range(10_000):
        os.mkdir("dd", dir_fd=here)
        deeper = os.open("dd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    yield clone
    subprocess.run(["rm", "-rf", clone / "dd"], check=True)  # shutil.rmtree cannot


async def test_folders_too_deep_for_the_system_end_where_it_says(
    run_until_idle: RunUntilIdle, database: Database, deep: Path
) -> None:
    verdicts = await judged(run_until_idle, database, deep)
    [(path, (rule, detail))] = [it for it in verdicts.items() if it[0] != "good.py"]
    assert path.startswith("dd/dd/")
    assert (rule, detail) == ("unreadable", "File name too long")


async def test_nothing_outside_the_clone_is_read(
    run_until_idle: RunUntilIdle, database: Database, clone: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_bytes(b"planted_outside = 1\n" + CODE * 5)
    (outside / "LICENSE").write_bytes(b"planted licence\n")
    (clone / "passwd.py").symlink_to("/etc/passwd")
    (clone / "secret.py").symlink_to(outside / "secret.py")
    (clone / "relative.py").symlink_to("../../../outside/secret.py")
    (clone / "folder").symlink_to(outside)
    (clone / "LICENSE").symlink_to(outside / "LICENSE")
    (clone / "itself.py").symlink_to("itself.py")
    (clone / "dangling.py").symlink_to("nowhere")
    os.mkfifo(clone / "pipe.py")
    verdicts = await judged(run_until_idle, database, clone)
    links = ("passwd.py", "secret.py", "relative.py", "folder", "LICENSE", "itself.py", "dangling.py")
    assert {verdicts[name][0] for name in links} == {"symbolic-link"}
    assert verdicts["pipe.py"][0] == "special-file"
    assert len(verdicts) == len(links) + 2
    everything = await database.fetchval("select string_agg(f::text, '') from processed_files as f")
    assert "planted" not in everything
    assert "root:" not in everything


NAMES = {
    b"two\nlines.py": r"two\nlines.py",
    b"tab\tand\rreturn.py": r"tab\tand\rreturn.py",
    b"quote'\".py": "quote'\".py",
    b"caf\xe9.py": r"caf\xe9.py",
    b"back\\slash.py": r"back\\slash.py",
    b"\\N.py": r"\\N.py",
    b"$(touch x);`y`.py": "$(touch x);`y`.py",
    b"-rf.py": "-rf.py",
    "größe 世界.py".encode(): "größe 世界.py",
    "turned\u202ename.py".encode(): r"turned\u202ename.py",
    b"n" * 252 + b".py": "n" * 252 + ".py",
}


async def test_odd_names_are_kept_and_readable(run_until_idle: RunUntilIdle, database: Database, clone: Path) -> None:
    for number, name in enumerate(NAMES):
        (clone / os.fsdecode(name)).write_bytes(CODE + b"number = %d\n" % number)
    verdicts = await judged(run_until_idle, database, clone)
    assert set(verdicts) == {"good.py", *NAMES.values()}
    assert {rule for rule, _ in verdicts.values()} == {None}


CONTENTS = {
    "utf16.py": (CODE.decode().encode("utf-16"), "undecodable"),
    "utf16be.py": (b"\xfe\xff" + CODE.decode().encode("utf-16-be"), "undecodable"),
    "utf16_without_mark.py": (CODE.decode().encode("utf-16-le"), "binary"),
    "utf32.py": (CODE.decode().encode("utf-32"), "undecodable"),
    "latin.py": (b"# caf\xe9\n" + CODE, "undecodable"),
    "surrogate.py": (b"# \xed\xa0\x80\n" + CODE, "undecodable"),
    "nul.py": (CODE + b"\0" + CODE, "binary"),
    "blank.py": (b"\n \t\r\n", "empty"),
    "nothing.py": (b"", "empty"),
    "only_a_mark.py": (b"\xef\xbb\xbf", "empty"),
    "elf.py": (b"\x7fELF\x02\x01\x01\0" + CODE, "binary"),
    "gif.js": (b"GIF89a/*\n" + b"\x01\x02\xff" * 9 + b"*/=1;\nalert(1);\n", "undecodable"),
    "pdf.py": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + CODE, "undecodable"),
    "zip.py": (b"PK\x03\x04\0\0" + CODE, "binary"),
    "page.py": (b"<?xml version='1.0'?>\n<!-- " + CODE + b" -->\n", "xml"),
    "lfs.py": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "lfs-pointer"),
    "mark.py": (b"\xef\xbb\xbf" + CODE + b"mark = 1\n", None),
    "crlf.py": ((CODE + b"crlf = 1\n").replace(b"\n", b"\r\n"), None),
    "cr.py": (CODE + b"old_mac = 1\rnext_line = 2\n", None),
    "form_feed.py": (CODE + b"\x0c\x1b[31m\nform_feed = 1\n", None),
    "copy_end.py": (CODE + b"\\.\n\\N\nend = 1\n", None),
    "shell_and_python.py": (b"#!/bin/sh\n''':'\nexec python3 $0\n'''\n" + CODE, None),
}


async def test_odd_contents_are_stored_or_refused_for_a_reason(
    run_until_idle: RunUntilIdle, database: Database, clone: Path
) -> None:
    for name, (content, _) in CONTENTS.items():
        (clone / name).write_bytes(content)
    verdicts = await judged(run_until_idle, database, clone, languages=["Python", "JavaScript", "Shell"])
    assert {name: verdicts[name][0] for name in CONTENTS} == {name: rule for name, (_, rule) in CONTENTS.items()}
    rows = await database.fetch("select file_path, content from processed_files where content is not null")
    stored = {row["file_path"]: row["content"].encode() for row in rows}
    assert stored["mark.py"] == CODE + b"mark = 1\n"
    assert stored["crlf.py"] == CODE + b"crlf = 1\n"
    assert stored["cr.py"] == CONTENTS["cr.py"][0]
    assert stored["copy_end.py"] == CONTENTS["copy_end.py"][0]


async def test_brackets_deep_in_brackets_exhaust_nothing(
    run_until_idle: RunUntilIdle, database: Database, clone: Path
) -> None:
    """Through filters and scorers, in lines short enough to be kept."""
    languages = {"py": ("x = ", ""), "js": ("x = ", ";"), "go": ("package x\nvar x = ", ""), "rs": ("fn x() { ", "; }")}
    for suffix, (before, after) in languages.items():
        for brackets in ("()", "[]", "{}"):
            opening, closing = ("word\n".join([one * 50] * 400) for one in brackets)
            name = f"{'round' if brackets == '()' else 'square' if brackets == '[]' else 'curly'}.{suffix}"
            (clone / name).write_text(f"{before}{opening}\n{closing}{after}\n")
    verdicts = await judged(run_until_idle, database, clone, min_letters=0)
    assert len(verdicts) == 13
    assert {rule for rule, _ in verdicts.values()} == {None}
    assert await database.fetchval("select count(*) from processed_files where scored_at is null") == 0


WORST = {
    "spaces": b" " * 1_000_000 + b"x\n",
    "quotes": b"'\"`" * 300_000,
    "opening": b"(" * 1_000_000,
    "ats": b"a@" * 500_000,
    "mails": b"".join(b"a%d@b%d.com " % (n, n) for n in range(50_000)),
    "addresses": b"1.1.1.1." * 120_000,
    "hexadecimal": b"0x0f,\\x0f" * 100_000,
    "hex pairs": b"0f " * 330_000,
    "escapes": rb"\u00e9" * 160_000,
    "base64": b"QUJD" * 250_000,
    "key begun": b"-----BEGIN RSA PRIVATE KEY-----\n" * 30_000,
    "password": b"password = '" * 80_000,
    "password long": b"password = '" + b"a1" * 490_000 + b"'",
    "lines": b"\n" * 1_000_000 + b"x",
    "tags": b"<a " * 330_000,
    "comments": b"<!--" * 250_000,
    "entities": b"&#" * 500_000,
    "licence": b"permission is hereby granted " * 30_000,
}


@pytest.mark.parametrize("language", ["Python", "HTML"])
@pytest.mark.parametrize("name", WORST)
def test_no_megabyte_takes_long_or_much(name: str, language: str, clone: Path, compiled_rules: Path) -> None:
    """All rules on the worst of contents, in 300 MB and 800 times the CPU time that ordinary code takes.

    That is the 30 s that the executor gives a file, where a megabyte of code takes 40 ms.
    """
    path = clone / ("a.py" if language == "Python" else "a.html")
    judge = judge_of_all(clone, compiled_rules)
    path.write_bytes(CODE * (1_000_000 // len(CODE)))
    usual = min(cpu_seconds(lambda: judge_only(path, judge)) for _ in range(3))
    path.write_bytes(WORST[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert cpu_seconds(lambda: judge_only(path, judge)) < 800 * usual
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def judge_of_all(clone: Path, compiled_rules: Path) -> Judge:
    settings = FiltersSettings(
        languages=("Python", "HTML"),
        max_line_length=2_000_000,
        max_mean_line_length=2_000_000,
        max_prose_line_length=2_000_000,
        min_letters=0,
        max_lines=2_000_000,
        max_redacted_share=1,
    )
    return Judge(
        root=bytes(clone),
        max_file_bytes=settings.max_file_bytes,
        licences=find_licences(bytes(clone), [b"good.py"]),
        rules=tuple(rule for rule in file_rules(settings) if rule.name != "licence"),
        max_redacted=MaxRedacted(settings.max_redacted_share),
        redaction_key=b"key",
        secrets_cache=str(compiled_rules),
    )


def judge_only(path: Path, judge: Judge) -> None:
    [found] = [found for found in walk(bytes(path.parent), 10).files if found.path == bytes(path.name, "ascii")]
    assert judge_file(found, judge).endswith(b"\n")


def test_reading_a_sparse_file_takes_no_memory(clone: Path) -> None:
    with (clone / "sparse.py").open("wb") as file:
        file.truncate(2 * GIGABYTE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert Found(b"sparse.py", 2 * GIGABYTE) in walk(bytes(clone), 10).files
    with pytest.raises(Exception, match="too-large"):
        read_bytes(bytes(clone), b"sparse.py", 1024 * 1024)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * 1024

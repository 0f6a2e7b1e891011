"""What `codelupe run` shows: plain lines in a file or a pipe, a live picture on a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anyio
import pytest
from rich.console import Console

from codelupe import Database, Directories, Job, JobContext, ProcessExecutor, Progress, Subscription
from codelupe.cli.live import _Picture, make_view
from codelupe.host.extensions import Extensions
from codelupe.log import EventLog
from codelupe.log.event_log import SQL
from codelupe.observability.progress import ProgressTracker
from codelupe.work.runtime import Runtime
from codelupe.work.task_queue import FeedRequest, TaskQueue
from codelupe_events import BatchReady, RepoCloned
from tests.processes import HANGS


async def handle(event: object, context: object) -> None: ...


async def crawl(context: JobContext) -> None: ...


class Running(NamedTuple):
    runtime: Runtime
    extensions: Extensions


@pytest.fixture
def running() -> Running:
    place = Path("/nowhere")
    clone = Subscription(name="d.clone", events=(RepoCloned,), emits=(BatchReady,), handler=handle)
    train = Subscription(name="t.train", events=(BatchReady,), handler=handle)
    runtime = Runtime(
        log=EventLog(Database("postgresql:///unused")),
        database=Database("postgresql:///unused"),
        directories=Directories(state=place, repositories=place / "repos", models=place / "models", work=place),
        executor=ProcessExecutor(),
        search_index=None,
        progress=ProgressTracker(),
    )
    crawling = Job(name="c.crawl", every=timedelta(hours=1), run=crawl)
    return Running(runtime, Extensions(subscriptions=[train, clone], jobs=[crawling]))


def counts(name: str, *, waiting: int = 0, running: int = 0, done: int = 0, dead_lettered: int = 0) -> dict[str, Any]:
    return {"name": name, "waiting": waiting, "running": running, "done": done, "dead_lettered": dead_lettered}


class Clock:
    """The time that the view sees, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 3.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --- lines ---


def test_a_stage_that_moves_has_a_line_at_most_every_ten_seconds(running: Running, clock: Clock) -> None:
    console = plain_console()
    view = make_view(console, summary=None)
    for _ in range(45):
        view.show([counts("d.clone", waiting=100 - int(clock.now), running=1, done=int(clock.now))], *running)
        clock.now += 1
    assert text(console).splitlines() == [
        "d.clone: 3 done, 1 running, 97 waiting",
        "d.clone: 13 done, 1 running, 87 waiting",
        "d.clone: 23 done, 1 running, 77 waiting",
        "d.clone: 33 done, 1 running, 67 waiting",
        "d.clone: 43 done, 1 running, 57 waiting",
    ]


def test_the_end_of_a_stage_s_work_is_told_at_once_and_once(running: Running, clock: Clock) -> None:
    console = plain_console()
    view = make_view(console, summary=None)
    view.show([counts("d.clone", waiting=1, running=1)], *running)
    for _ in range(30):
        clock.now += 1
        view.show([counts("d.clone", done=1, dead_lettered=1)], *running)
    assert text(console).splitlines() == ["d.clone: 1 running, 1 waiting", "d.clone: 1 done, 1 dead-lettered"]


def test_a_stage_without_work_has_no_line(running: Running) -> None:
    console = plain_console()
    make_view(console, summary=None).show([counts("d.clone")], *running)
    assert text(console) == ""


def test_a_database_that_is_away_has_no_line(running: Running) -> None:
    console = plain_console()
    make_view(console, summary=None).show(None, *running)
    assert text(console) == ""


def test_a_line_tells_what_is_worked_on_whatever_its_name(running: Running) -> None:
    console = plain_console()
    name = "local:a/[bold]b\x1b[31m" + "c" * 100
    with running.runtime.progress.working("d.clone", f"repo/{name}"):
        running.runtime.progress.report("d.clone", f"repo/{name}", Progress(done=1200, total=4800.0, unit="objects"))
        make_view(console, summary=None).show([counts("d.clone", running=1)], *running)
    shown = name.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert text(console) == f"d.clone: 1 running  1,200/4,800 objects (repo/{shown})\n"


@pytest.mark.anyio
async def test_a_view_goes_on_while_the_database_is_away(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    view = make_view(plain_console(), summary=None)
    shown: list[object] = []

    def show(states: object, *_: object) -> None:
        shown.append(states)
        if len(shown) == 3:
            scope.cancel()

    monkeypatch.setattr(view, "show", show)
    monkeypatch.setattr(view, "interval", 0)
    with anyio.CancelScope() as scope:
        await view.watch(*running)
    assert shown == [None, None, None]


# --- the live picture ---


def picture(running: Running, *states: dict[str, Any], width: int = 120, colours: bool = False) -> list[str]:
    colour_system: Literal["truecolor"] | None = "truecolor" if colours else None
    console = Console(file=io.StringIO(), force_terminal=True, color_system=colour_system, width=width)
    jobs = [job.name for job in running.extensions.jobs]
    console.print(_Picture(list(states), running.runtime.progress, jobs))
    return [line.rstrip() for line in text(console).splitlines()]


def test_a_subscription_that_has_had_something_has_a_line_with_its_counts(running: Running) -> None:
    [line] = picture(running, counts("d.clone", waiting=2, running=1, done=1500))
    assert line.startswith("d.clone ")
    assert "1,500/1,503" in line


def test_what_has_had_nothing_shows_no_bar_and_is_folded_away(running: Running) -> None:
    lines = picture(running, counts("d.clone", done=1), counts("t.train"), counts("t.gate"), counts("e.export"))
    assert len(lines) == 2
    assert lines[1] == "3 idle: t.train, t.gate, e.export"
    assert "━" not in lines[1]


def test_the_current_work_is_told_with_its_progress_and_figures(running: Running) -> None:
    with running.runtime.progress.working("t.train", "batch/1"):
        running.runtime.progress.report(
            "t.train",
            "batch/1",
            Progress(done=30, total=120, unit="steps", figures={"loss": 1.23456, "phase": "train"}),
        )
        [line] = picture(running, counts("t.train", running=1))
    assert line.endswith("30/120 steps loss=1.235 phase=train (batch/1)")


def test_what_cannot_be_counted_is_told_in_words_with_its_time(running: Running, clock: Clock) -> None:
    with running.runtime.progress.working("t.train", "batch/1"):
        activity = Progress(done=0, total=None, unit="", activity="converting the base model")
        running.runtime.progress.report("t.train", "batch/1", activity)
        clock.now += 4
        [line] = picture(running, counts("t.train", running=1), width=80)
        assert line.endswith("converting the base model (batch/1)")
        clock.now += 71
        [line] = picture(running, counts("t.train", running=1), width=80)
    assert line.endswith("converting the base model, 1:15 (batch/1)")


def test_long_work_tells_how_long_it_will_take(running: Running, clock: Clock) -> None:
    with running.runtime.progress.working("t.train", "batch/1"):
        for done in (0, 6):
            running.runtime.progress.report("t.train", "batch/1", Progress(done=done, total=24, unit="steps"))
            clock.now += 15
        clock.now -= 15
        [line] = picture(running, counts("t.train", running=1))
        assert line.endswith("6/24 steps, 15 s, 45 s to go (batch/1)")
        clock.now += 15
        [line] = picture(running, counts("t.train", running=1))
    assert line.endswith("6/24 steps, 30 s, 1:30 to go (batch/1)")


def test_work_whose_end_is_not_known_shows_how_much_is_done(running: Running) -> None:
    with running.runtime.progress.working("d.clone", "repo/a"):
        running.runtime.progress.report("d.clone", "repo/a", Progress(done=7, total=None, unit="files"))
        [line] = picture(running, counts("d.clone", running=1))
    assert line.endswith("7 files (repo/a)")


def test_several_pieces_of_work_are_counted(running: Running) -> None:
    progress = running.runtime.progress
    with (
        progress.working("d.clone", "repo/a"),
        progress.working("d.clone", "repo/b"),
        progress.working("d.clone", "repo/c"),
    ):
        progress.report("d.clone", "repo/b", Progress(done=1, total=2, unit="files"))
        [line] = picture(running, counts("d.clone", running=3))
    assert line.endswith("1/2 files and 2 more (repo/b)")


def test_dead_letters_are_shown(running: Running) -> None:
    [line] = picture(running, counts("d.clone", done=1, dead_lettered=2))
    assert line.endswith("2 dead letters")


def test_the_bar_grows_with_work_that_is_done_and_with_work_under_way(running: Running) -> None:
    progress = running.runtime.progress

    def bar(done: int, share: float | None) -> str:
        with progress.working("d.clone", "repo/a"), progress.working("d.clone", "repo/b"):
            if share is not None:
                progress.report("d.clone", "repo/a", Progress(done=share, total=1, unit="x"))
            [line] = picture(running, counts("d.clone", running=2, done=done), colours=True)
        return re.split(r"\d+/\d+", line)[0]

    bars = [bar(0, None), bar(0, 0.5), bar(0, 1.0), bar(4, None), bar(4, 1.0)]
    assert len(set(bars)) == len(bars)
    assert bar(0, 1.0) == bar(0, 5.0), "one piece of work counts for one at most"


def test_jobs_are_shown_while_they_run(running: Running) -> None:
    assert picture(running) == []
    with running.runtime.progress.working("c.crawl", "c.crawl"):
        running.runtime.progress.report("c.crawl", "c.crawl", Progress(done=3, total=25, unit="repositories"))
        assert picture(running) == ["c.crawl: 3/25 repositories"]


def test_names_are_no_markup_and_cannot_steer_the_terminal(running: Running) -> None:
    with running.runtime.progress.working("d.clone", "repo/[/x][red]\x1b]0;title\x07"):
        [line] = picture(running, counts("d.clone", running=1))
    assert "[/x][red]" in line
    assert "\x1b]0;" not in line


@pytest.mark.parametrize("width", [60, 80, 120])
def test_counts_are_whole_at_any_width(running: Running, width: int) -> None:
    with running.runtime.progress.working("d.clone", "repo/" + "long" * 50):
        lines = picture(
            running,
            counts("d.clone", waiting=1_234_567, running=1, done=7_654_321),
            counts("third-party.with-a-long-name-of-a-subscription", done=12),
            *(counts(f"idle.number-{number}") for number in range(20)),
            width=width,
        )
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert "7,654,321/8,888,889" in lines[0]
    assert "12/12" in lines[1]
    assert lines[1].startswith("third-party.with")
    assert lines[2].startswith("20 idle: ")


RESIZED = """
import os, sys
from rich.console import Console
from codelupe.cli.live import make_view
from codelupe.host.extensions import Extensions
from codelupe.observability.progress import ProgressTracker
from types import SimpleNamespace
from rich.live import Live

view = make_view(Console(), summary=None)
runtime = SimpleNamespace(progress=ProgressTracker())
state = {"name": "d.clone", "waiting": 1000000, "running": 0, "done": 2000000, "dead_lettered": 0}
with Live(console=view.console, transient=True, auto_refresh=False) as live:
    view._live, view._width = live, view.console.width
    for line in sys.stdin:
        view.show([state], runtime, Extensions())
        live.refresh()
        os.write(1, f"\\x1b]2;{line.strip()}\\x07".encode())  # a window's title, which draws nothing
"""


def test_the_picture_survives_a_resize(tmp_path: Path) -> None:
    leader, follower = os.openpty()

    def resize(columns: int) -> None:
        fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    resize(120)
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    with subprocess.Popen(
        [sys.executable, "-c", RESIZED],
        stdin=subprocess.PIPE,
        stdout=follower,
        text=True,
        env={**environment, "TERM": "xterm"},
    ) as process:
        os.close(follower)
        assert process.stdin is not None
        shown = {}
        for columns in (120, 60, 100):
            resize(columns)
            process.stdin.write(f"{columns}\n")
            process.stdin.flush()
            title, read = f"\x1b]2;{columns}\x07".encode(), b""
            while title not in read:
                read += os.read(leader, 65536)
            shown[columns] = read.replace(title, b"").decode()
        process.stdin.close()
    os.close(leader)
    for columns, drawn in shown.items():
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.rpartition("\x1b[2J")[2]).strip("\r\n")
        assert "2,000,000/3,000,000" in last
        assert max(map(len, last.splitlines())) <= columns
    assert "\x1b[2J" in shown[60], "lines of another width are cleared away"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_request_to_stop_is_answered_at_once(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, color_system=None, width=80)
    view = make_view(console, summary=None)
    view.stopping(at_once=False)
    view.stopping(at_once=True)
    assert text(console).splitlines() == ["stopping; again to stop now", "stopping now"]


# --- both, on a real log ---


async def register(database: Database, running: Running) -> Running:
    for subscription in running.extensions.subscriptions:
        await database.execute(SQL.begin_subscription, subscription.name, False, subscription.event_types, True, "0")
    await database.execute(SQL.begin_subscription, "elsewhere.subscription", False, ["BatchReady"], True, "0")
    log = EventLog(database)
    await log.publish(BatchReady(batch_id=1, files=1, characters=1, repositories=1, min_score=0))
    await TaskQueue(database).feed(
        [
            FeedRequest(subscription=subscription)
            for subscription in running.extensions.subscriptions
            if subscription.name == "t.train"
        ]
    )
    return Running(replace(running.runtime, log=log, database=database), running.extensions)


@pytest.mark.anyio
@pytest.mark.parametrize("terminal", [False, True])
async def test_the_stages_of_this_daemon_are_watched_in_the_order_of_the_flow(
    database: Database, running: Running, terminal: bool
) -> None:
    running = await register(database, running)
    cloned = RepoCloned(repository_id="a:1", commit="c", path="a/b", size_bytes=1, seconds=1)
    await running.runtime.log.publish(cloned)
    await TaskQueue(database).feed([FeedRequest(subscription=each) for each in running.extensions.subscriptions])
    console = Console(file=io.StringIO(), force_terminal=terminal, color_system=None, width=120)
    view = make_view(console, summary=None)
    async with anyio.create_task_group() as group:
        group.start_soon(view.watch, *running)
        with anyio.fail_after(HANGS):
            while "t.train" not in text(console):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    shown = text(console)
    assert "elsewhere.subscription" not in shown
    if terminal:
        assert shown.index("d.clone") < shown.index("t.train")
        assert "0/1" in shown
        assert shown.rstrip().endswith("\x1b[2K"), "nothing of the picture is left behind"
    else:
        assert shown == "d.clone: 1 waiting\nt.train: 1 waiting\n"


@pytest.mark.anyio
async def test_the_summary_goes_to_its_own_console(database: Database, running: Running) -> None:
    running = await register(database, running)
    await database.execute("insert into jobs (name, started_at) values ('c.crawl', now())")
    running.runtime.progress.seconds["d.clone"] = 12.34
    running.runtime.progress.seconds["c.crawl"] = 5.0
    console, summary = plain_console(), plain_console()
    await make_view(console, summary=summary).conclude(*running)
    assert text(console) == ""
    lines = text(summary).splitlines()
    assert [line.split() for line in lines if line.startswith(("c.crawl", "d.clone", "t.train"))] == [
        ["c.crawl", "5.0"],
        ["d.clone", "0", "0", "0", "0", "12.3"],
        ["t.train", "1", "0", "0", "0", "0.0"],
    ]
    assert any("/nowhere/models" in line for line in lines)


@pytest.mark.anyio
async def test_without_a_summary_nothing_is_said_at_the_end(running: Running) -> None:
    console = plain_console()
    await make_view(console, summary=None).conclude(*running)
    assert text(console) == ""

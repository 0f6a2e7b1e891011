"""What `codelupe run` shows: plain lines where nobody looks, a live picture on a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from rich.console import Console

from codelupe import Database, Directories, Job, JobContext, ProcessExecutor, Progress, Subscription
from codelupe.cli.live import _picture, make_view
from codelupe.host.extensions import Extensions
from codelupe.log import EventLog
from codelupe.log.event_log import SQL
from codelupe.observability.progress import ProgressTracker
from codelupe.work.runtime import Runtime
from codelupe.work.task_queue import FeedRequest, TaskQueue
from codelupe_events import BatchReady, RepoCloned


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
        monkeypatch.setattr("codelupe.cli.live.time.monotonic", lambda: self.now)


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
    assert text(console) == f"d.clone: 1 running  repo/{shown} 1,200/4,800 objects\n"


# --- the live picture ---


def picture(running: Running, *stages: dict[str, Any], width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    console.print(_picture(list(stages), *running))
    return text(console).splitlines()


def test_each_stage_has_a_line_with_its_counts(running: Running) -> None:
    first, second = picture(running, counts("d.clone", waiting=2, running=1, done=1500), counts("t.train"))
    assert first.startswith("d.clone ")
    assert "1,500/1,503" in first
    assert second.startswith("t.train ")
    assert "0/0" in second


def test_the_current_work_is_named_with_its_progress_and_figures(running: Running) -> None:
    with running.runtime.progress.working("t.train", "batch/1"):
        running.runtime.progress.report(
            "t.train",
            "batch/1",
            Progress(done=30, total=120, unit="steps", figures={"loss": 1.23456, "phase": "train"}),
        )
        [line] = picture(running, counts("t.train", running=1))
    assert line.rstrip().endswith("1 30/120 steps loss=1.235 phase=train")


def test_work_whose_end_nobody_knows_shows_how_much_is_done(running: Running) -> None:
    with running.runtime.progress.working("d.clone", "repo/a"):
        running.runtime.progress.report("d.clone", "repo/a", Progress(done=7, total=None, unit="files"))
        [line] = picture(running, counts("d.clone", running=1))
    assert line.rstrip().endswith("a 7 files")


def test_several_pieces_of_work_are_counted(running: Running) -> None:
    board = running.runtime.progress
    with board.working("d.clone", "repo/a"), board.working("d.clone", "repo/b"), board.working("d.clone", "repo/c"):
        board.report("d.clone", "repo/b", Progress(done=1, total=2, unit="files"))
        [line] = picture(running, counts("d.clone", running=3))
    assert line.rstrip().endswith("b 1/2 files and 2 more")


def test_parked_events_are_shown(running: Running) -> None:
    [line] = picture(running, counts("d.clone", done=1, dead_lettered=2))
    assert line.rstrip().endswith("2 dead letters")


def test_the_bar_grows_with_work_that_is_done_and_with_work_under_way(running: Running) -> None:
    def bar(done: int, share: float | None) -> str:
        console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=120)
        with (
            running.runtime.progress.working("d.clone", "repo/a"),
            running.runtime.progress.working("d.clone", "repo/b"),
        ):
            if share is not None:
                running.runtime.progress.report("d.clone", "repo/a", Progress(done=share, total=1, unit="x"))
            console.print(_picture([counts("d.clone", running=2, done=done)], *running))
        return re.split(r"\d+/\d+", text(console))[0]

    bars = [bar(0, None), bar(0, 0.5), bar(0, 1.0), bar(4, None), bar(4, 1.0)]
    assert len(set(bars)) == len(bars)
    assert bar(0, 1.0) == bar(0, 5.0), "one piece of work counts for one at most"


def test_jobs_are_shown_while_they_run(running: Running) -> None:
    assert len(picture(running, counts("d.clone"))) == 1
    with running.runtime.progress.working("c.crawl", "c.crawl"):
        running.runtime.progress.report("c.crawl", "c.crawl", Progress(done=3, total=25, unit="repositories"))
        assert picture(running, counts("d.clone"))[-1].rstrip() == "c.crawl: 3/25 repositories"


def test_names_are_no_markup_and_cannot_steer_the_terminal(running: Running) -> None:
    with running.runtime.progress.working("d.clone", "repo/[/x][red]\x1b]0;title\x07"):
        [line] = picture(running, counts("d.clone", running=1))
    assert "[/x][red]" in line
    assert "\x1b]0;" not in line


def test_a_narrow_terminal_gets_one_line_a_stage(running: Running) -> None:
    with running.runtime.progress.working("d.clone", "repo/" + "long" * 50):
        lines = picture(running, counts("d.clone", running=1), counts("t.train"), width=80)
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in lines)


# --- both, on a real log ---


async def register(database: Database, running: Running) -> Running:
    for stage in running.extensions.subscriptions:
        await database.execute(SQL.register_subscription, stage.name, False)
    await database.execute(SQL.register_subscription, "elsewhere.stage", False)
    log = EventLog(database)
    await log.publish(BatchReady(batch_id=1, files=1, characters=1, repositories=1, min_score=0))
    await TaskQueue(database).feed(
        [FeedRequest(subscription=stage) for stage in running.extensions.subscriptions if stage.name == "t.train"]
    )
    return Running(replace(running.runtime, log=log), running.extensions)


@pytest.mark.anyio
@pytest.mark.parametrize("terminal", [False, True])
async def test_the_stages_of_this_daemon_are_watched_in_the_order_of_the_flow(
    database: Database, running: Running, terminal: bool
) -> None:
    running = await register(database, running)
    console = Console(file=io.StringIO(), force_terminal=terminal, color_system=None, width=120)
    view = make_view(console, summary=None)
    async with anyio.create_task_group() as group:
        group.start_soon(view.watch, *running)
        with anyio.fail_after(20):
            while "t.train" not in text(console):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    shown = text(console)
    assert "elsewhere.stage" not in shown
    if terminal:
        assert shown.index("d.clone") < shown.index("t.train")
        assert "0/1" in shown
        assert shown.rstrip().endswith("\x1b[2K"), "nothing of the picture is left behind"
    else:
        assert shown == "t.train: 1 waiting\n"


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

"""What follows a training cannot harm it."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from transformers import TrainerCallback, TrainerControl, TrainerState

from codelupe_trainer.child.stop import Stopped
from codelupe_trainer.child.tracking import Harmless
from codelupe_trainer.jobs import Activity, Step


class Tracker(TrainerCallback):
    """Notes what happens, and raises at what it is told to."""

    def __init__(self, raises: dict[str, BaseException]) -> None:
        self.happened: list[str] = []
        self._raises = raises

    def _happens(self, event: str) -> None:
        self.happened.append(event)
        if event in self._raises:
            raise self._raises[event]

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._happens("on_train_begin")

    def on_log(self, *_: Any, **__: Any) -> None:
        self._happens("on_log")

    def on_save(self, *_: Any, **__: Any) -> None:
        self._happens("on_save")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._happens("on_train_end")


EVENTS = ["on_train_begin", "on_log", "on_save", "on_log", "on_train_end"]


def follow(tracker: Tracker, state: TrainerState | None = None) -> list[Activity | Step]:
    """Let a training happen; returns what is reported."""
    reports: list[Activity | Step] = []
    harmless = Harmless("W&B", lambda: tracker, reports.append)
    for event in EVENTS:
        getattr(harmless, event)(None, state or TrainerState(), TrainerControl(), logs={})
    return reports


def test_everything_is_passed_on() -> None:
    tracker = Tracker({})
    assert follow(tracker) == []
    assert tracker.happened == EVENTS


@pytest.mark.parametrize("event", ["on_train_begin", "on_log", "on_save"])
def test_a_tracker_that_fails_is_left_out_from_then_on(event: str) -> None:
    """gradio-app/trackio#133: what shows a run breaks it."""
    tracker = Tracker({event: ConnectionResetError("the network is gone")})
    [warning] = follow(tracker)
    assert tracker.happened == EVENTS[: EVENTS.index(event) + 1]
    assert warning == Activity(what="going on without W&B: ConnectionResetError: the network is gone", is_warning=True)


def test_one_that_cannot_be_made_is_left_out() -> None:
    def make() -> Tracker:
        raise PermissionError("no write access")

    reports: list[Activity | Step] = []
    harmless = Harmless("TensorBoard", make, reports.append)
    harmless.on_train_begin(None, TrainerState(), TrainerControl())  # type: ignore[arg-type]
    harmless.on_log(None, TrainerState(), TrainerControl(), logs={})
    assert [type(report) for report in reports] == [Activity]


def test_a_request_to_stop_passes_through() -> None:
    with pytest.raises(Stopped):
        follow(Tracker({"on_save": Stopped()}))


def test_only_the_first_of_several_processes_is_followed() -> None:
    tracker = Tracker({})
    assert follow(tracker, TrainerState(is_world_process_zero=False)) == []
    assert tracker.happened == []

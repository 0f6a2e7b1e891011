"""How cards are read. NVIDIA's library is a stand-in here, since no test machine has a card."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import pytest
import structlog

from codelupe_trainer import gpus
from codelupe_trainer.gpus import GpuWatch
from tests.logged import Logged
from tests.nvml import H200, NotSupportedError, Nvml, NVMLError
from tests.processes import HANGS


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvml]:
    stand_in = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    monkeypatch.setattr(gpus, "_EVERY_SECONDS", 0.001)
    yield stand_in
    stand_in.goes_on.set()


def watch() -> GpuWatch:
    return GpuWatch(structlog.get_logger("trainer"))


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANGS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_card_is_read_again_and_again(nvml: Nvml, logged: Logged) -> None:
    with watch() as gpu_watch:
        until(gpu_watch.newest)
        seen = nvml.readings
        until(lambda: nvml.readings > seen + 2)
        assert gpu_watch.newest() == [H200]
    until(lambda: not nvml.is_open)
    assert not logged.records("gpu_readings_ended")


def test_what_a_card_does_not_tell_is_left_out(nvml: Nvml, logged: Logged) -> None:
    for name in ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetPowerUsage"):
        nvml.broken[name] = NotSupportedError("Not Supported")
    with watch() as gpu_watch:
        until(gpu_watch.newest)
        [gpu] = gpu_watch.newest()
    assert (gpu.used, gpu.memory_used, gpu.memory_total, gpu.watts, gpu.celsius) == (None, None, None, None, 55)
    assert not logged.records("gpu_readings_ended")


def test_a_machine_without_a_driver_has_nothing_to_read_and_nothing_wrong(nvml: Nvml, logged: Logged) -> None:
    nvml.broken["nvmlInit"] = NVMLError("NVML Shared Library Not Found")
    with watch() as gpu_watch:
        until(lambda: logged.records("gpus_not_watched"))
        assert gpu_watch.newest() == []
    assert [record["log_level"] for record in logged.records("gpus_not_watched")] == ["debug"]


def test_a_machine_without_the_library_has_nothing_wrong(monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with watch() as gpu_watch:
        until(lambda: logged.records("gpus_not_watched"))
        assert gpu_watch.newest() == []


def test_a_card_that_vanishes_ends_the_readings_with_one_line(nvml: Nvml, logged: Logged) -> None:
    with watch() as gpu_watch:
        until(gpu_watch.newest)
        nvml.broken["nvmlDeviceGetMemoryInfo"] = NVMLError("GPU is lost")
        until(lambda: not nvml.is_open)
        assert gpu_watch.newest() == []
    [ended] = logged.records("gpu_readings_ended")
    assert (ended["log_level"], ended["error"]) == ("warning", "GPU is lost")


def test_nothing_waits_for_a_driver_that_hangs(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    with watch() as gpu_watch:
        until(gpu_watch.newest)
        nvml.goes_on.clear()
        seen = nvml.readings
        until(lambda: nvml.readings > seen)
        monkeypatch.setattr(gpus, "_FRESH_SECONDS", 0.0)
        assert gpu_watch.newest() == []
    assert nvml.is_open  # the thread still hangs, and the block is over

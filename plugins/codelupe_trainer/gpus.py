"""How the graphics cards of this machine are doing, each second, by NVIDIA's management library."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

import structlog

_EVERY_SECONDS = 1.0
_FRESH_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One card; None is what it does not tell."""

    number: int
    name: str
    used: float | None
    """Share of the time since the last reading in which something was computed, from 0 to 1."""
    memory_used: int | None
    """In bytes, as the total."""
    memory_total: int | None
    celsius: int | None
    watts: float | None


class GpuWatch:
    """Reads inside its ``with`` block, in a thread of its own: nothing waits for a driver that hangs.

    Without the library, a driver or a card there is nothing to read, and nothing is wrong.
    """

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log
        self._ended = threading.Event()
        self._newest: tuple[float, list[Gpu]] = (0.0, [])

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="gpu-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def newest(self) -> list[Gpu]:
        """The last reading; none that is older than five seconds."""
        read_at, gpus = self._newest
        return gpus if time.monotonic() - read_at < _FRESH_SECONDS else []

    def _watch(self) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:  # noqa: BLE001 - there is no card to watch
            self._log.debug("gpus_not_watched", error=str(error))
            return
        try:
            while not self._ended.is_set():
                self._newest = time.monotonic(), _read(pynvml)
                self._ended.wait(_EVERY_SECONDS)
        except pynvml.NVMLError as error:
            self._newest = 0.0, []
            self._log.warning("gpu_readings_ended", error=str(error))
        finally:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()


def _read(nvml: ModuleType) -> list[Gpu]:
    return [_read_one(nvml, number) for number in range(nvml.nvmlDeviceGetCount())]


def _read_one(nvml: ModuleType, number: int) -> Gpu:
    card = nvml.nvmlDeviceGetHandleByIndex(number)

    def told(read: Callable[..., Any], *given: object) -> Any:
        with suppress(nvml.NVMLError_NotSupported):
            return read(card, *given)
        return None

    rates, memory = told(nvml.nvmlDeviceGetUtilizationRates), told(nvml.nvmlDeviceGetMemoryInfo)
    milliwatts = told(nvml.nvmlDeviceGetPowerUsage)
    return Gpu(
        number=number,
        name=nvml.nvmlDeviceGetName(card),
        used=rates and rates.gpu / 100,
        memory_used=memory and memory.used,
        memory_total=memory and memory.total,
        celsius=told(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
        watts=None if milliwatts is None else milliwatts / 1000,
    )

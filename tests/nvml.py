"""A stand-in for NVIDIA's management library, since no test machine has a card."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from codelupe_trainer.gpus import Gpu
from tests.processes import HANGS

H200 = Gpu(
    number=0, name="NVIDIA H200", used=0.75, memory_used=3 << 30, memory_total=139 << 30, celsius=55, watts=412.5
)


class NVMLError(Exception):
    pass


class NotSupportedError(NVMLError):
    pass


class Nvml(ModuleType):
    """Answers as the library does of one card; ``broken`` is what a call raises."""

    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError
    NVMLError_NotSupported = NotSupportedError

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.broken: dict[str, Exception] = {}
        self.readings = 0
        self.is_open = False
        self.goes_on = threading.Event()
        self.goes_on.set()

    def _answer(self, name: str, value: Any) -> Any:
        if name in self.broken:
            raise self.broken[name]
        return value

    def nvmlInit(self) -> None:  # noqa: N802 - the library's names
        self._answer("nvmlInit", None)
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self.readings += 1
        self.goes_on.wait(HANGS)
        return 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        values: dict[str, Any] = {
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetName": "NVIDIA H200",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=75, memory=10),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 << 30, total=139 << 30),
            "nvmlDeviceGetTemperature": 55,
            "nvmlDeviceGetPowerUsage": 412_500,
        }
        if name not in values:
            raise AttributeError(name)
        return lambda *_: self._answer(name, values[name])

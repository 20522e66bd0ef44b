"""The memory in use on the first GPU that this process may use, as its driver says."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from typing import Any

SECONDS_BETWEEN = 0.05


class Watch:
    """Reads the memory in use all the while; None everywhere on a machine without a GPU."""

    def __init__(self) -> None:
        self.lowest: float | None = None
        self._done = threading.Event()
        self._nvml: Any = None
        self._device: Any = None

    def __enter__(self) -> Watch:
        with contextlib.suppress(Exception):  # no driver, no library: nothing to read
            nvml = importlib.import_module("pynvml")
            nvml.nvmlInit()
            first = int((os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0])
            self._device, self._nvml = nvml.nvmlDeviceGetHandleByIndex(first), nvml
            threading.Thread(target=self._read, name="memory", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def now(self) -> float | None:
        """GiB in use."""
        return round(self._nvml.nvmlDeviceGetMemoryInfo(self._device).used / 2**30, 2) if self._nvml else None

    def reset(self) -> None:
        """Begin a new `lowest`."""
        self.lowest = self.now()

    def _read(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN):
            now = self.now()
            if now is not None and self.lowest is not None:
                self.lowest = min(self.lowest, now)

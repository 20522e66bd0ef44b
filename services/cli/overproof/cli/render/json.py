"""JSON lines: the run whenever something in it changed, and each event."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from overproof.cli.output import Output
from overproof.cli.views import RunView


class JsonRenderer:
    """`{"type": "run", ...}` and `{"type": "event", ...}`, one a line."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._last: RunView | None = None

    def __enter__(self) -> JsonRenderer:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, run: RunView, now: float) -> None:
        if run != self._last:
            self._output.data({"type": "run", "time": now} | asdict(run))
        self._last = run

    def event(self, event: dict[str, Any]) -> None:
        self._output.data({"type": "event", "event": event})

    def unreachable(self, reason: str) -> None:
        self._output.data({"type": "unreachable", "reason": reason})

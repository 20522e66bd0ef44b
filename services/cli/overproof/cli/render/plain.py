"""Plain lines: one when a stage changes, one every few seconds while it goes on. For logs and pipes."""

from __future__ import annotations

from typing import Any

from overproof.cli.output import Output
from overproof.cli.progress import Row, clock, rows, stopwatch
from overproof.cli.views import RunView

SECONDS_BETWEEN_LINES = 10.0  # of one stage: a run of an hour stays a few hundred lines
MARKS = {"waiting": "·", "running": "→", "done": "✓", "failed": "✗"}


class PlainRenderer:
    """Nothing is ever overwritten."""

    def __init__(self, output: Output, seconds_between_lines: float = SECONDS_BETWEEN_LINES) -> None:
        self._output = output
        self._pause = seconds_between_lines
        self._states: dict[str, str] = {}
        self._said_at: dict[str, float] = {}
        self._run_state = ""
        self._away = False

    def __enter__(self) -> PlainRenderer:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, run: RunView, now: float) -> None:
        if self._away:
            self._say(now, run, "the gateway answers again")
            self._away = False
        if run.state != self._run_state:
            self._say(now, run, f"{run.run_id} {run.state}")
            self._run_state = run.state
        for row in rows(run, now):
            self._show_row(run, row, now)

    def _show_row(self, run: RunView, row: Row, now: float) -> None:
        changed = self._states.get(row.label, "waiting") != row.state
        overdue = row.state == "running" and now - self._said_at.get(row.label, 0.0) >= self._pause
        if changed or overdue:
            self._say(now, run, line_of(row))
            self._said_at[row.label] = now
        self._states[row.label] = row.state

    def event(self, event: dict[str, Any]) -> None:
        if event.get("level") in ("warning", "error"):
            self._output.text(f"{event['level']}: {event.get('message', '')}")

    def unreachable(self, reason: str) -> None:
        if not self._away:
            self._output.text(f"waiting: {reason}")
        self._away = True

    def _say(self, now: float, run: RunView, text: str) -> None:
        self._output.text(f"{stopwatch(now - run.created_at)}  {text}")


def line_of(row: Row) -> str:
    """`→ train · shortest   412/640 steps   64%   loss 0.214   eta 7m 10s`."""
    parts = [f"{MARKS[row.state]} {row.label}"]
    if row.state == "running":
        parts += [row.counts, "" if row.share is None else f"{row.share:.0%}"]
    parts.append(row.figures)
    if row.state in ("done", "failed") and row.seconds is not None:
        parts.append(clock(row.seconds))
    if row.state == "running" and row.eta_seconds is not None:
        parts.append(f"eta {clock(row.eta_seconds)}")
    return "   ".join(part for part in parts if part)

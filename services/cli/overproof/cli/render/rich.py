"""A live block for a person at a terminal: one line per stage, with a bar while it goes on."""

from __future__ import annotations

import os
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from overproof.cli.output import Output
from overproof.cli.progress import Row, clock, rows, spending, stopwatch
from overproof.cli.views import RunView

STYLES = {"waiting": "dim", "running": "", "done": "", "failed": "bold red"}
MARKS = {"waiting": "·", "done": "✓", "failed": "✗"}
MARK_STYLES = {"waiting": "dim", "done": "green", "failed": "bold red"}
BAR_CELLS = 24
LINES_AROUND = 4  # heading, warnings, the shell's prompt


class RichRenderer:
    """Redraws in place; warnings scroll by above the block."""

    def __init__(self, output: Output, console: Console | None = None) -> None:
        self._console = console or Console(file=output.out, no_color="NO_COLOR" in os.environ, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, transient=False)
        self._spinner = Spinner("dots")
        self._run: RunView | None = None

    def __enter__(self) -> RichRenderer:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, run: RunView, now: float) -> None:
        self._run = run
        self._live.update(self.block(run, now))

    def event(self, event: dict[str, Any]) -> None:
        if event.get("level") in ("warning", "error"):
            style = "yellow" if event["level"] == "warning" else "red"
            self._console.print(Text(f" ! {event.get('message', '')}", style=style))

    def unreachable(self, reason: str) -> None:
        waiting = Text(f" waiting: {reason}", style="yellow")
        self._live.update(Group(self.block(self._run, time.time()), waiting) if self._run else waiting)

    def block(self, run: RunView, now: float) -> Group:
        """Heading and stages."""
        return Group(
            self._heading(run, now), self._stages(fitting(rows(run, now), self._console.height - LINES_AROUND))
        )

    def _heading(self, run: RunView, now: float) -> Table:
        line = Table.grid(expand=True)
        line.add_column(ratio=1, no_wrap=True)
        line.add_column(justify="right")
        left = Text.assemble(" ", ("overproof", "bold"), f"  {run.run_id}  ", " → ".join(run.models) or run.name)
        if money := spending(run):
            left.append(f"  {money}", style="dim")
        if run.state != "running":
            left.append(f"  {run.state}", style="bold red" if run.state == "failed" else "bold")
        line.add_row(left, stopwatch((run.finished_at or now) - run.created_at))
        return line

    def _stages(self, shown: list[Row]) -> Table:
        table = Table.grid(expand=True, padding=(0, 1))
        table.add_column(width=2)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        for row in shown:
            mark = self._spinner if row.state == "running" else Text(f" {MARKS[row.state]}", MARK_STYLES[row.state])
            table.add_row(mark, Text(row.label, STYLES[row.state]), middle(row), Text(right(row), "dim"))
        return table


def middle(row: Row) -> Text:
    """Bar and counts while it runs, then the figures."""
    text = Text()
    if row.state == "running" and row.share is not None:
        full = round(row.share * BAR_CELLS)
        text.append("━" * full, style="cyan").append("━" * (BAR_CELLS - full), style="bright_black")
        text.append("  ")
    if row.state == "running" and row.counts:
        text.append(f"{row.counts}   ")
    return text.append(row.figures)


def right(row: Row) -> str:
    """Time taken, or time left."""
    if row.state == "running" and row.eta_seconds is not None:
        return f"eta {clock(row.eta_seconds)}"
    return "" if row.seconds is None or row.state == "waiting" else clock(row.seconds)


def fitting(all_rows: list[Row], height: int) -> list[Row]:
    """As many rows as the terminal holds: finished ones go first, then those that wait longest."""
    spare = len(all_rows) - max(3, height)
    if spare <= 0:
        return all_rows
    first_open = next((i for i, row in enumerate(all_rows) if row.state != "done"), len(all_rows))
    start = min(spare, max(0, first_open - 1))
    return all_rows[start : start + max(3, height)]

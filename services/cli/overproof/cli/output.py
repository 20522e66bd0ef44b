"""Where words go: results to stdout, errors and hints for people to stderr; nothing else writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from overproof.cli.errors import CliError


class Output:
    """One command's stdout and stderr. With `as_json`, stdout carries JSON only and says nothing to people."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None, *, as_json: bool = False) -> None:
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.as_json = as_json

    @property
    def tty(self) -> bool:
        """Whether a person looks at stdout."""
        return self.out.isatty()

    def text(self, line: str = "") -> None:
        """A line for people; silent with --json."""
        if not self.as_json:
            self._write(line)

    def data(self, value: Any) -> None:
        """One JSON document on one line; silent without --json."""
        if self.as_json:
            self._write(json.dumps(value, ensure_ascii=False))

    def next(self, *commands: str) -> None:
        """What to type next."""
        for index, command in enumerate(commands):
            self.text(f"{'  next  ' if index == 0 else '        '}{command}")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Aligned columns."""
        lines = [tuple(header), *(tuple(row) for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        for line in lines:
            self.text("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def error(self, error: CliError) -> None:
        """One sentence, its details, the remedy. With --json the same as one JSON object, also on stderr."""
        if self.as_json:
            body = {"error": error.message, "remedy": error.remedy, "details": list(error.details)}
            self._say(json.dumps(body, ensure_ascii=False))
            return
        self._say(f"✗ {error.message}")
        for detail in error.details:
            self._say(f"    {detail}")
        if error.remedy:
            self._say(f"  try   {error.remedy}")

    def _write(self, line: str) -> None:
        self.out.write(line + "\n")
        self.out.flush()

    def _say(self, line: str) -> None:
        self.err.write(line + "\n")
        self.err.flush()

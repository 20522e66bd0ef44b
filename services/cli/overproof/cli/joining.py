"""Two JSONL files whose lines belong together become one: the original workflow keeps `level` and `type` beside its prompts."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overproof.cli.errors import CliError


@contextlib.contextmanager
def joined(rows: Path, metadata: Path | None) -> Iterator[Path]:
    """A file with the fields of both: line i of `metadata` adds what line i of `rows` lacks. Without metadata, `rows` itself.

    Raises CliError for a line that is no JSON object, and for files of unequal length.
    """
    if metadata is None:
        yield rows
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / rows.name
        with rows.open(encoding="utf-8") as first, metadata.open(encoding="utf-8") as second, target.open("w") as file:
            for number, (line, more) in enumerate(itertools.zip_longest(first, second), 1):
                if line is None or more is None:
                    short = rows if line is None else metadata
                    raise CliError(
                        f"{short} ends before line {number} of the other file.", "Give files of equal length."
                    )
                value = _object(metadata, number, more) | _object(rows, number, line)
                file.write(json.dumps(value, ensure_ascii=False) + "\n")
        yield target


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise CliError(f"Line {number} of {path} is not JSON: {error}.", "Write one JSON object per line.") from None
    if not isinstance(value, dict):
        raise CliError(f"Line {number} of {path} is not a JSON object.", "Write one JSON object per line.")
    return value

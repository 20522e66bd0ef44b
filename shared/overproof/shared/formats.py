"""Rows of JSONL, CSV and parquet files, streamed, with the line they stand in: the way in for every data set."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from overproof.shared.errors import DatasetError

Format = Literal["jsonl", "csv", "parquet"]
MAX_LINE_BYTES = 4 * 2**20
"""One row of text; more is a broken file, and would be held in memory whole."""
MAX_CELL_CHARS = 2 * 2**20
PARQUET_BATCH_ROWS = 256
"""A hostile parquet file may hold gigabytes behind a small footer: few rows at a time keep its cost visible."""


class Row(NamedTuple):
    """One row and the line (JSONL, CSV) or row number (parquet) that it came from, counted from 1."""

    line: int
    values: dict[str, Any]


def format_of(name: str) -> Format:
    """By the file's ending. Raises DatasetError for any other."""
    endings: dict[str, Format] = {
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".json": "jsonl",
        ".csv": "csv",
        ".parquet": "parquet",
    }
    found = endings.get(Path(name).suffix.lower())
    if found is None:
        raise DatasetError(f"{name} is neither JSONL, CSV nor parquet.", "Name it .jsonl, .csv or .parquet.")
    return found


def rows_in(file: BinaryIO, kind: Format) -> Iterator[Row]:
    """Rows in order, never more than a batch in memory. Raises DatasetError that names the line."""
    readers = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}
    return readers[kind](file)


def _jsonl(file: BinaryIO) -> Iterator[Row]:
    line = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        if len(raw) > MAX_LINE_BYTES:
            raise DatasetError(f"Line {line} is longer than {MAX_LINE_BYTES} bytes.", "Split it, or leave it out.")
        if not raw.strip():
            continue
        try:
            values = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            raise DatasetError(
                f"Line {line} is not JSON: {error}.", "Write one JSON object per line, in UTF-8."
            ) from None
        if not isinstance(values, dict):
            raise DatasetError(f"Line {line} is not a JSON object.", "Write one JSON object per line.")
        yield Row(line, values)


def _csv(file: BinaryIO) -> Iterator[Row]:
    text = codecs.getreader("utf-8-sig")(file)
    csv.field_size_limit(MAX_CELL_CHARS)
    reader = csv.DictReader(text)
    try:
        for values in reader:
            if None in values:
                raise DatasetError(
                    f"Line {reader.line_num} has more cells than the header.", "Quote cells that hold commas."
                )
            yield Row(reader.line_num, {name: value for name, value in values.items() if value not in (None, "")})
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(
            f"Line {reader.line_num + 1} is not CSV in UTF-8: {error}.", "Export it again as UTF-8."
        ) from None


def _parquet(file: BinaryIO) -> Iterator[Row]:
    try:
        reader = pq.ParquetFile(file, pre_buffer=False)
        line = 0
        for batch in reader.iter_batches(batch_size=PARQUET_BATCH_ROWS):
            for values in batch.to_pylist():
                line += 1
                yield Row(line, values)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            f"The parquet file cannot be read: {error}.", "Write it again, uncompressed or with zstd."
        ) from None


def jsonl_line(values: dict[str, Any]) -> bytes:
    """One line of JSONL, UTF-8, ending in a newline."""
    return json.dumps(values, ensure_ascii=False, default=str).encode() + b"\n"


def csv_text(values: list[dict[str, Any]], names: list[str], *, header: bool) -> bytes:
    """Rows as CSV, UTF-8; lists become JSON."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, names, extrasaction="ignore")
    if header:
        writer.writeheader()
    for row in values:
        writer.writerow(
            {name: json.dumps(cell) if isinstance(cell, list | dict) else cell for name, cell in row.items()}
        )
    return buffer.getvalue().encode()

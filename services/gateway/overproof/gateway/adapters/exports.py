"""Tables of artifacts as streams of bytes; never more than a batch and a buffer in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from overproof.gateway.domain import layouts
from overproof.gateway.domain.layouts import Layout, Render
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import RecipeError
from overproof.shared.formats import csv_text, jsonl_line
from overproof.shared.specs import PrepareSpec, SampleSpec, SelectSpec, Spec
from overproof.shared.tables import COMPARISON, COMPLETIONS, PROBLEMS, SCHEMAS, SELECTED, rows_of

Format = Literal["parquet", "jsonl", "csv"]
MEDIA_TYPES: dict[str, str] = {
    "parquet": "application/vnd.apache.parquet",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}
ROWS_PER_GROUP = 8_192
BYTES_PER_GROUP = 32 * 2**20
ROWS_PER_CHUNK = 256
STATEMENTS_KEPT = 20_000
"""While selected rows are given their statements; they come in nearly the same order."""


def wanted_columns(schema: pa.Schema, columns: str | None) -> list[str]:
    """Names out of `a,b,c`, all when there are none. Raises RecipeError for one that the table does not have."""
    names = [name.strip() for name in (columns or "").split(",") if name.strip()]
    unknown = [name for name in names if name not in schema.names]
    if unknown:
        raise RecipeError(
            f"columns: the table has no column {unknown[0][:60]!r}.", f"It has {', '.join(schema.names)}."
        )
    return list(dict.fromkeys(names)) or list(schema.names)


def table_stream(batches: Iterable[pa.RecordBatch], schema: pa.Schema, kind: Format) -> Iterator[bytes]:
    """Record batches of `schema` in the format asked for."""
    if kind == "parquet":
        return parquet_stream(batches, schema)
    return text_stream(rows_of(batches), list(schema.names), kind)


def text_stream(rows: Iterable[dict[str, Any]], names: list[str], kind: Literal["jsonl", "csv"]) -> Iterator[bytes]:
    """Rows as JSONL or CSV, a few hundred at a time."""
    if kind == "csv":
        yield csv_text([], names, header=True)
    for chunk in _chunks(rows):
        yield csv_text(chunk, names, header=False) if kind == "csv" else b"".join(map(jsonl_line, chunk))


def parquet_stream(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[bytes]:
    """One parquet file, written row group by row group and sent as it grows."""
    sink = _Sink()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in _groups(batches, schema):
            writer.write_table(table)
            yield sink.taken()
    yield sink.taken()


def layout_stream(
    artifacts: Artifacts, ref: str, layout: Layout, render: Render, model: str | None
) -> tuple[Iterator[bytes], str]:
    """(bytes, format) of a complete artifact in one of the original workflow's layouts."""
    spec = artifacts.spec(ref)
    if layout in ("prompts", "metadata"):
        rows = rows_of(artifacts.read(ref, PROBLEMS, columns=["problem", "level", "type"]))
        lines = layouts.prompt_lines(rows, render) if layout == "prompts" else layouts.metadata_lines(rows)
        return text_stream(lines, [], "jsonl"), "jsonl"
    if layout == "solutions":
        return text_stream(_solutions(artifacts, ref, spec, render), [], "jsonl"), "jsonl"
    if layout == "correct":
        return parquet_stream(_correct(artifacts, ref, spec), layouts.CORRECT), "parquet"
    figures = layouts.evaluation(rows_of(artifacts.read(ref, COMPARISON)), model)
    return iter([json.dumps(figures, indent=1, ensure_ascii=False).encode()]), "json"


def schema_of(artifacts: Artifacts, ref: str) -> pa.Schema | None:
    """Schema of a complete artifact's table; None for one that holds other files."""
    manifest = artifacts.manifest(ref)
    return SCHEMAS[manifest.schema_name] if manifest and manifest.schema_name else None


def _solutions(artifacts: Artifacts, ref: str, spec: Spec, render: Render) -> Iterator[dict[str, Any]]:
    """Part i of completions belongs to part i of problems: one part's problems are held at a time."""
    problems = spec.problems if isinstance(spec, SampleSpec | PrepareSpec) else None
    for index in range(len(artifacts.parts(ref))):
        known: dict[str, Any] = {}
        if problems is not None:
            known = {str(row["problem_id"]): row for row in rows_of(artifacts.read(problems, PROBLEMS, part=index))}
        yield from layouts.solution_lines(rows_of(artifacts.read(ref, COMPLETIONS, part=index)), known, render)


def _correct(artifacts: Artifacts, ref: str, spec: Spec) -> Iterator[pa.RecordBatch]:
    """Selected rows come in the order of the problems, so the statements are read along, batch by batch."""
    statements = _Statements(artifacts, spec.problems) if isinstance(spec, SelectSpec) else None
    for batch in artifacts.read(ref, SELECTED):
        known = statements.of(batch.column("problem_id").to_pylist()) if statements else {}
        yield layouts.correct_batch(batch, known)


class _Statements:
    """Statements by problem id, read part by part as they are asked for, in order."""

    def __init__(self, artifacts: Artifacts, problems: str) -> None:
        self._batches = artifacts.read(problems, PROBLEMS, columns=["problem_id", "problem"])
        self._known: dict[str, str] = {}

    def of(self, ids: list[str]) -> dict[str, str]:
        """The statements of `ids`, as far as they stand where the selection's order lets one expect them."""
        missing = set(ids) - self._known.keys()
        while missing and (batch := next(self._batches, None)) is not None:
            found = dict(zip(*(column.to_pylist() for column in batch.columns), strict=True))
            self._known |= found
            missing -= found.keys()
        kept = {name: self._known[name] for name in ids if name in self._known}
        for name in list(self._known)[: max(0, len(self._known) - STATEMENTS_KEPT)]:
            del self._known[name]
        return kept


class _Sink(io.RawIOBase):
    """A file that only grows and is emptied by `taken`."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._buffer += view
        self._position += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._position

    def taken(self) -> bytes:
        """What was written since the last call."""
        content, self._buffer = bytes(self._buffer), bytearray()
        return content


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Batches gathered to row groups: thousands of tiny groups would make a heavy footer."""
    held: list[pa.RecordBatch] = []
    rows = n_bytes = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        n_bytes += batch.nbytes
        if rows >= ROWS_PER_GROUP or n_bytes >= BYTES_PER_GROUP:
            yield pa.Table.from_batches(held, schema)
            held, rows, n_bytes = [], 0, 0
    if held:
        yield pa.Table.from_batches(held, schema)


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_PER_CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

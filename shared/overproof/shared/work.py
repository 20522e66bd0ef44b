"""One shard as a task function sees it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import Stopped
from overproof.shared.messages import ShardRequest
from overproof.shared.records import FilePart
from overproof.shared.specs import Spec

S = TypeVar("S", bound=Spec)


class Work(Generic[S]):
    """What to make, where to read, where to write, when to stop."""

    def __init__(
        self,
        spec: S,
        request: ShardRequest,
        artifacts: Artifacts,
        report: Callable[[dict[str, Any]], None],
        scratch_root: Path | None = None,
    ) -> None:
        self.spec = spec
        self.shard = request.shard
        self.run_id = request.run_id
        self.ref = spec.ref
        self.artifacts = artifacts
        self.parts: list[FilePart] = []
        self.notes: dict[str, Any] = {}
        self.stop = threading.Event()
        self._report = report
        self._scratch_root = scratch_root
        self._scratch: Path | None = None

    def read(
        self, ref: str, schema: pa.Schema, *, part: int | None = None, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of part `part` of an artifact (all parts when None), one batch in memory at a time; stops when asked to."""
        for batch in self.artifacts.read(ref, schema, part=part, columns=columns):
            self.check()
            yield batch

    def write(self, schema: pa.Schema, tables: Iterable[pa.Table | pa.RecordBatch], *, suffix: str = "") -> FilePart:
        """Stream tables into the next part of this shard. `suffix` (`-0001`) keeps several parts of one shard in order."""
        part = self.artifacts.write_part(self.ref, self.shard, schema, tables, suffix=suffix)
        self.parts.append(part)
        return part

    def write_file(self, path: Path, name: str) -> FilePart:
        """Take a finished local file as the part `name`."""
        part = self.artifacts.write_file(self.ref, path, name)
        self.parts.append(part)
        return part

    def note(self, **values: Any) -> None:
        """Figures for the receipt, e.g. `busy_seconds`, `tokens`, `verdicts`: summed over shards by whoever reads them."""
        self.notes |= values

    def progress(self, **values: Any) -> None:
        """Live figures for display; lost when Redis is."""
        self._report(values)

    def check(self) -> None:
        """Raises Stopped when the worker ends, the run was halted, or the lease is gone: call it between batches."""
        if self.stop.is_set():
            raise Stopped("The shard was stopped.")

    def scratch(self) -> Path:
        """A local folder of this artifact that survives a crash: checkpoints go here.

        Where storage is no folder it lies below the settings' `scratch_root`: another machine would begin again.
        """
        if self.artifacts.files.is_local or self._scratch_root is None:
            self._scratch = self.artifacts.files.local(f"{self.artifacts.folder(self.ref)}/work")
        else:
            self._scratch = self._scratch_root / self.ref / "work"
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def discard_scratch(self) -> None:
        """Remove the scratch folder, if there is one: the shard is published, and optimizer states are several times the weights."""
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

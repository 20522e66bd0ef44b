"""The two kinds of shards that inference makes."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overproof.inference import metrics
from overproof.inference.adapters.engines import open_engine, takes_gpu_at_once
from overproof.inference.checking import check
from overproof.inference.ports import Engine
from overproof.inference.room import Room
from overproof.inference.sampling import ShardOfCompletions
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Lent, Shelf
from overproof.shared import checkpoints
from overproof.shared.recipe import ACCOUNTING, EngineOptions
from overproof.shared.specs import CheckModelSpec, ModelRef, SampleSpec
from overproof.shared.tables import COMPLETIONS
from overproof.shared.topology import TaskName
from overproof.shared.work import Work
from overproof.shared.worker import Worker

log = logging.getLogger(__name__)


def register(worker: Worker, shelf: Shelf, settings: InferenceSettings) -> None:
    """Serve `inference.sample` and `inference.check`."""
    room = Room(settings)
    worker.task(TaskName.SAMPLE, SampleSpec)(lambda work: sample(work, shelf, settings, room))
    worker.task(TaskName.CHECK_MODEL, CheckModelSpec)(lambda work: check_model(work, settings))


def sample(work: Work[SampleSpec], shelf: Shelf, settings: InferenceSettings, room: Room) -> None:
    """One part of problems → a part of COMPLETIONS. Raises HandedBack when the model has no room on this worker's GPUs."""
    shard = ShardOfCompletions(work)
    with _engine(work, shelf, settings, room) as lent:
        work.write(COMPLETIONS, shard.tables(lent))
    shard.finish(lent.load_seconds)


def check_model(work: Work[CheckModelSpec], settings: InferenceSettings) -> None:
    """A model, a prompt and a table of problems → `check.json`; raises ModelError when they do not go together."""
    found = check(work, _folder(work, work.spec.model, work.spec.engine, settings), settings)
    path = work.artifacts.files.temporary(work.artifacts.folder(work.ref))
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    work.write_file(path, "check.json")
    work.note(**{name: value for name, value in found.items() if name.endswith("tokens")})


@contextlib.contextmanager
def _engine(work: Work[SampleSpec], shelf: Shelf, settings: InferenceSettings, room: Room) -> Iterator[Lent]:
    spec = work.spec
    folder, served = _folder(work, spec.model, spec.engine, settings) or Path(), spec.model.location
    key = (spec.model, spec.engine.model_dump_json(exclude=ACCOUNTING | {"min_success_ratio"}))

    def make_room() -> None:
        if takes_gpu_at_once(spec.engine):
            room.wait(work)

    def load() -> Engine:
        return open_engine(folder, spec.engine, settings, served=served)

    with shelf.lend(key, load, work.check, make_room) as lent:
        if lent.load_seconds:
            metrics.LOAD_SECONDS.labels(spec.engine.kind).observe(lent.load_seconds)
            log.info("%s loaded in %.1f s", spec.model.name, lent.load_seconds)
        yield lent


def _folder(work: Work[Any], model: ModelRef, engine: EngineOptions, settings: InferenceSettings) -> Path | None:
    """Where the model is; None for engines that read no checkpoint."""
    return None if engine.kind in ("canned", "openai") else checkpoints.resolve(model, settings, work.artifacts)

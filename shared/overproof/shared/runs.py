"""Runs in storage: what was asked, what is wanted now, what has become of it.

runs/<run_id>/
    recipe.json     the recipe, complete, and what its names were bound to when it was submitted (never changes)
    desired.json    running, paused or cancelled (written by the gateway)
    status.json     derived by the pipeline from recipe and artifacts; may be deleted at any time
    earlier.json    how completions of the run had been graded when the pipeline first planned it (never changes)
    events/         one small file per event, numbered
datasets/<dataset_id>/   dataset.json and the uploaded file
requests/<hash>.json     which run an Idempotency-Key made
"""

from __future__ import annotations

import re
import secrets
import time
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from overproof.shared.errors import NotFound
from overproof.shared.files import Files
from overproof.shared.messages import RUN_PATTERN
from overproof.shared.recipe import Recipe
from overproof.shared.specs import ModelRef
from overproof.shared.topology import Stage

DATASET_PATTERN = r"^ds_[0-9a-f]{32}$"


class Wanted(StrEnum):
    """What somebody wants of a run."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """What has become of a run. The last three are final, though a failed or cancelled run can be resumed."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StageState(StrEnum):
    """What has become of one stage of a run."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Record(BaseModel):
    """Base of what is stored here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Desired(Record):
    """`desired.json`."""

    wanted: Wanted
    budget_usd: float | None = None
    """Given when the run was resumed; stands above the recipe's, which never changes."""


class Bindings(Record):
    """What the names in a recipe stood for when it was submitted."""

    models: dict[str, ModelRef] = {}
    """By `name@revision` or `name`, as `ModelSource` gives them."""
    data: dict[str, str] = {}
    """By `DataSource.name`: SHA-256 of the file or upload; the hub revision."""
    evaluations: tuple[dict[str, Any], ...] = ()
    """For goal `compare`: the evaluations (specs.Evaluation as JSON, with their `problems`) of the runs that were named."""


class RunRecord(Record):
    """`recipe.json`."""

    run_id: str = Field(pattern=RUN_PATTERN)
    created_at: float
    recipe: Recipe
    bindings: Bindings = Bindings()
    metadata: dict[str, str] = {}
    origin: dict[str, str] = {}
    """The request that submitted it, for logs and traces: `request_id`, and `traceparent` where traces are sent."""


class StageStatus(Record):
    """One stage of a run, as the pipeline last saw it."""

    label: str
    """Unique in the run, for people: `sample · teacher · round 1 · pass 2`."""
    stage: Stage
    ref: str
    state: StageState
    shards_done: int = 0
    shards_total: int | None = None
    """None until the stage before it is complete."""
    rows: int = 0
    notes: dict[str, Any] = {}
    """Sums over the finished shards of what their receipts note (tokens, busy_seconds, verdicts, ...)."""
    started_at: float | None = None
    finished_at: float | None = None
    spent_usd: float | None = None
    """What the finished shards cost this run at its recipe's prices, 0 for those of an earlier run; None: no price is set."""


class RunError(Record):
    """Why a run failed, or paused by itself."""

    stage: str
    """Label of the stage."""
    kind: str
    message: str
    remedy: str = ""


class RunStatus(Record):
    """`status.json`."""

    run_id: str
    name: str
    state: RunState
    created_at: float
    updated_at: float
    finished_at: float | None = None
    error: RunError | None = None
    stages: tuple[StageStatus, ...] = ()
    artifacts: dict[str, str] = {}
    """Names for people → references: `problems/train`, `student/round-1/shortest`, `comparison`, `report`, ..."""
    model_busy_share: float | None = None
    """Seconds that models were generating / wall seconds of the sampling stages, once they are over."""
    spent_usd: float | None = None
    """Over all stages; None: no engine of the recipe has a price."""
    budget_usd: float | None = None
    """At this much the run pauses; None: never."""


class Event(Record):
    """Something that happened in a run."""

    seq: int
    """1, 2, 3, ... within the run."""
    time: float
    level: Literal["info", "warning", "error"] = "info"
    type: str
    """`run.<state>`, `stage.<state>`, `progress`."""
    message: str
    data: dict[str, Any] = {}


class DatasetRecord(Record):
    """`dataset.json` of an upload."""

    dataset_id: str
    name: str
    filename: str
    format: Literal["jsonl", "csv", "parquet"]
    rows: int
    bytes: int
    sha256: str
    columns: tuple[str, ...]
    license: str | None = None
    created_at: float


def new_run_id(now: float | None = None) -> str:
    """`2026-11-24-a7f31c`: sorts by day, short enough to type."""
    return time.strftime("%Y-%m-%d", time.gmtime(now)) + "-" + secrets.token_hex(3)


class Runs:
    """All runs of one storage root. Methods raise NotFound for a run that does not exist."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def create(self, record: RunRecord) -> bool:
        """Whether the id was free. `desired.json` first: a run without `recipe.json` does not exist."""
        self.files.create_json(f"runs/{record.run_id}/desired.json", {"wanted": Wanted.RUNNING})
        return self.files.create_json(f"runs/{record.run_id}/recipe.json", record.model_dump(mode="json"))

    def ids(self) -> list[str]:
        """Of all runs, oldest day first."""
        return [name for name in self.files.names("runs") if re.match(RUN_PATTERN, name)]

    def record(self, run_id: str) -> RunRecord:
        """What was asked."""
        return RunRecord.model_validate(self._json(run_id, "recipe.json"))

    def desired(self, run_id: str) -> Desired:
        """What is wanted now, and what it may cost."""
        return Desired.model_validate(self._json(run_id, "desired.json"))

    def wanted(self, run_id: str) -> Wanted:
        """What is wanted now."""
        return self.desired(run_id).wanted

    def want(self, run_id: str, wanted: Wanted, budget_usd: float | None = None) -> None:
        """Ask for it; the pipeline acts within seconds. A budget stands until another one is given."""
        budget = budget_usd or self.desired(run_id).budget_usd
        self.files.put_json(f"runs/{run_id}/desired.json", {"wanted": wanted, "at": time.time(), "budget_usd": budget})

    def status(self, run_id: str) -> RunStatus | None:
        """As the pipeline last saw it; None before it first looked."""
        self._check(run_id)
        try:
            return RunStatus.model_validate(self.files.read_json(f"runs/{run_id}/status.json"))
        except FileNotFoundError:
            return None

    def put_status(self, status: RunStatus) -> None:
        self.files.put_json(f"runs/{status.run_id}/status.json", status.model_dump(mode="json"))

    def events(self, run_id: str, after: int = 0, limit: int = 100) -> list[Event]:
        """Events with `seq` > after, in order, at most `limit`."""
        self._check(run_id)
        names = [name for name in self.files.names(f"runs/{run_id}/events") if name.endswith(".json")]
        wanted = [name for name in names if int(name[:8]) > after][:limit]
        return [Event.model_validate(self.files.read_json(f"runs/{run_id}/events/{name}")) for name in wanted]

    def add_event(
        self, run_id: str, *, level: Literal["info", "warning", "error"], type: str, message: str, data: dict[str, Any]
    ) -> None:
        """Append; the number is the next free one."""
        names = [name for name in self.files.names(f"runs/{run_id}/events") if name.endswith(".json")]
        seq = int(names[-1][:8]) + 1 if names else 1
        while True:
            event = Event(seq=seq, time=time.time(), level=level, type=type, message=message, data=data)
            if self.files.create_json(f"runs/{run_id}/events/{seq:08d}.json", event.model_dump(mode="json")):
                return
            seq += 1

    def dataset(self, dataset_id: str) -> DatasetRecord:
        """Raises NotFound."""
        if not re.match(DATASET_PATTERN, dataset_id):
            raise NotFound("That is no id of a data set.", "List the data sets with GET /v1/datasets.")
        try:
            return DatasetRecord.model_validate(self.files.read_json(f"datasets/{dataset_id}/dataset.json"))
        except FileNotFoundError:
            raise NotFound(f"There is no data set {dataset_id}.", "Upload it with POST /v1/datasets.") from None

    def _check(self, run_id: str) -> None:
        if not re.match(RUN_PATTERN, run_id) or not self.files.exists(f"runs/{run_id}/recipe.json"):
            raise NotFound(f"There is no run {run_id}.", "List the runs with GET /v1/runs.")

    def _json(self, run_id: str, name: str) -> Any:
        self._check(run_id)
        return self.files.read_json(f"runs/{run_id}/{name}")

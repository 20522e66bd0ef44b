"""What the API shows of runs, artifacts and data sets: the models behind docs/openapi.json."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from overproof.shared.recipe import Recipe
from overproof.shared.records import Manifest
from overproof.shared.runs import (
    Bindings,
    DatasetRecord,
    Event,
    RunError,
    RunRecord,
    RunState,
    RunStatus,
    StageStatus,
    Wanted,
)

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    """Whether there is more after the last entry: ask again with `after`."""


class RunSummary(BaseModel):
    """A run in a list."""

    object: Literal["run"] = "run"
    id: str
    name: str
    goal: str
    state: RunState
    wanted: Wanted
    """What was asked for last; the pipeline acts within seconds."""
    created_at: float
    """Unix seconds."""
    updated_at: float
    finished_at: float | None = None
    error: RunError | None = None
    metadata: dict[str, str] = {}
    spent_usd: float | None = None
    """What completions of servers have cost this run, in US dollars; null: no engine of its recipe has a price."""
    budget_usd: float | None = None
    """At this much the run pauses; null: never."""


class LiveStage(BaseModel):
    """What the workers say of a stage that is under way."""

    label: str
    ref: str
    shards: dict[int, dict[str, Any]]
    """By shard: the figures that its worker reported last."""


class RunView(RunSummary):
    """A run."""

    stages: tuple[StageStatus, ...] = ()
    artifacts: dict[str, str] = {}
    """Names → references; fetch them with `/v1/runs/{id}/artifacts/{name}`."""
    model_busy_share: float | None = None
    """Seconds that models were generating / wall seconds of the sampling stages."""
    live: list[LiveStage] | None = None
    """Live progress of the running stages; null when Redis does not answer (see `note`)."""
    note: str | None = None
    recipe: Recipe | None = None
    bindings: Bindings | None = None


class RunAccepted(RunSummary):
    """A run that was just submitted."""

    recipe: Recipe
    bindings: Bindings
    warnings: list[str] = []
    """What is allowed and yet unwise."""


class Validated(BaseModel):
    """Answer of a dry run: the recipe with every default filled in, and what its names stand for."""

    object: Literal["validation"] = "validation"
    recipe: Recipe
    bindings: Bindings
    warnings: list[str] = []


class ArtifactFile(BaseModel):
    """One file of an artifact."""

    name: str
    rows: int | None
    bytes: int
    sha256: str


class ArtifactView(BaseModel):
    """An artifact of a run."""

    object: Literal["artifact"] = "artifact"
    name: str
    ref: str
    stage: str
    complete: bool
    table: str | None = None
    """Name of the table that it holds; null when it holds other files."""
    rows: int | None = None
    bytes: int | None = None
    parts: int | None = None


class ArtifactDetail(ArtifactView):
    """An artifact and its files (the first 1000)."""

    files: list[ArtifactFile] = []
    inputs: list[str] = []
    """References of the artifacts that it was made from."""


class DatasetView(DatasetRecord):
    """An uploaded data set."""

    object: Literal["dataset"] = "dataset"


class Check(BaseModel):
    """One thing that readiness depends on."""

    ok: bool
    required: bool
    detail: str
    seconds: float


class Readiness(BaseModel):
    """Answer of `/readyz`."""

    ready: bool
    checks: dict[str, Check]


EventPage = Page[Event]


def summary(record: RunRecord, status: RunStatus | None, wanted: Wanted) -> RunSummary:
    """A run in a list."""
    return RunSummary(**_summary_fields(record, status, wanted))


def run_view(record: RunRecord, status: RunStatus | None, wanted: Wanted) -> RunView:
    """A run without its live progress."""
    fields = _summary_fields(record, status, wanted)
    if status is not None:
        fields |= {"stages": status.stages, "artifacts": status.artifacts, "model_busy_share": status.model_busy_share}
    return RunView(**fields, recipe=record.recipe, bindings=record.bindings)


def accepted(record: RunRecord, warnings: list[str]) -> RunAccepted:
    """A new run; follows from the record alone, so that a repeated request gets the same answer."""
    fields = _summary_fields(record, None, Wanted.RUNNING)
    return RunAccepted(**fields, recipe=record.recipe, bindings=record.bindings, warnings=warnings)


def _summary_fields(record: RunRecord, status: RunStatus | None, wanted: Wanted) -> dict[str, Any]:
    return {
        "id": record.run_id,
        "name": record.recipe.name,
        "goal": record.recipe.goal,
        "state": status.state if status else RunState.QUEUED,
        "wanted": wanted,
        "created_at": record.created_at,
        "updated_at": status.updated_at if status else record.created_at,
        "finished_at": status.finished_at if status else None,
        "error": status.error if status else None,
        "metadata": record.metadata,
        "spent_usd": status.spent_usd if status else None,
        "budget_usd": status.budget_usd if status else record.recipe.budget_usd,
    }


def artifact_view(name: str, ref: str, manifest: Manifest | None, table: str | None) -> ArtifactView:
    """An artifact, complete or not."""
    stage = ref.partition("/")[0]
    if manifest is None:
        return ArtifactView(name=name, ref=ref, stage=stage, complete=False, table=table)
    return ArtifactView(
        name=name, ref=ref, stage=stage, complete=True, table=manifest.schema_name,
        rows=manifest.rows if manifest.schema_name else None, bytes=manifest.bytes, parts=len(manifest.parts),
    )  # fmt: skip


def artifact_detail(view: ArtifactView, manifest: Manifest | None, max_files: int = 1000) -> ArtifactDetail:
    """An artifact with its files."""
    parts = manifest.parts[:max_files] if manifest else ()
    return ArtifactDetail(
        **view.model_dump(),
        files=[ArtifactFile(**part.model_dump()) for part in parts],
        inputs=list(manifest.inputs) if manifest else [],
    )

"""What the gateway says of a run, read tolerantly: a field that is missing or new never breaks a display."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class StageView:
    """One stage."""

    label: str
    stage: str
    ref: str
    state: str
    shards_done: int = 0
    shards_total: int | None = None
    rows: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    started_at: float | None = None
    finished_at: float | None = None
    spent_usd: float | None = None
    live: tuple[dict[str, Any], ...] = ()
    """What each shard under way last reported."""


@dataclass(frozen=True)
class RunView:
    """One run. `state` is `queued` until the pipeline first looked."""

    run_id: str
    name: str
    state: str
    created_at: float
    wanted: str = ""
    finished_at: float | None = None
    stages: tuple[StageView, ...] = ()
    artifacts: dict[str, str] = field(default_factory=dict)
    busy_share: float | None = None
    models: tuple[str, ...] = ()
    """Teacher and student, as the recipe names them."""
    error: dict[str, str] | None = None
    """`stage`, `message`, `remedy`; of a run that failed, or paused by itself."""
    spent_usd: float | None = None
    """None: nobody asks money for its completions."""
    budget_usd: float | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in FINAL


def run_view(payload: dict[str, Any]) -> RunView:
    """From the body of `GET /v1/runs/{id}`."""
    recipe = payload.get("recipe") or {}
    live = {each.get("ref"): each.get("shards") or {} for each in payload.get("live") or ()}
    return RunView(
        run_id=str(payload["id"]),
        name=str(payload.get("name") or ""),
        state=str(payload.get("state") or "queued"),
        created_at=float(payload.get("created_at") or 0.0),
        wanted=str(payload.get("wanted") or ""),
        finished_at=payload.get("finished_at"),
        stages=tuple(_stage_view(stage, live.get(stage.get("ref")) or {}) for stage in payload.get("stages") or ()),
        artifacts=dict(payload.get("artifacts") or {}),
        busy_share=payload.get("model_busy_share"),
        models=_models(recipe.get("models") or {}),
        error=payload.get("error"),
        spent_usd=payload.get("spent_usd"),
        budget_usd=payload.get("budget_usd"),
    )


def _stage_view(stage: dict[str, Any], shards: dict[str, Any]) -> StageView:
    return StageView(
        label=str(stage.get("label", "")),
        stage=str(stage.get("stage", "")),
        ref=str(stage.get("ref", "")),
        state=str(stage.get("state", "waiting")),
        shards_done=int(stage.get("shards_done") or 0),
        shards_total=stage.get("shards_total"),
        rows=int(stage.get("rows") or 0),
        notes=dict(stage.get("notes") or {}),
        started_at=stage.get("started_at"),
        finished_at=stage.get("finished_at"),
        spent_usd=stage.get("spent_usd"),
        live=tuple(shards.values()),
    )


def _models(models: dict[str, Any]) -> tuple[str, ...]:
    named = (models.get("teacher"), models.get("student"))
    return tuple(
        str(model["name"] if isinstance(model, dict) else model).rsplit("/", 1)[-1] for model in named if model
    )

"""What people are told of a run: derived, never the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from overproof.pipeline.domain.cost import spent_usd
from overproof.pipeline.domain.decide import Span, View, busy_share, most_at_once
from overproof.pipeline.domain.nodes import Node, Plan
from overproof.shared.runs import RunError, RunRecord, RunState, RunStatus, StageState, StageStatus
from overproof.shared.topology import Stage

OVER = {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


class Sums(Protocol):
    """Sums over the published shards of one artifact."""

    rows: int
    notes: dict[str, Any]
    started_at: float | None
    finished_at: float | None
    owners: dict[str, Span]


class Seen(NamedTuple):
    """One artifact: where it stands, and its sums."""

    view: View
    sums: Sums


def summarise(
    record: RunRecord,
    plan: Plan,
    seen: Mapping[str, Seen],
    state: RunState,
    error: RunError | None,
    now: float,
    budget_usd: float | None = None,
) -> RunStatus:
    """The status of a run."""
    stages = tuple(_stage(node, seen[node.ref], record.run_id) for node in plan.nodes)
    spent = [stage.spent_usd for stage in stages if stage.spent_usd is not None]
    return RunStatus(
        run_id=record.run_id,
        name=record.recipe.name,
        state=state,
        created_at=record.created_at,
        updated_at=now,
        finished_at=now if state in OVER else None,
        error=error,
        stages=stages,
        artifacts=plan.names,
        model_busy_share=_busy_share(plan, seen),
        spent_usd=sum(spent) if spent else None,
        budget_usd=budget_usd,
    )


def _stage(node: Node, seen: Seen, run_id: str) -> StageStatus:
    view, sums = seen
    return StageStatus(
        label=node.label,
        stage=node.spec.stage,
        ref=node.ref,
        state=_state(view),
        shards_done=len(view.done),
        shards_total=view.n_shards,
        rows=sums.rows,
        notes=sums.notes,
        started_at=sums.started_at,
        finished_at=sums.finished_at,
        spent_usd=spent_usd(node, sums.notes, run_id),
    )


def _state(view: View) -> StageState:
    if view.failed:
        return StageState.FAILED
    if view.complete:
        return StageState.DONE
    return StageState.RUNNING if view.declared else StageState.WAITING


def _busy_share(plan: Plan, seen: Mapping[str, Seen]) -> float | None:
    """Over all sampling stages, once they are all complete. A worker that another one took the place of counts once with it."""
    sampled = [seen[node.ref] for node in plan.nodes if node.spec.stage is Stage.SAMPLE]
    if not sampled or not all(one.view.complete for one in sampled):
        return None
    intervals = [(one.sums.started_at, one.sums.finished_at) for one in sampled]
    known = [(start, end) for start, end in intervals if start is not None and end is not None]
    busy = sum(float(one.sums.notes.get("busy_seconds", 0.0)) for one in sampled)
    owners: dict[str, Span] = {}
    for owner, span in (item for one in sampled for item in one.sums.owners.items()):
        owners[owner] = span.with_(owners.get(owner, span))
    return busy_share(known, busy, most_at_once(owners.values()))


def changes(before: RunStatus | None, after: RunStatus) -> list[dict[str, Any]]:
    """Events (fields of `runs.Event` without number and time) for what changed between two statuses."""
    events: list[dict[str, Any]] = []
    old = {stage.ref: stage.state for stage in before.stages} if before else {}
    for stage in after.stages:
        if stage.state is not old.get(stage.ref, StageState.WAITING):
            level = "error" if stage.state is StageState.FAILED else "info"
            data = {"ref": stage.ref, "rows": stage.rows, "notes": stage.notes}
            message = f"{stage.label}: {stage.state}"
            events.append({"level": level, "type": f"stage.{stage.state}", "message": message, "data": data})
    if before is None or before.state is not after.state:
        message = f"run {after.state}" + (f": {after.error.message} {after.error.remedy}" if after.error else "")
        level = "error" if after.state is RunState.FAILED else "warning" if after.error else "info"
        events.append({"level": level, "type": f"run.{after.state}", "message": message.strip(), "data": {}})
    return events

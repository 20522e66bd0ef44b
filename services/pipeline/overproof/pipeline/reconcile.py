"""Compare what each run wants with what is committed, and send what is missing. Everything is read again at every look."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from celery import Celery

from overproof.pipeline.domain.cost import Ledger, exhausted, ledger
from overproof.pipeline.domain.decide import Broken, Look, Send, View, candidates, decide, finished, first_broken
from overproof.pipeline.domain.gates import gate_error
from overproof.pipeline.domain.nodes import Node, Plan
from overproof.pipeline.domain.plan import plan
from overproof.pipeline.domain.status import Seen, changes, summarise
from overproof.pipeline.earlier import earlier_grades
from overproof.pipeline.views import Views
from overproof.shared import tracing
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import NotFound, OverproofError
from overproof.shared.files import Files
from overproof.shared.leases import Leases
from overproof.shared.messages import ShardRequest
from overproof.shared.runs import RunError, RunRecord, Runs, RunState, RunStatus, Wanted
from overproof.shared.specs import CheckGoldSpec
from overproof.shared.topology import TASK_OF_STAGE, Stage

log = logging.getLogger(__name__)

MAX_LOOKS = 512
"""Shards of one artifact that Redis is asked about in one look: twice what may be under way."""


class Wish(NamedTuple):
    """A run that is not over, and what is wanted of it."""

    record: RunRecord
    plan: Plan
    wanted: Wanted
    budget_usd: float | None = None
    """The recipe's, or the one that was given when the run was resumed."""


class Reconciler:
    """Owns nothing: a second one beside it, or a fresh one after a crash, comes to the same decisions."""

    def __init__(self, files: Files, leases: Leases, app: Celery) -> None:
        self._runs = Runs(files)
        self._artifacts = Artifacts(files)
        self._leases = leases
        self._app = app
        self._views = Views(self._artifacts)
        self._plans: dict[str, Wish] = {}
        self._over: set[str] = set()

    def reconcile(self) -> None:
        """One look at every run. Raises BrokerUnavailable or StorageUnavailable; the next look goes on."""
        wishes = self._wishes()
        needed = {node.ref for wish in wishes if wish.wanted is Wanted.RUNNING for node in wish.plan.nodes}
        for wish in wishes:
            if wish.wanted is Wanted.RUNNING:
                self._advance(wish)
            else:
                self._halt(wish, needed)

    def _wishes(self) -> list[Wish]:
        """Runs that are not over. A recipe that cannot be planned fails its run, not the others."""
        wishes = []
        for run_id in self._runs.ids():
            if run_id in self._over:
                continue
            try:
                desired = self._runs.desired(run_id)
                wish = self._plans.get(run_id) or self._planned(run_id)
            except (NotFound, FileNotFoundError):
                continue  # the gateway is still writing it
            if wish is not None:
                self._plans[run_id] = wish
                budget = desired.budget_usd or wish.record.recipe.budget_usd
                wishes.append(wish._replace(wanted=desired.wanted, budget_usd=budget))
        return wishes

    def _planned(self, run_id: str) -> Wish | None:
        record, status = self._runs.record(run_id), self._runs.status(run_id)
        if status and status.state is RunState.SUCCEEDED:
            self._over.add(run_id)
            return None
        try:
            first = plan(record)
        except OverproofError as error:
            reason = RunError(stage="plan", kind=type(error).__name__, message=error.message, remedy=error.remedy)
            self._tell(record, summarise(record, Plan((), {}), {}, RunState.FAILED, reason, time.time()))
            self._over.add(run_id)
            return None
        return Wish(record, plan(record, earlier_grades(self._artifacts, run_id, first)), Wanted.RUNNING)

    # --- a run that is wanted ---------------------------------------------------------------------------------------

    def _advance(self, wish: Wish) -> None:
        nodes = wish.plan.nodes
        views = self._close_finished(nodes)
        broken = first_broken(nodes, views)
        error = self._gate(wish, views) or (self._error_of(broken) if broken else None)
        sums = self._ledger(wish)
        pause = exhausted(nodes, views, sums, wish.record.run_id)  # what is under way is paid for, and ends
        if not error and not pause:
            self._send_missing(wish, views, sums.room)
        done = all(views[node.ref].complete for node in nodes)
        state = RunState.PAUSED if pause else RunState.SUCCEEDED if done else RunState.RUNNING
        state = RunState.FAILED if error else state
        self._tell(wish.record, self._status(wish, views, state, error or pause))
        if error:
            self._stop(wish, views)
        if state is RunState.SUCCEEDED:
            self._over.add(wish.record.run_id)
            self._plans.pop(wish.record.run_id, None)
            self._views.forget(node.ref for node in nodes)

    def _close_finished(self, nodes: tuple[Node, ...]) -> dict[str, View]:
        """Write manifests until none is missing: closing one artifact may tell how many shards another has, perhaps none."""
        while True:
            views = self._views.look(nodes)
            closes = finished(nodes, views)
            if not closes:
                return views
            for close in closes:
                self._artifacts.close(close.node.ref, close.n_shards, close.node.schema_name)
                self._leases.forget(close.node.queue, close.node.ref, list(range(close.n_shards)))

    def _ledger(self, wish: Wish) -> Ledger:
        notes = {node.ref: self._views.tally(node.ref).notes for node in wish.plan.nodes}
        return ledger(wish.plan.nodes, notes, wish.record.run_id, wish.budget_usd)

    def _send_missing(self, wish: Wish, views: dict[str, View], paid_room: int | None) -> None:
        origin = wish.record.origin
        for send in self._decide(wish.plan.nodes, views, paid_room):
            with tracing.on_behalf_of(origin.get("request_id", "")):
                task, run_id = TASK_OF_STAGE[send.node.spec.stage], wish.record.run_id
                with tracing.span(f"send {task}", "PRODUCER", origin, run_id=run_id, shards=len(send.shards)):
                    self._send(send, run_id)

    def _decide(self, nodes: tuple[Node, ...], views: dict[str, View], paid_room: int | None) -> list[Send]:
        looks: dict[tuple[str, int], Look] = {}
        queues: dict[str, int] = {}
        for node, shards in candidates(nodes, views, looks):
            seen = self._leases.look(node.queue, node.ref, shards[:MAX_LOOKS])
            looks |= {(node.ref, shard): Look(*one) for shard, one in seen.items()}
            if node.queue not in queues:
                queues[node.queue] = self._leases.waiting(node.queue)
        return decide(nodes, views, looks, queues, paid_room)

    def _send(self, send: Send, run_id: str) -> None:
        node = send.node
        self._artifacts.declare(node.spec)
        self._leases.unhalt(node.ref)
        stage, key = node.ref.split("/")
        for shard in send.shards:
            request = ShardRequest(stage=Stage(stage), key=key, shard=shard, run_id=run_id)
            self._leases.mark_sent(node.queue, node.ref, shard)  # before: a claim removes the mark
            self._app.send_task(TASK_OF_STAGE[node.spec.stage], kwargs=request.model_dump(mode="json"))

    def _gate(self, wish: Wish, views: dict[str, View]) -> RunError | None:
        """The first check of data that found something the recipe does not allow."""
        train = wish.plan.names.get("problems/train")
        for node in wish.plan.nodes:
            if views[node.ref].complete and isinstance(node.spec, CheckGoldSpec):
                notes, is_trained_on = self._views.tally(node.ref).notes, node.spec.problems == train
                error = gate_error(node, notes, wish.record.recipe, is_trained_on=is_trained_on)
                if error:
                    return error
        return None

    def _error_of(self, broken: Broken) -> RunError:
        failure = self._artifacts.failure(broken.node.ref, broken.shard)
        return RunError(stage=broken.node.label, kind=failure.kind, message=failure.message, remedy=failure.remedy)

    # --- a run that is not ------------------------------------------------------------------------------------------

    def _halt(self, wish: Wish, needed: set[str]) -> None:
        """Stop what no other run wants, and say so."""
        views = self._views.look(wish.plan.nodes)
        state = RunState.PAUSED if wish.wanted is Wanted.PAUSED else RunState.CANCELLED
        status = self._runs.status(wish.record.run_id)
        if status is None or status.state is not state or status.error:
            self._stop(wish, views, needed)
            self._tell(wish.record, self._status(wish, views, state, None))

    def _stop(self, wish: Wish, views: dict[str, View], needed: Iterable[str] = ()) -> None:
        for node in wish.plan.nodes:
            if not views[node.ref].complete and node.ref not in set(needed):
                self._leases.halt(node.ref)

    # --- what is told -----------------------------------------------------------------------------------------------

    def _status(self, wish: Wish, views: dict[str, View], state: RunState, error: RunError | None) -> RunStatus:
        seen = {node.ref: Seen(views[node.ref], self._views.tally(node.ref)) for node in wish.plan.nodes}
        return summarise(wish.record, wish.plan, seen, state, error, time.time(), wish.budget_usd)

    def _tell(self, record: RunRecord, status: RunStatus) -> None:
        """Write the status when it says something new, and an event for each change."""
        before = self._runs.status(record.run_id)
        news = changes(before, status)
        if before is None or news or _without_time(before) != _without_time(status):
            self._runs.put_status(status)
        for one in news:
            self._runs.add_event(record.run_id, **one)
            ids = {"run_id": record.run_id, "request_id": record.origin.get("request_id", "")}
            log.info("%s %s", record.run_id, one["message"], extra=ids)


def _without_time(status: RunStatus) -> dict[str, Any]:
    return status.model_dump(exclude={"updated_at", "finished_at"})

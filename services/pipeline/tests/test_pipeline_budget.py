"""What runs spend on served completions, and how a budget pauses them."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.pipeline.domain.cost import FIRST_SHARDS, Ledger, exhausted, ledger, spent_usd
from overproof.pipeline.domain.decide import MAX_OUTSTANDING, Look, View, decide
from overproof.pipeline.domain.nodes import Node
from overproof.pipeline.domain.plan import plan
from overproof.shared.recipe import EngineOptions, PromptOptions, Recipe
from overproof.shared.runs import Bindings, RunRecord, RunState, RunStatus, Wanted
from overproof.shared.specs import CheckModelSpec, ModelRef, SampleSpec, Sampling
from overproof.shared.topology import Role, Stage

TEACHER = {"kind": "openai", "price_per_million_prompt_tokens": 1e5, "price_per_million_completion_tokens": 2e5}
"""Ten cents for ten tokens read, twenty for ten written: the numbers of the small runs below are dollars."""
FREE = {"kind": "vllm"}


def node_of(engine: dict[str, Any], first_sample: int = 0) -> Node:
    spec = SampleSpec(
        problems="prepare/" + "0" * 32, model=ModelRef(name="t", kind="served", location="t"), role=Role.TEACHER, round=1,
        prompt=PromptOptions(), sampling=Sampling(first_sample=first_sample), engine=EngineOptions.model_validate(engine),
    )  # fmt: skip
    return Node(f"sample {first_sample}", spec)


def test_shard_costs_tokens_times_the_recipes_prices() -> None:
    notes = {
        "spent": {"r": {"prompt_tokens": 20, "tokens": 30, "shards": 2}, "other": {"prompt_tokens": 1000, "tokens": 0}}
    }
    assert spent_usd(node_of(TEACHER), notes, "r") == pytest.approx(2.0 + 6.0)
    assert spent_usd(node_of(TEACHER), notes, "new") == 0.0  # what others had made
    assert spent_usd(node_of(FREE), notes, "r") is None
    assert spent_usd(node_of({"kind": "openai"}), notes, "r") is None


def test_ledger_sums_stages_and_knows_the_dearest_shard() -> None:
    nodes = [node_of(TEACHER), node_of(TEACHER, 4), node_of(FREE)]
    notes: dict[str, dict[str, Any]] = {
        nodes[0].ref: {"spent": {"r": {"prompt_tokens": 0, "tokens": 20, "shards": 2}}},
        nodes[1].ref: {"spent": {"r": {"prompt_tokens": 0, "tokens": 15, "shards": 1}}},
        nodes[2].ref: {},
    }
    assert ledger(nodes, notes, "r", 9.0) == pytest.approx((7.0, 9.0, 3.0))
    assert ledger(nodes[2:], notes, "r", None) == (0.0, None, None)


@pytest.mark.parametrize(
    ("sums", "room"),
    [
        (Ledger(0.0, None, None), None),
        (Ledger(50.0, None, 1.0), None),
        (Ledger(0.0, 10.0, None), FIRST_SHARDS),
        (Ledger(4.0, 10.0, 2.0), 3),
        (Ledger(9.0, 10.0, 2.0), 1),
    ],
)
def test_room_is_what_the_rest_of_the_budget_pays_for(sums: Ledger, room: int | None) -> None:
    assert sums.room == room
    assert not sums.is_exhausted


def test_only_a_run_with_more_to_pay_for_pauses() -> None:
    paid, free = node_of(TEACHER), node_of(FREE)
    spent = Ledger(10.0, 10.0, 2.0)
    views = {paid.ref: View(declared=True), free.ref: View()}
    reason = exhausted([free, paid], views, spent, "r")
    assert reason is not None
    assert reason.message == "The run has spent $10.00 of its budget of $10.00."
    assert reason.remedy.endswith("overproof resume r --budget 20")
    assert exhausted([free, paid], {**views, paid.ref: View(complete=True)}, spent, "r") is None
    assert exhausted([free, paid], views, spent._replace(spent_usd=9.99), "r") is None


def test_room_bounds_paid_shards_only() -> None:
    paid, free = node_of(TEACHER), node_of(FREE)
    views = {node.ref: View(n_shards=40, declared=True) for node in (paid, free)}
    sends = {send.node.ref: len(send.shards) for send in decide([paid, free], views, {}, {}, paid_room=3)}
    assert sends == {paid.ref: 3, free.ref: 40}
    other = node_of(TEACHER, 4)
    views |= {other.ref: View(n_shards=40, declared=True)}
    under_way = {(other.ref, shard): Look(leased=True) for shard in (0, 1)}
    (send,) = decide([paid, other], views, under_way, {}, paid_room=3)
    assert (send.node.ref, send.shards) == (paid.ref, (0,))
    later = {paid.ref: View(n_shards=900, declared=True)}
    (send,) = decide([paid], later, {}, {}, paid_room=10_000)
    assert len(send.shards) == MAX_OUTSTANDING


def test_teacher_has_its_engine_and_everybody_else_the_other(site: Any) -> None:
    models = {name: ModelRef(name=name, kind="folder", location=name) for name in ("teacher", "student")}
    recipe = Recipe.model_validate({**site.recipe, "teacher_engine": TEACHER, "rounds": 2})
    nodes = plan(RunRecord(run_id="r", created_at=0, recipe=recipe, bindings=Bindings(models=models))).nodes
    served = {node.label for node in nodes if isinstance(node.spec, SampleSpec) and node.spec.engine.kind == "openai"}
    assert served == {
        "sample · teacher · round 1 · pass 1", "sample · teacher · round 1 · pass 2", "sample · test · teacher"
    }  # fmt: skip
    checks = {node.spec.model.name: node.spec.engine.kind for node in nodes if isinstance(node.spec, CheckModelSpec)}
    assert checks == {"teacher": "openai", "student": "vllm"}


# --- whole runs ------------------------------------------------------------------------------------------------------


def submit(site: Any, run_id: str, budget_usd: float | None) -> None:
    site.submit(run_id, teacher_engine=TEACHER | {"budget_usd": budget_usd})


def turned(site: Any, run_id: str) -> RunStatus:
    """The run after so many turns that it has ended or stands still."""
    for _ in range(30):
        site.turn()
    status: RunStatus = site.status(run_id)
    return status


def test_run_pauses_at_its_budget_and_goes_on_with_a_larger_one(site: Any) -> None:
    submit(site, "r", 450.0)
    status = turned(site, "r")
    assert status.state is RunState.PAUSED
    assert status.error is not None
    assert status.error.kind == "BudgetReached"
    assert "of its budget of $450.00" in status.error.message
    assert status.spent_usd is not None
    assert status.budget_usd == 450.0
    assert status.spent_usd >= 450.0
    made = len(site.made)
    site.restart()
    assert turned(site, "r") == status.model_copy(update={"updated_at": site.status("r").updated_at})
    assert len(site.made) == made
    assert site.runs.wanted("r") is Wanted.RUNNING
    assert [event.level for event in site.runs.events("r") if event.type == "run.paused"] == ["warning"]

    site.runs.want("r", Wanted.RUNNING, budget_usd=100_000.0)
    done = site.run(run_id="r")
    assert done.state is RunState.SUCCEEDED
    assert done.error is None
    assert done.spent_usd is not None
    assert done.spent_usd > status.spent_usd
    assert done.budget_usd == 100_000.0
    assert done.spent_usd == pytest.approx(sum(stage.spent_usd or 0 for stage in done.stages))


def test_budget_is_passed_by_what_was_under_way_at_most(site: Any) -> None:
    submit(site, "r", 450.0)
    status = turned(site, "r")
    receipts = [
        site.worker.artifacts.receipt(stage.ref, shard)
        for stage in status.stages if stage.stage is Stage.SAMPLE
        for shard in site.worker.artifacts.listing(stage.ref).done
    ]  # fmt: skip
    costs = sorted(
        EngineOptions.model_validate(TEACHER).cost_usd(*_tokens(one.notes["spent"]["r"])) for one in receipts
    )
    assert status.spent_usd == pytest.approx(sum(costs))
    assert 0 <= status.spent_usd - 450.0 <= costs[-1]  # four shards first, then one at a time


def _tokens(used: dict[str, int]) -> tuple[int, int]:
    return used["prompt_tokens"], used["tokens"]


def test_explicit_budget_stands_through_pause_and_resume(site: Any) -> None:
    submit(site, "r", 1.0)
    site.runs.want("r", Wanted.PAUSED, budget_usd=7.5)
    site.runs.want("r", Wanted.RUNNING)
    assert (site.runs.desired("r").budget_usd, site.runs.desired("r").wanted) == (7.5, Wanted.RUNNING)


def test_what_an_earlier_run_paid_for_costs_nothing(site: Any) -> None:
    submit(site, "a", None)
    first = site.run(run_id="a")
    assert first.spent_usd is not None
    assert first.spent_usd > 1.0
    assert first.budget_usd is None
    submit(site, "b", 1.0)
    second = site.run(run_id="b")
    assert (second.state, second.spent_usd) == (RunState.SUCCEEDED, 0.0)


def test_run_that_pays_nobody_has_no_ledger(site: Any) -> None:
    site.submit("r")
    status = site.run()
    assert (status.spent_usd, status.budget_usd) == (None, None)
    assert {stage.spent_usd for stage in status.stages} == {None}


def test_run_that_ends_with_its_last_cent_succeeds(site: Any) -> None:
    submit(site, "a", None)
    spent = site.run(run_id="a").spent_usd
    site.worker.artifacts.files.delete("runs/a/status.json")
    site.runs.want("a", Wanted.RUNNING, budget_usd=spent)
    site.restart()
    assert site.run(run_id="a").state is RunState.SUCCEEDED

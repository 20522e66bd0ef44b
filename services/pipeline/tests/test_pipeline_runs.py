"""Whole runs through the reconciler, real Redis and real storage, with makers that take no time: undisturbed, then through every fault."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.pipeline.domain.decide import busy_share
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import CorruptShard, EngineUnavailable, ModelError
from overproof.shared.leases import Claim, Leases
from overproof.shared.runs import RunState, RunStatus, StageState, Wanted
from overproof.shared.tables import COMPLETIONS
from overproof.shared.topology import Stage


def completions(artifacts: Artifacts, status: RunStatus) -> list[dict[str, Any]]:
    """Every completion of the run, in order."""
    refs = sorted(ref for name, ref in status.artifacts.items() if name.startswith("completions/"))
    return [row for ref in refs for batch in artifacts.read(ref, COMPLETIONS) for row in batch.to_pylist()]


def test_run_goes_from_recipe_to_report(site: Any) -> None:
    site.submit()
    status = site.run()
    assert status.state is RunState.SUCCEEDED
    assert all(stage.state is StageState.DONE for stage in status.stages)
    assert len(site.made) == len(set(site.made))
    types = [event.type for event in site.runs.events("r", limit=1000)]
    assert (types[-1], types.count("stage.done")) == ("run.succeeded", len(status.stages))
    assert status.model_busy_share is not None


def test_adaptive_passes_sample_only_unsolved_problems(site: Any) -> None:
    site.submit()
    stages = {stage.label: stage for stage in site.run().stages}
    first = stages["sample · teacher · round 1 · pass 1"]
    solved = stages["grade · teacher · round 1 · pass 1"].notes["verdicts"]["correct"]
    second = stages["sample · teacher · round 1 · pass 2"]
    assert first.rows == 46
    assert 0 < second.rows < first.rows - solved


def test_second_run_shares_what_the_first_made(site: Any) -> None:
    site.submit("a")
    site.run(run_id="a")
    before = len(site.made)
    site.submit("b", training={"epochs": 7})
    site.run(run_id="b")
    stages = {made.partition("/")[0] for made in site.made[before:]}
    assert stages == {"check_student", "train", "sample", "grade", "compare", "report"}


def test_two_runs_at_once_both_end(site: Any) -> None:
    site.submit("a")
    site.submit("b", sampling={**site.recipe["sampling"], "seed": 5})
    assert site.run(run_id="a").state is RunState.SUCCEEDED
    assert site.run(run_id="b").state is RunState.SUCCEEDED


@pytest.mark.parametrize("seed", range(4))
def test_faults_cost_time_and_change_no_row(
    site: Any, seed: int, tmp_path: Path, make_site: Callable[[Path], Any]
) -> None:
    calm = make_site(tmp_path / "calm")
    calm.submit()
    expected = completions(calm.worker.artifacts, calm.run())
    site.worker.leases._redis.flushall()
    chance = random.Random(seed)
    site.submit()
    for _ in range(200):
        site.reconciler.reconcile()
        letters, site.mailbox.letters = site.mailbox.letters, []
        for letter in chance.sample(letters, len(letters)):
            _disturb(site, letter, chance)
        if site.status().state in (RunState.SUCCEEDED, RunState.FAILED):
            break
    assert site.status().state is RunState.SUCCEEDED
    _repair(site)
    assert completions(site.worker.artifacts, site.status()) == expected


def _repair(site: Any) -> None:
    """Find damage that nobody has read yet; without its status a run is looked at again, and made whole."""
    root = Path(site.worker.artifacts.files.root) / "artifacts"
    for path in sorted(root.glob("sample/*/MANIFEST.json")):
        ref = f"sample/{path.parent.name}"
        for part in site.worker.artifacts.parts(ref):
            with contextlib.suppress(CorruptShard):
                site.worker.artifacts.verify(ref, part)
    site.worker.artifacts.files.delete("runs/r/status.json")
    site.restart()
    assert site.run().state is RunState.SUCCEEDED


def _disturb(site: Any, letter: dict[str, Any], chance: random.Random) -> None:
    """Deliver, lose, double or interrupt a message; wipe Redis; restart the pipeline; damage a finished part."""
    fate = chance.random()
    if fate < 0.15:
        return
    if fate < 0.25:
        site.worker.leases._redis.flushall()
    if fate < 0.35:
        site.restart()
    if fate < 0.45:
        site.deliver(letter)
    if fate > 0.95:
        _damage(site, chance)
    site.deliver(letter)


def _damage(site: Any, chance: random.Random) -> None:
    root = Path(site.worker.artifacts.files.root) / "artifacts" / "sample"
    parts = sorted(root.glob("*/part-*.parquet"))
    if parts:
        chance.choice(parts).write_bytes(b"damaged")


def test_killed_workers_shard_is_made_again_when_its_lease_ends(site: Any) -> None:
    site.submit()
    site.reconciler.reconcile()
    letter = site.mailbox.letters.pop()
    ref = f"{letter['stage']}/{letter['key']}"
    assert site.worker.leases.claim("pipeline", ref, letter["shard"], "a worker that dies")
    site.reconciler.reconcile()
    assert site.mailbox.letters == []
    site.worker.leases.release(ref, letter["shard"], "a worker that dies")
    assert site.run().state is RunState.SUCCEEDED


def sampling_sent(site: Any) -> list[tuple[str, int]]:
    """Looks, makes all that is no sampling, and looks again, until shards are to be sampled."""
    for _ in range(20):
        site.reconciler.reconcile()
        letters, site.mailbox.letters = site.mailbox.letters, []
        for letter in letters:
            if letter["stage"] != Stage.SAMPLE:
                site.deliver(letter)
        if sampled := [
            (f"{one['stage']}/{one['key']}", one["shard"]) for one in letters if one["stage"] == Stage.SAMPLE
        ]:
            return sampled
    raise AssertionError("nothing to sample")


def test_second_model_is_sent_once_workers_have_all_shards_of_the_first(site: Any) -> None:
    def models(sent: list[tuple[str, int]]) -> set[str]:
        return {site.worker.artifacts.spec(ref).model.name for ref, _ in sent}

    site.submit(sampling={"samples_per_pass": 2, "max_samples": 2, "temperature": 1.0})
    leases = Leases(site.settings.redis_url, lease_seconds=60)
    first = sampling_sent(site)
    assert models(first) == {"teacher"}
    for ref, shard in first[1:]:
        assert leases.claim("inference", ref, shard, "worker") is Claim.OK
    assert sampling_sent(site) == first[:1]  # its message was lost
    assert leases.claim("inference", *first[0], "worker") is Claim.OK
    assert models(sampling_sent(site)) == {"student"}


def test_worker_that_took_the_place_of_a_killed_one_counts_once_with_it(site: Any) -> None:
    site.submit()
    first = sampling_sent(site)
    for ref, shard in first[:2]:
        stage, key = ref.split("/")
        site.deliver({"stage": stage, "key": key, "shard": shard, "run_id": "r"})
    site.worker.owner = "inference-host-2"
    status = site.run()
    sampled = [one for one in status.stages if one.stage is Stage.SAMPLE]
    receipts = [site.worker.artifacts.receipt(*one) for one in first]
    assert len({one.owner for one in receipts}) == 2
    intervals = [(one.started_at, one.finished_at) for one in sampled if one.started_at and one.finished_at]
    busy = sum(one.notes["busy_seconds"] for one in sampled if one.notes)
    assert status.model_busy_share == pytest.approx(busy_share(intervals, busy, workers=1))


def test_mistake_fails_the_run_with_its_sentence_and_resume_goes_on(site: Any) -> None:
    site.submit()
    site.broken[Stage.CHECK_MODEL] = ModelError("teacher has no chat template.", "Add one.")
    status = site.run()
    assert status.state is RunState.FAILED
    assert status.error is not None
    assert (status.error.kind, status.error.message, status.error.remedy) == (
        "ModelError",
        "teacher has no chat template.",
        "Add one.",
    )
    assert not any(made.startswith("sample") for made in site.made)
    site.broken.clear()
    for stage in status.stages:
        site.worker.artifacts.forgive(stage.ref)
        site.worker.leases.forgive(stage.ref)
    for _ in range(60):
        site.turn()
        if site.status().state is RunState.SUCCEEDED:
            break
    assert site.status().state is RunState.SUCCEEDED


@pytest.mark.parametrize("policy", ["error", "keep"])
def test_gold_answer_that_cannot_be_read_stops_before_sampling_unless_kept(site: Any, policy: str) -> None:
    site.unreadable = 1
    site.submit(goal="select", data={"train": site.recipe["data"]["train"], "on_ungradable": policy})
    status = site.run()
    if policy == "keep":
        assert status.state is RunState.SUCCEEDED
        return
    assert status.error is not None
    assert status.error.message == "5 gold answers cannot be read: s:7 ('?': it is prose), 4 more."
    assert not any(made.startswith("sample") for made in site.made)


def test_remedy_of_unreadable_training_golds_knows_majority_labels(site: Any) -> None:
    site.unreadable = 1
    site.submit(goal="select", selection=[{"labels": "majority"}])
    error = site.run().error
    assert error is not None
    assert error.remedy == "Mend them, or set data.on_ungradable: keep to have the teacher's clear majority label them."


@pytest.mark.parametrize(("labels", "state"), [("majority", RunState.SUCCEEDED), ("gold", RunState.FAILED)])
def test_training_problems_without_answers_need_majority_labels(site: Any, labels: str, state: RunState) -> None:
    root = Path(site.worker.artifacts.files.root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.jsonl").write_text('{"problem": "1 + 1?"}\n{"problem": "1 + 2?", "answer": "3"}\n')
    site.settings.data_root = root
    data = {"train": {"file": "train.jsonl"}, "on_ungradable": "keep"}
    site.submit(goal="select", data=data, selection=[{"labels": labels}])
    status = site.run()
    assert status.state is state
    if state is RunState.FAILED:
        assert "line 1: answer is missing" in status.error.message
        assert "selection.labels: majority" in f"{status.error.message} {status.error.remedy}"
        assert not any(made.startswith("sample") for made in site.made)


def test_poison_shard_is_reported_after_its_attempts(site: Any) -> None:
    site.submit()
    site.broken[Stage.GRADE] = EngineUnavailable("The grader fell over.")
    status = site.run()
    assert status.error is not None
    assert status.error.kind == "Poison"
    assert "The grader fell over." in status.error.message


def test_paused_run_sends_nothing_and_goes_on_later(site: Any) -> None:
    site.submit()
    for _ in range(3):
        site.turn()
    site.runs.want("r", Wanted.PAUSED)
    site.turn()
    before = len(site.made)
    for _ in range(3):
        site.turn()
    assert site.status().state is RunState.PAUSED
    assert len(site.made) == before
    site.runs.want("r", Wanted.RUNNING)
    assert site.run().state is RunState.SUCCEEDED


def test_cancelled_run_halts_only_what_no_other_run_wants(site: Any) -> None:
    site.submit("a")
    site.submit("b", training={"epochs": 7})
    site.turn()
    site.runs.want("a", Wanted.CANCELLED)
    assert site.run(run_id="b").state is RunState.SUCCEEDED
    assert site.status("a").state is RunState.CANCELLED


def test_recipe_that_cannot_be_planned_fails_alone(site: Any) -> None:
    site.submit("good")
    site.submit("bad", models={"teacher": "unbound", "student": "student"})
    assert site.run(run_id="good").state is RunState.SUCCEEDED
    error = site.status("bad").error
    assert error is not None
    assert "unbound" in error.message


def prepared(site: Any, lines: str, **change: Any) -> RunStatus:
    root = Path(site.worker.artifacts.files.root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.jsonl").write_text(lines)
    site.settings.data_root = root
    site.submit(data={**site.recipe["data"], "train": {"file": "train.jsonl"}}, **change)
    return site.run()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            '{"problem": "1+1?", "answer": "2"}\n{"problem": "1+1?", "answer": "3"}',
            "line 2: this problem stands there before",
        ),
        ('{"problem": "1+1?"}\n{"question": 7}', "line 1: answer is missing"),
        ('{"problem": "1+1?", "answer": "2"}\nnot json', "Line 2 is not JSON"),
        ("", "has no rows"),
    ],
)
def test_bad_data_is_named_by_line_before_anything_is_sampled(site: Any, lines: str, told: str) -> None:
    status = prepared(site, lines)
    assert status.error is not None
    assert told in f"{status.error.message} {status.error.remedy}"
    assert not any(made.startswith("sample") for made in site.made)


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_training_problem_in_the_test_set_is_an_error_or_dropped(site: Any, policy: str) -> None:
    root = Path(site.worker.artifacts.files.root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "test.jsonl").write_text(
        '{"problem": "Tom buys 3 pens at 4 cents each. What is the cost?", "answer": "12"}\n'
    )
    (root / "train.jsonl").write_text(
        '{"problem": "Anna buys 3 pens at 4 cents each. Find the cost.", "answer": "12"}\n{"problem": "1 + 1?", "answer": "2"}\n'
    )
    site.settings.data_root = root
    site.submit(data={"train": {"file": "train.jsonl"}, "test": {"file": "test.jsonl"}, "on_overlap": policy})
    status = site.run()
    if policy == "error":
        assert status.error is not None
        assert "train.jsonl:1" in status.error.message
        return
    train = site.worker.artifacts.manifest(status.artifacts["problems/train"])
    assert train is not None
    assert (train.rows, train.notes[0]["dropped_overlap"]) == (1, 1)


def test_given_completions_find_their_problems(site: Any) -> None:
    root = Path(site.worker.artifacts.files.root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "p.jsonl").write_text(
        "".join(f'{{"problem": "What is {i} + 1?", "answer": "{i + 1}"}}\n' for i in range(12))
    )
    lines = [f'{{"problem": "What is {i} + 1?", "solution": "right", "num_tokens": {i}}}\n' for i in (11, 3, 3, 99, 0)]
    (root / "c.jsonl").write_text("".join(lines))
    site.settings.data_root = root
    site.submit(goal="grade", data={"train": {"file": "p.jsonl"}}, given={"completions": {"file": "c.jsonl"}})
    status = site.run()
    rows = [
        row
        for batch in site.worker.artifacts.read(status.artifacts["completions"], COMPLETIONS)
        for row in batch.to_pylist()
    ]
    assert [(row["n_tokens"], row["sample"]) for row in rows] == [(0, 0), (3, 0), (3, 1), (11, 0)]
    manifest = site.worker.artifacts.manifest(status.artifacts["completions"])
    assert manifest is not None
    assert [part.rows for part in manifest.parts] == [3, 0, 1]
    assert manifest.notes[0]["rows_without_problem"] == 1

"""What to do next, from what storage and Redis say: tables of cases."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.pipeline.domain import decide as module
from overproof.pipeline.domain.decide import (
    Close,
    Look,
    Span,
    View,
    add_notes,
    busy_share,
    decide,
    finished,
    first_broken,
    most_at_once,
)
from overproof.pipeline.domain.nodes import Node
from overproof.shared.recipe import DataSource, EngineOptions, GradingOptions, PromptOptions
from overproof.shared.specs import GradeSpec, ModelRef, PrepareSpec, SampleSpec, Sampling
from overproof.shared.topology import Role

PREPARE = Node("prepare", PrepareSpec(source=DataSource(file="a.csv"), rows_per_part=2))


def sample(name: str, *, after: tuple[str, ...] = (), along: tuple[str, ...] = (), seed: int = 0) -> Node:
    spec = SampleSpec(
        problems=PREPARE.ref,
        model=ModelRef(name=name, kind="folder", location=name),
        role=Role.TEACHER,
        round=1,
        prompt=PromptOptions(),
        sampling=Sampling(seed=seed),
        engine=EngineOptions(),
    )
    return Node(f"sample {name} {seed}", spec, after=(PREPARE.ref, *after), along=along, shards_of=PREPARE.ref)


def grade(of: Node) -> Node:
    spec = GradeSpec(completions=of.ref, problems=PREPARE.ref, options=GradingOptions())
    return Node(f"grade {of.label}", spec, after=(PREPARE.ref,), along=(of.ref,), shards_of=PREPARE.ref)


def view(n: int | None, done: int | set[int] = 0, **more: Any) -> View:
    shards = set(range(done)) if isinstance(done, int) else done
    return View(n_shards=n, done=frozenset(shards), **more)


PREPARED = {PREPARE.ref: View(complete=True, n_shards=1, done=frozenset({0}))}
TEACHER, BASE = sample("teacher"), sample("base")
GRADE = grade(TEACHER)


def sent(
    nodes: list[Node], views: dict[str, View], looks: dict[tuple[str, int], Look] | None = None, waiting: int = 0
) -> dict[str, tuple[int, ...]]:
    sends = decide(nodes, {**PREPARED, **views}, looks or {}, {node.queue: waiting for node in nodes})
    return {send.node.label: send.shards for send in sends}


def test_nothing_starts_before_what_it_waits_for() -> None:
    views = {PREPARE.ref: view(1), TEACHER.ref: view(None)}
    assert sent([PREPARE, TEACHER], views) == {"prepare": (0,)}


def test_grading_follows_sampling_shard_by_shard() -> None:
    assert sent([TEACHER, GRADE], {TEACHER.ref: view(4, {1, 3}), GRADE.ref: view(4, {3})}) == {
        "sample teacher 0": (0, 2),
        "grade sample teacher 0": (1,),
    }


@pytest.mark.parametrize(
    ("look", "waiting", "again"),
    [
        (Look(), 0, True),
        (Look(leased=True), 0, False),
        (Look(leased=True, seconds_since_sent=9999), 0, False),
        (Look(seconds_since_sent=1), 0, False),
        (Look(seconds_since_sent=6), 0, True),
        (Look(seconds_since_sent=6), 3, False),
        (Look(seconds_since_sent=601), 3, True),
        (Look(attempts=1), 3, True),
        (Look(attempts=1, seconds_since_error=0.5), 0, False),
        (Look(attempts=1, seconds_since_error=1.5), 0, True),
        (Look(attempts=4, seconds_since_error=7.5), 0, False),
        (Look(attempts=4, seconds_since_error=8.5), 0, True),
        (Look(attempts=99, seconds_since_error=61), 0, True),
    ],
)
def test_when_a_shard_is_sent_again(look: Look, waiting: int, again: bool) -> None:
    found = sent([TEACHER], {TEACHER.ref: view(1)}, {(TEACHER.ref, 0): look}, waiting)
    assert found == ({"sample teacher 0": (0,)} if again else {})


def test_no_more_than_the_window_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OUTSTANDING", 4)
    looks = {(TEACHER.ref, shard): Look(leased=True) for shard in (0, 1, 2)}
    assert sent([TEACHER], {TEACHER.ref: view(100)}, looks) == {"sample teacher 0": (3,)}


def test_second_model_waits_until_the_first_has_nothing_left_to_begin() -> None:
    nodes = [TEACHER, BASE]
    views = {TEACHER.ref: view(3), BASE.ref: view(2)}
    assert list(sent(nodes, views)) == ["sample teacher 0"]
    begun = {(TEACHER.ref, shard): Look(leased=True) for shard in range(3)}
    for look in (Look(seconds_since_sent=1), Look(attempts=1, seconds_since_error=0.5)):
        assert sent(nodes, views, begun | {(TEACHER.ref, 1): look}) == {}
    assert sent(nodes, views, begun) == {"sample base 0": (0, 1)}
    views[TEACHER.ref] = view(3, 3)
    assert sent(nodes, views) == {"sample base 0": (0, 1)}


def test_second_model_waits_for_a_later_pass_of_the_first_whose_inputs_are_being_made() -> None:
    again = sample("teacher", along=(GRADE.ref,), seed=1)
    nodes = [TEACHER, GRADE, again, BASE]
    views = {TEACHER.ref: view(1), GRADE.ref: view(1), again.ref: view(1), BASE.ref: view(1)}
    assert sent(nodes, views, {(TEACHER.ref, 0): Look(leased=True)}) == {}
    views |= {TEACHER.ref: view(1, 1), GRADE.ref: view(1, 1)}
    assert sent(nodes, views) == {"sample teacher 1": (0,)}
    assert sent(nodes, views, {(again.ref, 0): Look(leased=True)}) == {"sample base 0": (0,)}


def test_second_pass_of_the_same_model_does_not_wait_for_the_first() -> None:
    again = sample("teacher", along=(GRADE.ref,), seed=1)
    views = {TEACHER.ref: view(3, 2), GRADE.ref: view(3, 1), again.ref: view(3), BASE.ref: view(3)}
    assert sent([TEACHER, GRADE, again, BASE], views) == {
        "sample teacher 0": (2,),
        "grade sample teacher 0": (1,),
        "sample teacher 1": (0,),
    }


def test_model_that_still_waits_for_training_does_not_block_another() -> None:
    student = sample("student", after=("train/" + "0" * 32,))
    views = {student.ref: view(3), BASE.ref: view(1), "train/" + "0" * 32: View()}
    assert sent([student, BASE], views) == {"sample base 0": (0,)}


def test_manifest_is_written_when_all_shards_are_there() -> None:
    assert finished([TEACHER], {TEACHER.ref: view(2, 2)}) == [Close(TEACHER, 2)]
    assert finished([TEACHER], {TEACHER.ref: view(0)}) == [Close(TEACHER, 0)]
    assert finished([TEACHER], {TEACHER.ref: view(2, 1)}) == []
    assert finished([TEACHER], {TEACHER.ref: view(2, 2, complete=True)}) == []


def test_failed_shard_breaks_the_run_and_is_not_sent_again() -> None:
    views = {**PREPARED, TEACHER.ref: view(3, failed=frozenset({2, 1}))}
    broken = first_broken([TEACHER], views)
    assert broken is not None
    assert broken.shard == 1
    assert sent([TEACHER], views) == {"sample teacher 0": (0,)}


def test_notes_add_up_by_kind() -> None:
    notes = [
        {"tokens": 2, "verdicts": {"correct": 1}, "max_prompt_tokens": 7},
        {"tokens": 3, "verdicts": {"correct": 1, "wrong": 2}, "max_prompt_tokens": 5},
    ]
    assert add_notes(notes) == {"tokens": 5, "verdicts": {"correct": 2, "wrong": 2}, "max_prompt_tokens": 7}


@pytest.mark.parametrize(
    ("intervals", "busy", "workers", "share"),
    [
        ([(0, 10)], 9, 1, 0.9),
        ([(0, 5), (4, 10)], 9, 1, 0.9),
        ([(0, 5), (95, 100)], 9, 1, 0.9),
        ([(0, 10)], 18, 2, 0.9),
        ([], 0, 0, None),
    ],
)
def test_busy_share_leaves_out_time_between_sampling_stages(
    intervals: list[tuple[float, float]], busy: float, workers: int, share: float | None
) -> None:
    assert busy_share(intervals, busy, workers) == share


@pytest.mark.parametrize(
    ("spans", "workers"),
    [
        ([], 0),
        ([(0, 10)], 1),
        ([(0, 10), (1, 9)], 2),
        ([(0, 4), (5, 10)], 1),
        ([(0, 4), (4, 10)], 1),
        ([(0, 10), (0, 4), (5, 10)], 2),
        ([(0, 3), (2, 6), (5, 9), (5, 7)], 3),
    ],
    ids=["none", "one", "two", "one was replaced", "at once", "one of two was replaced", "more came"],
)
def test_workers_are_counted_by_those_that_were_there_at_once(spans: list[tuple[float, float]], workers: int) -> None:
    assert most_at_once(Span(*span) for span in spans) == workers

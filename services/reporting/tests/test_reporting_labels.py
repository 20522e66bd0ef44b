"""Majority labels: which completions count as correct, which labels are made, and that nobody gets them unasked."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from overproof.reporting.domain.labels import MajorityLabels, Source
from overproof.shared.recipe import GradingOptions, MajorityRule, PromptOptions, SelectionPolicy
from overproof.shared.specs import SelectSpec, VoteSpec
from overproof.shared.tables import GRADES, PROBLEMS, SELECTED, VOTES, rows_of
from overproof.shared.topology import Role

RULE = MajorityRule()


def vote(
    problem_id: str, samples: list[int], *, runner_up: int = 0, agrees: bool = False, readable: bool = True
) -> dict:
    n = len(samples)
    return {
        "problem_id": problem_id, "source": f"s:{problem_id}", "gold": "1" if readable else "", "readable": readable,
        "completions": 4, "answered": n, "correct": n if agrees else 0, "answer": "1" if agrees else "2", "agrees": agrees,
        "votes": n, "samples": samples, "runner_up": None, "runner_up_votes": runner_up,
    }  # fmt: skip


def rows(problem_id: str, verdicts: list[str]) -> pa.Table:
    """Samples 0, 1, ... of a problem."""
    columns = {"problem_id": [problem_id] * len(verdicts), "sample": list(range(len(verdicts))), "verdict": verdicts}
    return pa.table(columns)


@pytest.mark.parametrize(
    ("cast", "verdicts", "kept", "source"),
    [
        (vote("p", [0, 1, 2]), ["wrong", "wrong", "wrong", "correct"], [0, 1, 2], Source.CHANGED),
        (vote("p", [0, 1], runner_up=2), ["wrong", "wrong", "correct", "correct"], [2, 3], Source.GOLD),
        (vote("p", [1, 2, 3], agrees=True), ["wrong", "correct", "correct", "correct"], [1, 2, 3], Source.GOLD),
        (vote("p", [0, 2, 3], readable=False), ["ungradable"] * 4, [0, 2, 3], Source.ADDED),
        (vote("p", [0, 1], runner_up=1, readable=False), ["ungradable"] * 4, [], Source.LEFT),
    ],
)
def test_what_counts_as_correct(cast: dict[str, Any], verdicts: list[str], kept: list[int], source: Source) -> None:
    labels = MajorityLabels([cast], RULE)
    assert labels.correct(rows("p", verdicts))["sample"].to_pylist() == kept
    assert labels.counts == {source: 1}
    made = [(one["label"], one["why"]) for one in labels.made]
    assert made == ([("2", str(source))] if source in (Source.ADDED, Source.CHANGED) else [])


@pytest.fixture
def drawn(world) -> tuple[str, tuple[str, str], str, list[dict[str, Any]]]:
    """(problems, completions and grades, votes, rows of the votes) of 40 problems in two parts, four samples each.

    Of the first two the completions contradict the gold answer; the next two have none, and one of them no majority.
    """
    problems = world.problems(40, per_part=25, name="train", groups="t")
    refs = world.evaluate(problems, name="teacher", accuracy=0.8, tokens=60, samples=4, role=Role.TEACHER)
    asked = list(rows_of(world.artifacts.read(problems, PROBLEMS)))
    correct: dict[str, list[int]] = {}
    for row in rows_of(world.artifacts.read(refs[1], GRADES)):
        if row["verdict"] == "correct":
            correct.setdefault(row["problem_id"], []).append(row["sample"])
    votes = [vote(row["problem_id"], correct.get(row["problem_id"], []), agrees=True) for row in asked]
    for i, (samples, readable) in enumerate(
        (([0, 1, 2, 3], True), ([1, 2, 3], True), ([0, 1, 2], False), ([0], False))
    ):
        votes[i] = vote(asked[i]["problem_id"], samples, readable=readable)
    spec = VoteSpec(problems=problems, grades=(refs[1],), options=GradingOptions())
    return problems, refs, world._store(spec, VOTES, [votes[:25], votes[25:]]), votes


def select(world, drawn, **policy: Any) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """(rows, notes, reference) of a selection with or without majority labels."""
    problems, (completions, grades), votes, _ = drawn
    made = SelectionPolicy(policy="all", val_share=0.2, **policy)
    majority = {"votes": votes, "rule": RULE} if made.labels == "majority" else {}
    spec = SelectSpec(
        problems=problems, completions=(completions,), grades=(grades,), tests=(), policy=made, prompt=PromptOptions(), **majority
    )  # fmt: skip
    ref = world.make(spec)
    return list(rows_of(world.artifacts.read(ref, SELECTED))), world.artifacts.manifest(ref).notes[0], ref


def test_selection_takes_what_agrees_with_the_majority_and_counts_the_labels(world, drawn) -> None:
    found, notes, ref = select(world, drawn, labels="majority")
    votes = drawn[3]
    by_problem: dict[str, list[int]] = {}
    for row in found:
        by_problem.setdefault(row["problem_id"], []).append(row["sample"])
    assert sorted(by_problem[votes[0]["problem_id"]]) == [0, 1, 2, 3]
    assert sorted(by_problem[votes[1]["problem_id"]]) == [1, 2, 3]
    assert sorted(by_problem[votes[2]["problem_id"]]) == [0, 1, 2]
    assert votes[3]["problem_id"] not in by_problem
    assert notes["labels"] == {"gold": 36, "added": 1, "changed": 2, "left": 1}
    assert {row["policy"] for row in found} == {"all-majority"}
    lines = world.files.read(f"artifacts/{ref}/labels.jsonl").splitlines()
    assert [(json.loads(line)["why"], json.loads(line)["label"]) for line in lines] == [
        ("changed", "2"), ("changed", "2"), ("added", "2"),
    ]  # fmt: skip


def test_without_the_word_labels_are_the_gold_answers(world, drawn) -> None:
    found, notes, ref = select(world, drawn)
    grades = rows_of(world.artifacts.read(drawn[1][1], GRADES))
    correct = {(row["problem_id"], row["sample"]) for row in grades if row["verdict"] == "correct"}
    assert {(row["problem_id"], row["sample"]) for row in found} == correct
    assert "labels" not in notes
    assert "labels.jsonl" not in {part.name for part in world.artifacts.parts(ref)}


def test_the_global_median_is_that_of_what_counts_as_correct(world, drawn) -> None:
    problems, (completions, grades), votes, _ = drawn
    kept = []
    for more in ({}, {"votes": votes, "rule": RULE}):
        policy = SelectionPolicy(policy="below_median_global", labels="majority" if more else "gold")
        spec = SelectSpec(
            problems=problems, completions=(completions,), grades=(grades,), tests=(), policy=policy, prompt=PromptOptions(), **more
        )  # fmt: skip
        notes = world.artifacts.manifest(world.make(spec)).notes[0]
        kept.append((notes["rows"], notes["completions_correct"]))
    (by_gold, gold), (by_majority, majority) = kept
    assert gold != majority
    assert abs(by_majority / majority - 0.5) < 0.06
    assert abs(by_gold / gold - 0.5) < 0.06

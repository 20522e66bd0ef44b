"""The tasks on a storage folder: rows in, rows out, in order, with the receipts' figures."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from overproof.grading.app import build
from overproof.grading.audit import audit
from overproof.grading.grader import GRADER_VERSION, Grader
from overproof.grading.settings import GradingSettings
from overproof.grading.tasks import VERDICTS, answers, check, grade
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import Conflict, DatasetError, Stopped
from overproof.shared.files import Files
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import GradingOptions
from overproof.shared.records import Receipt
from overproof.shared.specs import AnswersSpec, Audited, AuditSpec, CheckGoldSpec, GradeSpec, Spec
from overproof.shared.tables import ANSWERS, AUDIT, COMPLETIONS, GOLD_CHECKS, GRADES, PROBLEMS, table_of
from overproof.shared.topology import Stage, TaskName
from overproof.shared.work import Work

PROBLEMS_REF, COMPLETIONS_REF = f"prepare/{'a' * 32}", f"sample/{'b' * 32}"
GRADED = GradeSpec(completions=COMPLETIONS_REF, problems=PROBLEMS_REF, options=GradingOptions())
GOLDS = [("p0", "\\frac{1}{2}", None), ("p1", "7", ["8"]), ("p2", "", None)]
TEXTS = [
    ("p1", 0, "so \\boxed{8}", "stop", "correct"),
    ("p0", 0, "so \\boxed{0.5}", "stop", "correct"),
    ("p0", 1, "so \\boxed{2}", "stop", "wrong"),
    ("p1", 1, "no idea", "stop", "no_answer"),
    ("p1", 2, "let us see", "length", "truncated"),
    ("p2", 0, "so \\boxed{1}", "stop", "ungradable"),
]


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    made = Artifacts(Files(str(tmp_path)))
    _publish(made, PROBLEMS_REF, PROBLEMS, [_problem(*gold) for gold in GOLDS])
    _publish(made, COMPLETIONS_REF, COMPLETIONS, [_completion(*text[:4]) for text in TEXTS])
    return made


def _publish(artifacts: Artifacts, ref: str, schema: Any, rows: list[dict[str, Any]]) -> None:
    part = artifacts.write_part(ref, 0, schema, [table_of(rows, schema)])
    artifacts.publish(ref, Receipt(shard=0, parts=(part,), owner="test", started_at=0, finished_at=1))


def _problem(problem_id: str, answer: str, alternatives: list[str] | None) -> dict[str, Any]:
    names = {"problem_id": problem_id, "group_id": problem_id, "problem": "?", "source": f"test:{problem_id}"}
    return names | {"answer": answer, "alternatives": alternatives, "solution": None, "level": 1, "type": "Algebra"}


def _completion(problem_id: str, sample: int, text: str, finish_reason: str) -> dict[str, Any]:
    row = {"problem_id": problem_id, "sample": sample, "round": 1, "role": "teacher", "model": "m", "text": text}
    figures = {"n_tokens": 3, "prompt_tokens": 2, "mean_logprob": None, "seed": 0}
    return row | figures | {"finish_reason": finish_reason, "spec": "s" * 32}


def _work(artifacts: Artifacts, spec: Spec) -> Work[Any]:
    request = ShardRequest(stage=spec.stage, key=spec.key, shard=0, run_id="test")
    return Work(spec, request, artifacts, lambda values: None)


def _written(artifacts: Artifacts, work: Work[Any], schema: Any) -> list[dict[str, Any]]:
    batches = artifacts.read_part(work.ref, work.parts[0], schema)
    return [row for batch in batches for row in batch.to_pylist()]


def test_grades_come_in_the_order_of_the_completions(artifacts: Artifacts) -> None:
    spec = GradeSpec(completions=COMPLETIONS_REF, problems=PROBLEMS_REF, options=GradingOptions())
    work = _work(artifacts, spec)
    before = VERDICTS.labels("teacher", "correct")._value.get()
    with Grader() as grader:
        grade(work, grader)
    rows = _written(artifacts, work, GRADES)
    assert [(row["problem_id"], row["sample"], row["verdict"]) for row in rows] == [(t[0], t[1], t[4]) for t in TEXTS]
    assert {row["spec"] for row in rows} == {spec.likeness("s" * 32)}
    assert {row["grader"] for row in rows} == {GRADER_VERSION}
    assert work.notes["verdicts"] == {"correct": 2, "wrong": 1, "no_answer": 1, "truncated": 1, "ungradable": 1}
    assert VERDICTS.labels("teacher", "correct")._value.get() == before + 2


def test_gold_answers_are_checked_with_their_alternatives(artifacts: Artifacts) -> None:
    work = _work(artifacts, CheckGoldSpec(problems=PROBLEMS_REF))
    with Grader() as grader:
        check(work, grader)
    rows = _written(artifacts, work, GOLD_CHECKS)
    assert [row["readable"] for row in rows] == [True, True, False]
    assert rows[2]["reason"] == "'': it is empty"
    assert rows[0]["reason"] == ""
    assert work.notes == {"unreadable": 1, "examples": {"test:p2": "'': it is empty"}}


def test_completion_of_an_unknown_problem_is_named(artifacts: Artifacts) -> None:
    other = f"prepare/{'c' * 32}"
    _publish(artifacts, other, PROBLEMS, [_problem("p9", "1", None)])
    work = _work(artifacts, GradeSpec(completions=COMPLETIONS_REF, problems=other, options=GradingOptions()))
    with Grader() as grader, pytest.raises(DatasetError, match="speaks of problem p1"):
        grade(work, grader)


def test_answers_that_were_sent_are_graded(artifacts: Artifacts, tmp_path: Path) -> None:
    sent = [
        {"index": 0, "text": "\\frac12", "is_solution": False, "gold": ["0.5"], "finish_reason": "stop"},
        {"index": 1, "text": "The answer is 3.", "is_solution": True, "gold": ["4"], "finish_reason": "stop"},
    ]
    file = tmp_path / "sent.parquet"
    pq.write_table(table_of(sent, ANSWERS), file, write_page_checksum=True)
    spec = AnswersSpec(sha256=hashlib.sha256(file.read_bytes()).hexdigest(), options=GradingOptions())
    artifacts.write_file(spec.ref, file, "answers.parquet")
    work = _work(artifacts, spec)
    with Grader() as grader:
        answers(work, grader)
    rows = _written(artifacts, work, GRADES)
    assert [(row["problem_id"], row["verdict"]) for row in rows] == [("0", "correct"), ("1", "wrong")]


def test_another_version_of_the_grader_is_refused(artifacts: Artifacts) -> None:
    spec = CheckGoldSpec(problems=PROBLEMS_REF, grader="0")
    with Grader() as grader, pytest.raises(Conflict, match="Grader 0 is asked for"):
        check(_work(artifacts, spec), grader)


def test_a_shard_that_is_told_to_stop_stops(artifacts: Artifacts) -> None:
    work = _work(artifacts, GradeSpec(completions=COMPLETIONS_REF, problems=PROBLEMS_REF, options=GradingOptions()))
    work.stop.set()
    with Grader() as grader, pytest.raises(Stopped):
        grade(work, grader)


def test_the_worker_knows_grading_tasks(tmp_path: Path) -> None:
    worker = build(GradingSettings(storage=str(tmp_path), redis_url="redis://127.0.0.1:1/0"))
    assert {TaskName.GRADE, TaskName.CHECK_GOLD, TaskName.ANSWERS} <= {name for name in worker.app.tasks}
    assert {Stage.GRADE, Stage.CHECK_GOLD, Stage.ANSWERS} == {
        spec.stage for spec in (GradeSpec, CheckGoldSpec, AnswersSpec)
    }


def test_an_audit_lists_the_verdicts_that_math_verify_would_have_given_otherwise(artifacts: Artifacts) -> None:
    pairs = [
        ("p0", "1/2", "\\frac{1}{2}", "correct"),  # the same opinion
        ("p1", "\\pi", "180^\\circ", "correct"),  # Math-Verify knows no degrees
        ("p2", "7", "7", "wrong"),  # a verdict that is not so
        ("p3", "odd", "even", "wrong"),
        ("p4", None, "7", "no_answer"),
    ]
    _publish(artifacts, _declared(artifacts), GRADES, [_graded_row(*pair) for pair in pairs])
    artifacts.close(GRADED.ref, 1, "grades")
    spec = AuditSpec(audited=(Audited(label="test · base", grades=GRADED.ref),), share=1, seconds_per_answer=5)
    work = _work(artifacts, spec)
    with Grader(5.0) as grader:
        audit(work, grader)
    rows = _written(artifacts, work, AUDIT)
    assert [(row["problem_id"], row["verdict"], row["other_verdict"]) for row in rows] == [
        ("p1", "correct", "wrong"),
        ("p2", "wrong", "correct"),
    ]
    assert {row["completions"] for row in rows} == {"test · base"}
    assert (work.notes["audited"], work.notes["disagree"]) == (4, 2)


def test_an_audit_draws_its_share_and_the_same_rows_each_time(artifacts: Artifacts) -> None:
    _publish(artifacts, _declared(artifacts), GRADES, [_graded_row(f"p{n}", "7", "7", "wrong") for n in range(400)])
    artifacts.close(GRADED.ref, 1, "grades")
    drawn = []
    for share in (0.25, 0.25, 0.5):
        spec = AuditSpec(audited=(Audited(label="x", grades=GRADED.ref),), share=share, seconds_per_answer=5)
        work = _work(artifacts, spec)
        with Grader(5.0) as grader:
            audit(work, grader)
        drawn.append({row["problem_id"] for row in _written(artifacts, work, AUDIT)})
    assert drawn[0] == drawn[1] < drawn[2]
    assert 60 < len(drawn[0]) < 140


def _declared(artifacts: Artifacts) -> str:
    artifacts.declare(GRADED)
    return GRADED.ref


def _graded_row(problem_id: str, extracted: str | None, gold: str, verdict: str) -> dict[str, Any]:
    row = {"problem_id": problem_id, "sample": 0, "verdict": verdict, "extracted": extracted, "gold": gold}
    return row | {"method": "boxed/x", "reason": "", "seconds": 0.0, "grader": GRADER_VERSION, "spec": "s"}

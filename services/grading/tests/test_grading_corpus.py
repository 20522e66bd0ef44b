"""Every gold answer of the data sets in the folder that OVERPROOF_DATA_DIR names: readable, equal to itself, found in its solution."""

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from overproof.grading.grader import Grader
from overproof.shared.topology import Verdict

FOLDER = os.environ.get("OVERPROOF_DATA_DIR", "")

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="OVERPROOF_DATA_DIR names no folder with math_train.parquet and the like"
)

LARGEST_SHARE_OF_OTHER_BOXES = 0.002
"""MATH takes the last box as gold also where the solution boxes two halves of one answer; we read those as a list."""


def _rows(name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(Path(FOLDER) / f"{name}.parquet", columns=["id", "answer", "solution"]).to_pylist())


@pytest.mark.parametrize(
    "name", ["math_train", "math_test", "math500", "gsm8k_train", "gsm8k_test", "aime24", "aime25", "amc23", "svamp"]
)
def test_every_gold_is_readable_and_correct_against_itself(name: str) -> None:
    with Grader() as grader:
        for row in _rows(name):
            assert grader.check_gold(row["answer"]).readable, row
            for written in (row["answer"], f" {row['answer']} ", f"\\boxed{{{row['answer']}}}"):
                assert grader.grade(written, [row["answer"]], is_solution=False).verdict is Verdict.CORRECT, row


@pytest.mark.parametrize("name", ["math_train", "math_test", "gsm8k_train", "gsm8k_test"])
def test_the_gold_is_found_in_its_own_solution(name: str) -> None:
    rows = _rows(name)
    with Grader() as grader:
        missed = [
            row["id"] for row in rows if grader.grade(row["solution"], [row["answer"]]).verdict is not Verdict.CORRECT
        ]
    print(f"{name}: {len(rows) - len(missed)} of {len(rows)}; missed {missed}")
    assert len(missed) <= LARGEST_SHARE_OF_OTHER_BOXES * len(rows)

"""The line protocol: one line out per line in, in order, as they come, whatever the lines are."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from overproof.grading.grader import Grader
from overproof.grading.lines import grade_line

COMMAND = [sys.executable, "-m", "overproof.grading", "lines"]


def graded(given: bytes, *flags: str) -> list[dict[str, object]]:
    done = subprocess.run([*COMMAND, *flags], input=given, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "empty"),
        (b"not json", "not JSON"),
        (b"[1]", "no JSON object"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"gold": "5"}', "neither"),
        (b'{"pred": "5", "output": "5", "gold": "5"}', "both"),
        (b'{"pred": ["5"], "gold": "5"}', '"pred" is a list'),
        (b'{"pred": "5"}', 'no "gold"'),
        (b'{"pred": "5", "gold": {}}', "object"),
        (b'{"pred": "5", "gold": "5", "gold": "6"}', "twice"),
        (b'{"pred": "5", "gold": null}', "null"),
    ],
)
def test_a_line_that_cannot_be_used_says_why(line: bytes, says: str) -> None:
    with Grader() as grader:
        found = grade_line(line, grader)
    assert (found["verdict"], found["correct"], found["method"]) == ("ungradable", False, "none")
    assert says in str(found["error"])


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (b'{"pred": 0.10, "gold": "1/10"}', "correct"),
        (b'{"pred": null, "gold": "5"}', "no_answer"),
        (b'{"pred": "5", "output": null, "gold": "5"}', "correct"),
        (b'{"output": "the answer is 5", "gold": [4, 5]}', "correct"),
        (b'{"output": "so \\\\boxed{5", "gold": "5", "finish_reason": "length"}', "truncated"),
        (b'{"pred": "5", "gold": []}', "ungradable"),
        (b'{"pred": "5\xff", "gold": "5"}', "wrong"),
        (b'{"pred": "5\x00", "gold": "6"}', "wrong"),
        (b'{"pred": "\\ud800", "gold": "6"}', "wrong"),
        (b'\xef\xbb\xbf{"pred": "5", "gold": "5"}\r', "correct"),
        (b'{"pred": "%s", "gold": "5"}' % (b"5" * 10_000_000), "wrong"),
    ],
)
def test_verdicts_on_lines(line: bytes, verdict: str) -> None:
    with Grader() as grader:
        assert grade_line(line, grader)["verdict"] == verdict


def test_order_and_count_hold_with_several_workers() -> None:
    rows = [{"pred": str(n), "gold": str(n - n % 3), "id": str(n)} for n in range(700)]
    lines = [json.dumps(row).encode() for row in rows]
    lines[100], lines[200] = b"", b"\x00\xff"
    found = graded(b"\n".join(lines), "--workers", "3")
    assert len(found) == 700
    assert [row.get("id") for row in found if "id" in row] == [str(n) for n in range(700) if n not in {100, 200}]
    assert [row["correct"] for row in found] == [n % 3 == 0 and n not in {100, 200} for n in range(700)]


def test_a_verdict_comes_before_the_next_line_is_sent() -> None:
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    assert process.stdout is not None
    for gold in ("5", "6", "5"):
        process.stdin.write(json.dumps({"pred": "5", "gold": gold}).encode() + b"\n")
        assert json.loads(process.stdout.readline())["correct"] is (gold == "5")
    process.stdin.close()
    assert process.wait(10) == 0


def test_a_process_that_is_killed_costs_one_line() -> None:
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    assert process.stdout is not None
    line = json.dumps({"pred": "5", "gold": "5"}).encode() + b"\n"
    process.stdin.write(line)
    assert json.loads(process.stdout.readline())["correct"]
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    time.sleep(0.1)
    process.stdin.write(line * 20)
    process.stdin.close()
    verdicts = [json.loads(answer)["verdict"] for answer in process.stdout]
    assert verdicts == ["timeout"] + ["correct"] * 19
    assert process.wait(10) == 0


def test_a_wrong_number_of_workers_is_refused() -> None:
    done = subprocess.run([*COMMAND, "--workers", "0"], input=b"", capture_output=True, check=False)
    assert done.returncode == 2
    assert b"number from 1 to" in done.stderr


def test_an_audit_says_where_math_verify_disagrees() -> None:
    row = b'{"pred": "1/2", "gold": "0.5"}\n{"pred": "180^\\\\circ", "gold": "\\\\pi"}\n{"pred": "odd", "gold": "even"}\nbad\n'
    found = graded(row, "--audit")
    assert (found[0]["math_verify"], found[0]["disagrees"]) == (True, False)
    assert (found[1]["correct"], found[1]["math_verify"], found[1]["disagrees"]) == (True, False, True)
    assert (found[2]["correct"], found[2]["disagrees"]) == (False, False)
    assert "math_verify" not in found[3]


def test_options() -> None:
    row = b'{"pred": "2, 1", "gold": "1, 2"}\n{"pred": "0.333", "gold": "1/3"}\n{"pred": "5 cm", "gold": "5"}\n'
    assert [each["correct"] for each in graded(row)] == [True, False, True]
    flags = ("--order-matters", "--decimal-tolerance", "0.01", "--strict")
    assert [each["correct"] for each in graded(row, *flags)] == [False, True, False]

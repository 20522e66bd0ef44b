"""`overproof grade < in.jsonl > out.jsonl`, without a gateway."""

import json
import subprocess
import sys

import pytest

from overproof.cli.commands import lines
from overproof.cli.main import parser

pytest.importorskip("overproof.grading.lines", reason="the grader is not installed")


def overproof(*argv, given):
    done = subprocess.run(
        [sys.executable, "-m", "overproof.cli", "grade", *argv], input=given, capture_output=True, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_each_line_gets_one_verdict_in_order():
    rows = [{"pred": "1/2", "gold": "0.5"}, {"output": "so \\boxed{3}", "gold": ["4", "5"]}, {"pred": "x", "gold": "x"}]
    status, found, _ = overproof("--workers", "2", given="\n".join(map(json.dumps, rows)).encode())
    assert status == 0
    assert [row["correct"] for row in found] == [True, False, True]
    assert [row["verdict"] for row in found] == ["correct", "wrong", "correct"]


def test_nothing_in_nothing_out():
    assert overproof(given=b"") == (0, [], "")


@pytest.mark.parametrize("flags", [("--workers", "0"), ("--name", "n"), ("--dataset", "d")])
def test_flags_of_the_other_form_are_refused(flags):
    status, found, words = overproof(*flags, given=b"{}\n")
    assert (status, found) == (2, [])
    assert flags[0] in words


def test_options_reach_the_grader():
    args = parser().parse_args(
        ["grade", "--strict", "--order-matters", "--decimal-tolerance", "0.01", "--workers", "3"]
    )
    assert lines.command(args)[3:] == [
        "lines",
        "--workers",
        "3",
        "--decimal-tolerance",
        "0.01",
        "--strict",
        "--order-matters",
    ]
    _, found, _ = overproof("--strict", given=b'{"pred": "x=5", "gold": "5"}\n')
    assert [row["correct"] for row in found] == [False]


def test_a_missing_grader_is_named(cli, monkeypatch):
    monkeypatch.setattr(lines, "MODULE", "overproof.nowhere")
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 - pytest closes it with the process
    assert cli("grade") == 1
    assert "not installed" in cli.err

"""The whole checker: verdicts, the slow path, its limits and its children."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from overproof.grading.adapters.symbolic import Symbolic
from overproof.grading.app import require_slow_path
from overproof.grading.domain.extraction import MAX_SOLUTION_CHARS
from overproof.grading.grader import Grader
from overproof.shared.topology import Verdict

ENDLESS = "\\int_0^1 \\prod_{k=1}^{100000000} k dx"
"""sympy multiplies this out for minutes."""
SYMBOLIC = "\\int_0^1 x dx"
"""Only the slow path can read it: 1/2."""


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(seconds_per_answer=2.0) as made:
        yield made


@pytest.mark.parametrize(
    ("text", "gold", "finish_reason", "verdict", "method"),
    [
        ("so \\boxed{4}", ["4"], "stop", Verdict.CORRECT, "boxed/exact"),
        ("so \\boxed{5}", ["4"], "stop", Verdict.WRONG, "boxed/rational"),
        ("so \\boxed{5}", ["4", "5"], "stop", Verdict.CORRECT, "boxed/exact"),
        ("I do not know", ["4"], "stop", Verdict.NO_ANSWER, "none"),
        ("the answer is 4 but let me", ["4"], "length", Verdict.TRUNCATED, "none"),
        ("so \\boxed{4}, and further", ["4"], "length", Verdict.CORRECT, "boxed/exact"),
        ("so \\boxed{5}, and further", ["4"], "length", Verdict.WRONG, "boxed/rational"),
        ("so \\boxed{4", ["4"], "length", Verdict.TRUNCATED, "none"),
        ("\\boxed{4}", [""], "stop", Verdict.UNGRADABLE, "boxed/gold"),
        ("\\boxed{4}", [], "stop", Verdict.UNGRADABLE, "boxed/gold"),
        ("no idea", [""], "stop", Verdict.UNGRADABLE, "gold"),
        ("\\boxed{4}", ["", "4"], "stop", Verdict.CORRECT, "boxed/exact"),
        ("\\boxed{4}", ["4"], "error", Verdict.NO_ANSWER, "none"),
        ("", ["4"], "stop", Verdict.NO_ANSWER, "none"),
    ],
)
def test_verdicts(
    grader: Grader, text: str, gold: list[str], finish_reason: str, verdict: Verdict, method: str
) -> None:
    grade = grader.grade(text, gold, finish_reason=finish_reason)
    assert (grade.verdict, grade.method) == (verdict, method)
    assert grade.seconds >= 0


@pytest.mark.parametrize(
    ("text", "finish_reason", "extracted"),
    [
        ("so \\boxed{4}", "stop", "4"),
        ("it is 4", "length", None),
        ("so \\boxed{4}, and", "length", "4"),
        ("4", "error", None),
    ],
)
def test_the_answer_is_kept_where_the_gold_cannot_be_read(
    grader: Grader, text: str, finish_reason: str, extracted: str | None
) -> None:
    grade = grader.grade(text, [""], finish_reason=finish_reason)
    assert (grade.verdict, grade.extracted) == (Verdict.UNGRADABLE, extracted)


def test_a_bare_answer_is_taken_whole(grader: Grader) -> None:
    assert grader.grade("the sum of 2 and 2, 4", ["4"], is_solution=False).verdict is Verdict.WRONG
    assert grader.grade("4", ["4"], is_solution=False).method == "given/exact"


def test_a_box_is_looked_for_in_a_bare_answer_of_at_most_a_solutions_length(grader: Grader) -> None:
    words = "so " * (MAX_SOLUTION_CHARS // 3)
    assert grader.grade(words[:3000] + "\\boxed{4}", ["4"], is_solution=False).verdict is Verdict.CORRECT
    assert grader.grade(words + "\\boxed{4}", ["4"], is_solution=False).verdict is Verdict.WRONG


def test_no_child_is_started_for_what_the_fast_path_decides() -> None:
    with Grader() as fresh:
        fresh.grade("\\boxed{\\frac{1}{2}}", ["0.5"])
        assert fresh.check_gold("\\frac{1}{2}").readable
        assert fresh._symbolic.pids() == []


def test_the_slow_path_reads_what_the_grammar_does_not(grader: Grader) -> None:
    assert grader.grade(SYMBOLIC, ["1/2"], is_solution=False).verdict is Verdict.CORRECT
    wrong = grader.grade(SYMBOLIC, ["1/3"], is_solution=False)
    assert (wrong.verdict, wrong.method) == (Verdict.WRONG, "given/symbolic")
    assert grader.grade("1/2", [SYMBOLIC], is_solution=False).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("gold", "readable"), [("\\int_0^1 x dx", True), ("$t(0,4]$", False), ("\\frac{1}{2", False), ("\\text{yes}", True)]
)
def test_gold_answers_are_checked_by_the_slow_path_too(grader: Grader, gold: str, readable: bool) -> None:
    found = grader.check_gold(gold)
    assert found.readable is readable
    assert bool(found.reason) is not readable


def test_a_comparison_is_killed_at_its_budget_and_the_next_one_works() -> None:
    with Grader(seconds_per_answer=1.0) as quick:
        quick.grade(SYMBOLIC, ["1/2"], is_solution=False)
        (pid,) = quick._symbolic.pids()
        started = time.perf_counter()
        grade = quick.grade(ENDLESS, ["6"], is_solution=False)
        assert grade.verdict is Verdict.TIMEOUT
        assert time.perf_counter() - started < 1.5
        assert not _is_alive(pid)
        assert quick.grade("\\int_0^1 x^2 dx", ["1/3"], is_solution=False).verdict is Verdict.CORRECT


def test_starting_a_child_is_not_taken_off_the_budget() -> None:
    with Grader(seconds_per_answer=0.4) as quick:  # less than starting a child takes
        assert quick.grade(SYMBOLIC, ["1/2"], is_solution=False).verdict is Verdict.CORRECT


def test_a_child_that_was_killed_is_replaced() -> None:
    symbolic = Symbolic(2.0)
    assert symbolic.compare(SYMBOLIC, "1/2").equal
    (pid,) = symbolic.pids()
    os.kill(pid, signal.SIGKILL)
    while _is_alive(pid):
        time.sleep(0.01)
    assert symbolic.compare("\\int_0^1 x^2 dx", "1/3").equal
    assert symbolic.pids() != [pid]
    symbolic.close()


def test_a_child_is_recycled_after_its_pairs() -> None:
    symbolic = Symbolic(2.0, pairs_per_child=2)
    assert symbolic.compare(SYMBOLIC, "1/2").equal
    (first,) = symbolic.pids()
    assert symbolic.compare(SYMBOLIC, "0.5").equal
    assert symbolic.pids() == []
    assert not _is_alive(first)
    assert symbolic.compare(SYMBOLIC, "1/2").equal
    symbolic.close()


def test_children_die_with_their_parent() -> None:
    script = (
        "import os, signal; from overproof.grading.adapters.symbolic import Symbolic; s = Symbolic(2.0); "
        f"s.compare({SYMBOLIC!r}, '1/2'); print(s.pids()[0], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(pid)


def test_the_child_sees_only_where_packages_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERPROOF_API_KEYS", "secret")
    symbolic = Symbolic(20.0)  # enough for a child to start on a busy machine
    symbolic.compare(SYMBOLIC, "1/2")
    (pid,) = symbolic.pids()
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    symbolic.close()
    names = {line.partition(b"=")[0] for line in environment.split(b"\0") if line}
    assert names == {b"PYTHONHASHSEED", b"PYTHONPATH"}
    assert b"secret" not in environment


def test_the_child_has_the_packages_of_its_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sympy.py").write_text("raise ImportError('another sympy')")
    monkeypatch.syspath_prepend(tmp_path)
    symbolic = Symbolic(20.0)
    opinion = symbolic.compare(SYMBOLIC, "1/2")
    symbolic.close()
    assert "no child process could be started" in opinion.reason
    with pytest.raises(SystemExit, match="sympy and Math-Verify does not work: no child process could be started"):
        require_slow_path()


def test_the_service_starts_where_the_slow_path_answers() -> None:
    require_slow_path()


def test_memory_of_a_child_is_limited() -> None:
    symbolic = Symbolic(20.0)  # enough for a child to start on a busy machine
    symbolic.compare(SYMBOLIC, "1/2")
    (pid,) = symbolic.pids()
    limits = Path(f"/proc/{pid}/limits").read_text()
    symbolic.close()
    line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert line.split()[3] == str(1 << 30)


def test_threads_share_a_grader_and_agree(grader: Grader) -> None:
    pairs = [(f"\\int_0^{n} x dx", f"{n * n}/2") for n in range(1, 7)] + [("\\sqrt{8}", "2\\sqrt{2}")] * 6
    alone = [grader.grade(answer, [gold], is_solution=False).verdict for answer, gold in pairs]
    with Grader() as other, ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda pair: other.grade(pair[0], [pair[1]], is_solution=False).verdict, pairs))
    assert alone == together == [Verdict.CORRECT] * len(pairs)


def test_a_thread_that_ends_takes_no_verdict_with_it(grader: Grader) -> None:
    with Grader() as other:
        thread = threading.Thread(target=lambda: other.grade(SYMBOLIC, ["1/2"], is_solution=False))
        thread.start()
        thread.join()
        time.sleep(0.1)
        assert other.grade("\\int_0^1 x^2 dx", ["1/3"], is_solution=False).verdict is Verdict.CORRECT


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

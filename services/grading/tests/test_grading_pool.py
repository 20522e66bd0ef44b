"""A pool that loses a child loses the one pair that the child was working on, however the child ends."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from overproof.grading.adapters.symbolic import CHILD, Symbolic
from overproof.grading.grader import Grader
from overproof.shared.topology import Verdict

ENDLESS = "\\int_0^\\infty \\frac{\\sin(\\tan(x))}{x^{5}+\\ln(x)} dx"
"""sympy works on it for minutes."""
PAIRS = [(f"\\int_0^{{{n}}} x dx", f"{n * n}/2") for n in range(1, 13)]
"""Only the slow path can judge them, all are right."""
PATIENCE_SECONDS = 60.0


@pytest.fixture
def pool() -> Iterator[Symbolic]:
    made = Symbolic(PATIENCE_SECONDS)
    yield made
    made.close()


def test_a_child_that_is_killed_over_a_pair_costs_that_pair_of_the_batch() -> None:
    batch = [*PAIRS[:6], (ENDLESS, "3"), *PAIRS[6:]]
    with Grader(PATIENCE_SECONDS) as grader:
        started = threading.Event()
        killer = threading.Thread(target=_kill_the_busy_child, args=(started,))
        killer.start()
        with ThreadPoolExecutor(2) as threads:
            grades = list(threads.map(lambda pair: _grade(grader, pair, started), batch))
        killer.join()
    verdicts = [grade.verdict for grade in grades]
    assert verdicts.count(Verdict.CORRECT) == len(PAIRS)
    assert verdicts[6] is Verdict.TIMEOUT
    assert "died" in grades[6].reason


def _grade(grader: Grader, pair: tuple[str, str], started: threading.Event) -> Any:
    if pair[0] == ENDLESS:
        started.set()
    return grader.grade(pair[0], [pair[1]], is_solution=False)


def _kill_the_busy_child(started: threading.Event) -> None:
    """The child that goes on using its core once all other pairs are done is the one with the endless pair."""
    started.wait(PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(1.0)
        before = {pid: cpu_ticks(pid) for pid in children()}
        time.sleep(2.0)
        busy = [pid for pid in children() if pid in before and cpu_ticks(pid) > before[pid]]
        if len(busy) == 1:
            os.kill(busy[0], signal.SIGKILL)
            return


def children() -> list[int]:
    """Symbolic children of this process."""
    found = [
        int(child) for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [pid for pid in found if b"symbolic_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _crashed(pid: int) -> None:
    os.kill(pid, signal.SIGSEGV)


def _out_of_cpu(pid: int) -> None:
    """No second more than the child has used: what it asks for itself lies above the hard limit."""
    resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1))


@pytest.mark.parametrize("end", [_crashed, _out_of_cpu], ids=lambda end: end.__name__)
def test_one_pair_is_lost_and_the_next_ones_are_judged(end: Callable[[int], None], pool: Symbolic) -> None:
    assert pool.compare(*PAIRS[0]).equal
    (pid,) = pool.pids()
    end(pid)
    assert pool.compare(ENDLESS, "3").timed_out
    assert [pool.compare(*pair).equal for pair in PAIRS[1:5]] == [True] * 4
    assert pid not in pool.pids()


def test_a_pair_that_runs_out_of_memory_is_lost_and_the_next_ones_are_judged(pool: Symbolic) -> None:
    assert pool.compare(*PAIRS[0]).equal
    (pid,) = pool.pids()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), 1 << 30))
    assert pool.compare(ENDLESS, "3").timed_out
    assert [pool.compare(*pair).equal for pair in PAIRS[1:5]] == [True] * 4
    assert pid not in pool.pids()


def test_a_child_ends_itself_at_its_cpu_limit_when_nobody_is_left_to_kill_it() -> None:
    child = subprocess.Popen([sys.executable, "-s", "-P", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    body = json.dumps({"do": "compare", "answer": ENDLESS, "gold": "3", "cpu_seconds": 0.2}).encode()
    child.stdin.write(struct.pack(">I", len(body)) + body)
    child.stdin.flush()
    assert child.wait(PATIENCE_SECONDS) == -signal.SIGXCPU
    child.communicate()


def test_a_child_ends_itself_at_its_memory_limit() -> None:
    limits = "import resource; print(resource.getrlimit(resource.RLIMIT_AS)[0])"
    script = f"import runpy; child = runpy.run_path({str(CHILD)!r}); child['_restrain'](); {limits}; bytearray(2 << 30)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(1 << 30)
    assert "MemoryError" in done.stderr

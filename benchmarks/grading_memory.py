"""Resident memory of the grader over a million pairs: of the command and its children, or of the service's shard code.

    python benchmarks/grading_memory.py DATA_FOLDER [--pairs 1000000] [--way command|service]

Pairs are those of `grading.py` from the golds of MATH, OlympiadBench and College Math, over and over; every third is made up
from numbers that never come twice, every tenth is a whole solution, one in 2,000 needs the slow path. A line is printed for
every tenth of the way: resident memory of the process and of its children, in MB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from grading import Pair, pairs_of, rows_of

from overproof.grading.grader import Grader
from overproof.grading.tasks import grade
from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import GradingOptions
from overproof.shared.records import Receipt
from overproof.shared.specs import GradeSpec
from overproof.shared.tables import COMPLETIONS, PROBLEMS, table_of
from overproof.shared.work import Work

ROWS_PER_SHARD = 10_000


def pairs(folder: Path) -> Iterator[Pair]:
    """Without an end, the same in every run."""
    draw = random.Random(7)
    names = ("math_test", "olympiadbench_en_math", "college_math")
    golds = [row["answer"] for name in names for row in rows_of(folder, name)]
    real = cycle(pairs_of(golds, 20_000, draw))
    for number in count(2):
        if number % 2_000 == 0:
            yield Pair(f"\\int_0^{{{number}}} x dx", f"{number * number}/2", True)
        elif number % 3 == 0:
            yield Pair(
                f"\\frac{{{2 * number}}}{{{2 * number + 2}}}+\\sqrt{{{number}}}",
                f"1-1/{number + 1}+{number}^{{1/2}}",
                True,
            )
        elif number % 10 == 0:
            pair = next(real)
            yield Pair(f"Step {number}. " * 100 + f"So \\boxed{{{pair.text}}}", pair.gold, pair.right, True)
        else:
            yield next(real)


def megabytes(pid: int) -> float:
    """Resident memory of one process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        own = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return []
    return [*own, *(child for each in own for child in below(each))]


def report(done: int, pid: int) -> None:
    children = [f"{megabytes(child):.0f}" for child in below(pid)]
    print(
        f"{done:>10,} pairs   process {megabytes(pid):6.0f} MB   children {' + '.join(children) or '-'} MB", flush=True
    )


def command(folder: Path, n_pairs: int) -> None:
    """`overproof grade --workers 1`, as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "overproof.grading", "lines", "--workers", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    writer = threading.Thread(target=_write, args=(process.stdin, islice(pairs(folder), n_pairs)))
    writer.start()
    for done, _ in enumerate(process.stdout, start=1):
        if done % (n_pairs // 10) == 0:
            report(done, process.pid)
    writer.join()
    process.wait()


def _write(pipe: Any, made: Iterator[Pair]) -> None:
    for pair in made:
        pipe.write(
            json.dumps({"output" if pair.is_solution else "pred": pair.text, "gold": pair.gold}).encode() + b"\n"
        )
    pipe.close()


def service(folder: Path, n_pairs: int) -> None:
    """Shards of completions through the task's own function, with one grader for all, as in a worker."""
    made = pairs(folder)
    with tempfile.TemporaryDirectory() as storage, Grader() as grader:
        for shard in range(n_pairs // ROWS_PER_SHARD):
            _shard(Artifacts(Files(f"{storage}/{shard}")), list(islice(made, ROWS_PER_SHARD)), grader)
            done = (shard + 1) * ROWS_PER_SHARD
            if done % (n_pairs // 10) == 0:
                report(done, os.getpid())


def _shard(artifacts: Artifacts, part: list[Pair], grader: Grader) -> None:
    problems, completions = f"prepare/{'a' * 32}", f"sample/{'b' * 32}"
    _publish(artifacts, problems, PROBLEMS, [_problem(index, pair) for index, pair in enumerate(part)])
    _publish(artifacts, completions, COMPLETIONS, [_completion(index, pair) for index, pair in enumerate(part)])
    spec = GradeSpec(completions=completions, problems=problems, options=GradingOptions())
    request = ShardRequest(stage=spec.stage, key=spec.key, shard=0, run_id="benchmark")
    grade(Work(spec, request, artifacts, lambda values: None), grader)


def _publish(artifacts: Artifacts, ref: str, schema: Any, rows: list[dict[str, Any]]) -> None:
    part = artifacts.write_part(ref, 0, schema, [table_of(rows, schema)])
    artifacts.publish(ref, Receipt(shard=0, parts=(part,), owner="benchmark", started_at=0, finished_at=1))


def _problem(index: int, pair: Pair) -> dict[str, Any]:
    names = {"problem_id": str(index), "group_id": str(index), "problem": "?", "source": "benchmark"}
    return dict.fromkeys(PROBLEMS.names) | names | {"answer": pair.gold}


def _completion(index: int, pair: Pair) -> dict[str, Any]:
    text = pair.text if pair.is_solution else f"So \\boxed{{{pair.text}}}"
    row = {"problem_id": str(index), "sample": 0, "round": 1, "role": "teacher", "model": "m", "text": text}
    return dict.fromkeys(COMPLETIONS.names) | row | {
        "n_tokens": 1, "prompt_tokens": 1, "seed": 0, "finish_reason": "stop", "spec": "s" * 32,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--way", choices=("command", "service"), default="command")
    args = parser.parse_args()
    {"command": command, "service": service}[args.way](args.folder, args.pairs)


if __name__ == "__main__":
    main()

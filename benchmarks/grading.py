"""The grader beside Math-Verify 0.9.0: accuracy, false positives and negatives, CPU per pair, latencies, hostile input.

    python benchmarks/grading.py DATA_FOLDER [--limit 5000] [--show]

DATA_FOLDER holds math_test.parquet, olympiadbench_en_math.parquet, college_math.parquet, gsm8k_test.parquet. From every gold
answer come pairs with a label by construction: respellings (right) and near misses (wrong); from solutions with their own
and with another problem's gold come whole solutions. The labelled table of the unit tests is the hard set. Math-Verify gets its
a usual call: answers in a box, LaTeX only, no time-out thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import random
import re
import resource
import runpy
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from math_verify import LatexExtractionConfig, parse, verify

from overproof.grading.domain.cascade import reading
from overproof.grading.domain.rational import rational_of
from overproof.grading.grader import Grader
from overproof.shared.topology import Verdict

CASES = Path(__file__).parent.parent / "services" / "grading" / "tests" / "cases"
BOX_FIRST = [LatexExtractionConfig(boxed_match_priority=0)]


class Pair(NamedTuple):
    """`text` is a bare answer or a whole solution; `right` is the label."""

    text: str
    gold: str
    right: bool
    is_solution: bool = False


def respellings(gold: str) -> Iterator[str]:
    """The same answer in other words."""
    yield f"${gold}$"
    yield gold.replace("\\frac", "\\dfrac").replace("\\left", "").replace("\\right", "")
    if not re.search(r"\d,(?:\\!)?\d", gold):  # a blank would part thousands
        yield gold.replace(",", ", ").replace("  ", " ").replace("{", "{ ").replace("+", " + ")
    value = rational_of(gold)
    if value is not None:
        yield f"\\frac{{{2 * value.numerator}}}{{{2 * value.denominator}}}"
        if value.denominator in {1, 2, 4, 5, 8, 10}:
            yield str(float(value))
    if re.fullmatch(r"[\w\\{}^/+\- ]+", gold) and "text" not in gold:
        yield f"({gold})"


def near_misses(gold: str, draw: random.Random) -> Iterator[str]:
    """Another answer that looks like it: one digit or sign is changed."""
    digits = [match.start() for match in re.finditer(r"[1-9]", gold)]
    if digits:
        at = draw.choice(digits)
        yield gold[:at] + str((int(gold[at]) % 9) + 1) + gold[at + 1 :]
    value = rational_of(gold)
    if value:
        yield f"-{gold}" if value > 0 else gold.replace("-", "", 1)
        yield str(value + Fraction(1, 1000))
        yield f"{gold}0" if value.denominator == 1 else f"{gold}^2"
    for one, other in (
        ("(", "["),
        ("\\sqrt", "\\sqrt[3]"),
        ("\\pi", "e"),
        ("+", "-"),
        ("x", "x^2"),
        ("\\cup", "\\cap"),
    ):
        if one in gold and "\\left" not in gold:
            yield gold.replace(one, other, 1)


def pairs_of(golds: list[str], limit: int, draw: random.Random) -> list[Pair]:
    """Two right and two wrong pairs of each gold at most, `limit` in all."""
    found: list[Pair] = []
    for gold in golds:
        if reading(gold).readable is False:
            continue  # prose: Overproof says `ungradable` of such a problem before it is sampled
        right, wrong = list(respellings(gold)), list(near_misses(gold, draw))
        found += [Pair(text, gold, True) for text in draw.sample(right, min(2, len(right)))]
        found += [Pair(text, gold, False) for text in draw.sample(wrong, min(2, len(wrong)))]
    return draw.sample(found, min(limit, len(found)))


def solutions_of(rows: list[dict[str, str]], limit: int, draw: random.Random) -> list[Pair]:
    """Each solution with its own gold and with one that differs from it as a number."""
    found: list[Pair] = []
    for row in rows:
        other = draw.choice(rows)["answer"]
        found.append(Pair(row["solution"], row["answer"], True, True))
        left, right = rational_of(other), rational_of(row["answer"])
        if left is not None and right is not None and left != right:
            found.append(Pair(row["solution"], other, False, True))
    return draw.sample(found, min(limit, len(found)))


def math_verify(pair: Pair) -> bool:
    """Math-Verify's tuned call."""
    text = pair.text if pair.is_solution else f"\\boxed{{{pair.text}}}"
    gold = parse(f"\\boxed{{{pair.gold}}}", extraction_config=BOX_FIRST, parsing_timeout=2)
    answer = parse(text, parsing_timeout=2)
    return bool(verify(gold, answer, timeout_seconds=2))


def cpu_seconds() -> float:
    """Of this process and of the children that ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measure(name: str, pairs: list[Pair], judge: Callable[[Pair], bool], close: Callable[[], None], show: bool) -> str:
    """One line of the table; `close` ends children so that their CPU time is counted."""
    wrong, seconds, started = [], [], cpu_seconds()
    for pair in pairs:
        begun = time.perf_counter()
        right = judge(pair)
        seconds.append(time.perf_counter() - begun)
        if right is not pair.right:
            wrong.append(pair)
    close()
    cpu = (cpu_seconds() - started) / len(pairs)
    if show:
        for pair in wrong:
            print(f"    {'FN' if pair.right else 'FP'}  {pair.text[-100:]!r} | {pair.gold!r}")
    positives = sum(not pair.right for pair in wrong)
    seconds.sort()
    p50, p99 = (seconds[int(share * len(seconds))] for share in (0.5, 0.99))
    return (
        f"{name:34} {len(pairs):6,} {1 - len(wrong) / len(pairs):8.2%} {positives:4}/{len(wrong) - positives:<4}"
        f" {cpu * 1e3:8.3f} ms {p50 * 1e3:8.3f} ms {p99 * 1e3:8.2f} ms {seconds[-1] * 1e3:9.1f} ms"
    )


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    """Rows that have both an answer and a solution column (the solution may be null)."""
    return list(pq.read_table(folder / f"{name}.parquet", columns=["answer", "solution"]).to_pylist())


def sets_of(folder: Path, limit: int) -> dict[str, list[Pair]]:
    """The labelled sets by name."""
    draw = random.Random(20261124)
    named = {
        name: rows_of(folder, name) for name in ("math_test", "olympiadbench_en_math", "college_math", "gsm8k_test")
    }
    golds = {name: [row["answer"] for row in rows] for name, rows in named.items()}
    table = json.loads((CASES / "equivalence.json").read_text())
    return {
        "MATH pairs": pairs_of(golds["math_test"], limit, draw),
        "OlympiadBench, College Math pairs": pairs_of(
            golds["olympiadbench_en_math"] + golds["college_math"], limit, draw
        ),
        "whole solutions": solutions_of(named["math_test"] + named["gsm8k_test"], min(limit, 2_800), draw),
        "policy pairs": [Pair(case["answer"], case["gold"], case["verdict"] == "correct") for case in table],
        "hard pairs": hard_pairs(),
        "solutions in many styles": [
            Pair(case["text"], case["gold"], case["label"] == "correct", True)
            for case in json.loads((CASES / "solutions.json").read_text())
        ],
    }


def hard_pairs() -> list[Pair]:
    """The table of the unit tests: columns gold, answer, label, form, source."""
    with (CASES / "hard_pairs.tsv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Pair(row["answer"], row["gold"], row["label"] == "correct") for row in rows]


def hostile(grader: Grader) -> str:
    """How the hostile table ends, each text as answer, as gold and in a box: counts of verdicts, the slowest pair."""
    verdicts: dict[str, int] = {}
    slowest = 0.0
    for case in runpy.run_path(str(CASES / "hostile.py"))["hostile"]():
        for text, gold, is_solution in (
            (case.text, case.lure, False),
            (case.lure, case.text, False),
            (f"\\boxed{{{case.text}}}", case.lure, True),
        ):
            grade = grader.grade(text, [gold], is_solution=is_solution)
            verdicts[grade.verdict] = verdicts.get(grade.verdict, 0) + 1
            slowest = max(slowest, grade.seconds)
    return f"hostile: {sum(verdicts.values())} pairs, {verdicts}, slowest {slowest:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=5_000, help="pairs of each set")
    parser.add_argument("--show", action="store_true", help="every verdict that differs from its label")
    parser.add_argument("--alone", action="store_true", help="without Math-Verify")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"{'':34} {'pairs':>6} {'accuracy':>8} {'FP/FN':>9} {'CPU/pair':>11} {'p50':>11} {'p99':>11} {'slowest':>12}")
    for name, pairs in sets_of(args.folder, args.limit).items():
        grader = Grader()

        def ours(pair: Pair, grader: Grader = grader) -> bool:
            return grader.grade(pair.text, [pair.gold], is_solution=pair.is_solution).verdict is Verdict.CORRECT

        print(measure(name, pairs, ours, grader.close, args.show))
        if not args.alone:
            print(measure("  math-verify", pairs, math_verify, lambda: None, show=False))
    with Grader() as grader:
        print(hostile(grader))


if __name__ == "__main__":
    main()

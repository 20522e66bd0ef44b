"""`overproof grade < in.jsonl > out.jsonl`: the line protocol, and the process that grades lines one after the other.

A line is `{"pred": a bare answer, or "output": a whole solution, "gold": an answer or a list of answers}`; other keys are
ignored. It becomes `{"correct", "verdict", "method", "extracted", "gold", "reason", "seconds", "grader"}`, with the line's own
`id` when it has one. A line that cannot be used becomes `{"correct": false, "verdict": "ungradable", "method": "none", "error":
sentence}`, one whose process was lost the same with the verdict `timeout`: the place of a line is never empty.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, BinaryIO

from overproof.grading.adapters.line_workers import MAX_LINE_BYTES, MAX_WORKERS, LineWorkers
from overproof.grading.domain.policy import Policy
from overproof.grading.grader import GRADER_VERSION, Grader
from overproof.shared.topology import FinishReason, Verdict

MAX_GOLDS = 64
"""Alternatives of one gold answer: each may cost a comparison in the slow path."""

MAX_ECHO_CHARS = 1_000
"""An answer is repeated in its verdict up to here; eight verdicts that wait in a pipe must fit into it."""

MAX_SECONDS = 600.0
"""For one comparison."""

EXIT_INTERRUPTED = 130

_FINISH_REASONS = frozenset(str(reason) for reason in FinishReason)


class BadLine(ValueError):
    """The line is not a question; the message is one sentence that says why and what would be."""


def main(argv: list[str]) -> int:
    """`lines [--workers N]`: stdin to stdout. Returns the exit status."""
    args = _arguments(argv)
    if args.serve:
        policy = Policy(args.strict, args.order_matters, args.decimal_tolerance)
        with Grader(args.seconds_per_answer, policy=policy) as grader:
            serve(sys.stdin.buffer, sys.stdout.buffer, grader, audit=args.audit)
        return 0
    try:
        with LineWorkers(args.workers, ["lines", "--serve", *argv], failed) as pool:
            return pool.run(sys.stdin.buffer, sys.stdout.buffer)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="overproof grade", description="Grade JSON lines from stdin to stdout.")
    parser.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes that grade (default 1)")
    parser.add_argument("--seconds-per-answer", type=_seconds, default=2.0, help="budget of one comparison (default 2)")
    parser.add_argument("--strict", action="store_true", help="the same kind of thing, with the same unit")
    parser.add_argument("--order-matters", action="store_true", help="1, 2 is not 2, 1")
    parser.add_argument("--decimal-tolerance", type=_tolerance, default=0.0, help="relative; default 0: exact")
    parser.add_argument(
        "--audit", action="store_true", help="say too what Math-Verify thinks, as math_verify and disagrees"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"--workers is a number from 1 to {MAX_WORKERS}, not {text}")
    return int(text)


def _seconds(text: str) -> float:
    return _between(text, 0.01, MAX_SECONDS, "--seconds-per-answer")


def _tolerance(text: str) -> float:
    return _between(text, 0.0, 0.5, "--decimal-tolerance")


def _between(text: str, low: float, high: float, flag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = high + 1
    if not low <= value <= high:  # also not a number
        raise argparse.ArgumentTypeError(f"{flag} is a number from {low:g} to {high:g}, not {text}")
    return value


def serve(lines: BinaryIO, verdicts: BinaryIO, grader: Grader, *, audit: bool = False) -> None:
    """One verdict line for each line, flushed at once, until `lines` ends."""
    while line := lines.readline(MAX_LINE_BYTES + 2):
        verdict = grade_line(line, grader)
        verdicts.write(dumped(audited(verdict, grader) if audit else verdict))
        verdicts.flush()


def audited(verdict: dict[str, Any], grader: Grader) -> dict[str, Any]:
    """The verdict with Math-Verify's own opinion beside it; it changes nothing. None: it has none."""
    if verdict["verdict"] not in {Verdict.CORRECT, Verdict.WRONG}:
        return verdict
    opinion = grader.second_opinion(str(verdict["extracted"]), str(verdict["gold"]))
    return verdict | {"math_verify": opinion, "disagrees": opinion is not None and opinion is not verdict["correct"]}


def grade_line(line: bytes, grader: Grader) -> dict[str, Any]:
    """The verdict on one line as an object; a line that cannot be used is `ungradable`, with an `error` that says why."""
    try:
        row = _row(line)
        text, is_solution = _answer(row)
        golds = _golds(row)
        finish_reason = _finish_reason(row)
    except BadLine as error:
        return failed(str(error))
    grade = grader.grade(text, golds, is_solution=is_solution, finish_reason=finish_reason)
    named = {"id": row["id"]} if isinstance(row.get("id"), str) else {}
    return named | {
        "correct": grade.verdict is Verdict.CORRECT,
        "verdict": str(grade.verdict),
        "method": grade.method,
        "extracted": None if grade.extracted is None else grade.extracted[:MAX_ECHO_CHARS],
        "gold": grade.gold[:MAX_ECHO_CHARS],
        "reason": grade.reason[:MAX_ECHO_CHARS],
        "seconds": round(grade.seconds, 6),
        "grader": GRADER_VERSION,
    }


def failed(sentence: str, verdict: Verdict = Verdict.UNGRADABLE) -> dict[str, Any]:
    """What stands in the place of a verdict."""
    return {"correct": False, "verdict": str(verdict), "method": "none", "error": sentence}


def dumped(value: dict[str, Any]) -> bytes:
    """One line of ASCII JSON: lone surrogates and line separators of other alphabets cannot break it."""
    return json.dumps(value).encode() + b"\n"


def _row(line: bytes) -> dict[str, Any]:
    """Numbers keep their digits: `0.10` must not pass through a float. Bytes that are not UTF-8 become U+FFFD."""
    text = line.decode("utf-8-sig", errors="replace").strip()
    if not text:
        raise BadLine('The line is empty; write {"pred": ..., "gold": ...} or {"output": ..., "gold": ...}.')
    try:
        row = json.loads(
            text, parse_float=str, parse_int=str, parse_constant=str, strict=False, object_pairs_hook=_without_doubles
        )
    except BadLine:
        raise
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise BadLine(f"The line is not JSON: {why}.") from None
    if not isinstance(row, dict):
        raise BadLine('The line is no JSON object; write {"pred": ..., "gold": ...} or {"output": ..., "gold": ...}.')
    return row


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise BadLine("The line has a key that stands there twice; which of the two values counts is anybody's guess.")
    return row


def _answer(row: dict[str, Any]) -> tuple[str, bool]:
    """The text and whether it is a whole solution. A null answer is an answer that is missing, not a bad line."""
    given = [name for name in ("pred", "output") if name in row]
    if len(given) == 2:
        given = [name for name in given if row[name] is not None] or given[:1]
    if len(given) != 1:
        raise BadLine(
            f'The line has {"both" if given else "neither"} "pred" {"and" if given else "nor"} "output"; give one.'
        )
    value = row[given[0]]
    if value is not None and not isinstance(value, str):
        raise BadLine(f'"{given[0]}" is a {_kind(value)}; give a text.')
    return value or "", given[0] == "output"


def _golds(row: dict[str, Any]) -> list[str]:
    if "gold" not in row:
        raise BadLine('The line has no "gold"; give the right answer or a list of right answers.')
    golds = row["gold"] if isinstance(row["gold"], list) else [row["gold"]]
    if len(golds) > MAX_GOLDS:
        raise BadLine(f'"gold" has {len(golds)} alternatives; give at most {MAX_GOLDS}.')
    for gold in golds:
        if not isinstance(gold, str):
            raise BadLine(f'"gold" is or holds a {_kind(gold)}; give a text or a list of texts.')
    return list(golds)


def _finish_reason(row: dict[str, Any]) -> str:
    """`length` says that the output was cut off at its token limit; anything else that is not known counts as a normal end."""
    reason = row.get("finish_reason")
    return reason if isinstance(reason, str) and reason in _FINISH_REASONS else str(FinishReason.STOP)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "boolean", list: "list", dict: "object"}.get(type(value), type(value).__name__)

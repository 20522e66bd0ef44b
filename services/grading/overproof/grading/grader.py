"""The public checker: a completion and its gold answers in, one named verdict out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import NamedTuple, Self

from overproof.grading.adapters.symbolic import PAIRS_PER_CHILD, Opinion, Symbolic
from overproof.grading.domain.boxes import introduced
from overproof.grading.domain.cascade import Decision, Stage, decide, reading, trees_of
from overproof.grading.domain.extraction import MAX_SOLUTION_CHARS, Extraction, extract
from overproof.grading.domain.normalise import MAX_ANSWER_CHARS, unwrap
from overproof.grading.domain.policy import DEFAULT, Policy
from overproof.shared.topology import GRADER_VERSION, FinishReason, Verdict

__all__ = ["GRADER_VERSION", "GoldCheck", "Grade", "Grader"]

MAX_OPINIONS = 10_000
"""Slow-path results that are remembered, some hundred bytes each."""

MAX_TRIES = 2
"""Time-outs of one question: the first may be a busy machine's, after the second it is not asked again."""


class Grade(NamedTuple):
    """`extracted` is None when no answer was found; `gold` is the one that decided; `method` is `<rule>/<stage>`."""

    verdict: Verdict
    extracted: str | None
    gold: str
    method: str
    reason: str
    seconds: float


class GoldCheck(NamedTuple):
    """Whether a gold answer can be judged against; `reason` is empty when it can."""

    readable: bool
    reason: str


class Grader:
    """Judges answers. One object serves any number of threads; `close` (or `with`) ends its child processes."""

    def __init__(
        self,
        seconds_per_answer: float = 2.0,
        *,
        policy: Policy = DEFAULT,
        pairs_per_child: int = PAIRS_PER_CHILD,
    ) -> None:
        self._policy = policy
        self._symbolic = Symbolic(seconds_per_answer, pairs_per_child)
        self._opinion = lru_cache(maxsize=MAX_OPINIONS)(self._ask_symbolic)
        self._check_slowly = lru_cache(maxsize=MAX_OPINIONS)(self._ask_readable)
        self._tries = lru_cache(maxsize=MAX_OPINIONS)(_Tries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child processes; a later call starts new ones."""
        self._symbolic.close()

    def grade(
        self, text: str, gold: Sequence[str], *, is_solution: bool = True, finish_reason: str = FinishReason.STOP
    ) -> Grade:
        """The verdict on a whole solution, or on a bare answer when `is_solution` is False.

        `gold`: one or more right answers; any of them will do. A completion that was cut off (`finish_reason` length) counts
        only with a complete box in it.
        """
        started = time.perf_counter()
        grade = self._grade(text, list(gold), is_solution, finish_reason)
        return grade._replace(seconds=time.perf_counter() - started)

    def check_gold(self, answer: str) -> GoldCheck:
        """Whether completions can be judged against this gold answer."""
        known = reading(answer)
        if known.readable is not None:
            return GoldCheck(known.readable, known.reason)
        try:
            return self._check_slowly(_in_one_line(answer))
        except TimeoutError as error:
            return GoldCheck(False, str(error))

    def second_opinion(self, answer: str, gold: str) -> bool | None:
        """What Math-Verify alone says of an answer; None when it cannot read it or has no answer in time. For audits."""
        if len(answer) > MAX_ANSWER_CHARS or len(gold) > MAX_ANSWER_CHARS:
            return None
        return self._symbolic.compare(_bare(answer), _bare(gold)).equal

    def _grade(self, text: str, golds: list[str], is_solution: bool, finish_reason: str) -> Grade:
        checks = [self.check_gold(gold) for gold in golds]
        readable = [gold for gold, check in zip(golds, checks, strict=True) if check.readable]
        if not readable:
            return _ungradable(_answer_of(text, is_solution, finish_reason), golds, checks)
        if finish_reason == FinishReason.ERROR:
            return _grade(Verdict.NO_ANSWER, None, readable[0], "none", "the completion failed")
        found = _answer_of(text, is_solution, finish_reason)
        if found is None and finish_reason == FinishReason.LENGTH and is_solution:
            return _grade(
                Verdict.TRUNCATED, None, readable[0], "none", "cut off at the token limit before a boxed answer"
            )
        if found is None:
            return _grade(Verdict.NO_ANSWER, None, readable[0], "none", "no answer was found")
        return self._judge(found, readable)

    def _judge(self, found: Extraction, golds: list[str]) -> Grade:
        """Correct if any gold agrees; else a time-out if a comparison had one; else wrong, by the first gold.

        The slow path is asked last, and no more once it had no answer in time: several golds have one deadline.
        """
        decisions = [(gold, decide(found.answer, gold, self._policy)) for gold in golds]
        decided = [
            _grade(
                _verdict(decision),
                found.answer,
                gold,
                f"{found.method}/{decision.stage}",
                decision.reason,
            )
            for gold, decision in decisions
            if decision.stage is not Stage.UNDECIDED
        ]
        if (right := next((grade for grade in decided if grade.verdict is Verdict.CORRECT), None)) is not None:
            return right
        for gold, decision in decisions:
            if decision.stage is Stage.UNDECIDED:
                grade = self._ask(found, gold, decision)
                if grade.verdict is not Verdict.WRONG:
                    return grade
                decided.append(grade)
        return next((grade for grade in decided if grade.verdict is Verdict.TIMEOUT), decided[0])

    def _ask(self, found: Extraction, gold: str, decision: Decision) -> Grade:
        method = f"{found.method}/symbolic"
        try:
            opinion = self._opinion(_bare(found.answer), _bare(gold))
        except TimeoutError as error:
            return _grade(Verdict.TIMEOUT, found.answer, gold, method, f"{decision.reason}; {error}")
        verdict = Verdict.CORRECT if opinion.equal else Verdict.WRONG
        return _grade(verdict, found.answer, gold, method, f"{decision.reason}; {opinion.reason}")

    # Both raise TimeoutError where the slow path was killed: lru_cache remembers no errors, `_tries` counts them.

    def _ask_symbolic(self, answer: str, gold: str) -> Opinion:
        trees = trees_of(answer, gold)
        return self._tries(answer, gold).ask(lambda: self._symbolic.compare(answer, gold, trees))

    def _ask_readable(self, gold: str) -> GoldCheck:
        opinion = self._tries("", gold).ask(lambda: self._symbolic.can_read(gold))
        return GoldCheck(bool(opinion.equal), "" if opinion.equal else opinion.reason)


class _Tries:
    """How often a question to the slow path had no answer in time."""

    def __init__(self, answer: str, gold: str) -> None:
        self.lost = 0

    def ask(self, question: Callable[[], Opinion]) -> Opinion:
        """The opinion. Raises TimeoutError."""
        if self.lost >= MAX_TRIES:
            raise TimeoutError(f"it had no answer in time {MAX_TRIES} times")
        opinion = question()
        if opinion.timed_out:
            self.lost += 1
            raise TimeoutError(opinion.reason)
        return opinion


def _bare(text: str) -> str:
    return _in_one_line(unwrap(text))


def _in_one_line(text: str) -> str:
    """Single blanks: the patterns of Math-Verify take seconds over a thousand in a row."""
    return " ".join(text.split())


def _verdict(decision: Decision) -> Verdict:
    """What was given up at a limit is no verdict on the answer, as a time-out is none."""
    if decision.equal is None:
        return Verdict.TIMEOUT
    return Verdict.CORRECT if decision.equal else Verdict.WRONG


def _grade(verdict: Verdict, extracted: str | None, gold: str, method: str, reason: str) -> Grade:
    return Grade(verdict, None if extracted is None else extracted[:MAX_ANSWER_CHARS], gold, method, reason, 0.0)


def _ungradable(found: Extraction | None, golds: list[str], checks: list[GoldCheck]) -> Grade:
    """The answer is kept: completions that agree may be all that is known of the problem."""
    reason = next((check.reason for check in checks), "there is none")
    method = f"{found.method}/gold" if found else "gold"
    gold = golds[0] if golds else ""
    return _grade(
        Verdict.UNGRADABLE, found.answer if found else None, gold, method, f"the gold answer cannot be read: {reason}"
    )


def _answer_of(text: str, is_solution: bool, finish_reason: str) -> Extraction | None:
    """The answer that a completion gives; one that was cut off gives one only in a box."""
    if finish_reason == FinishReason.ERROR:
        return None
    found = extract(text) if is_solution else _whole(text)
    cut = finish_reason == FinishReason.LENGTH and is_solution
    return None if cut and found is not None and found.method != "boxed" else found


def _whole(text: str) -> Extraction | None:
    answer = text.strip()
    if len(answer) <= MAX_SOLUTION_CHARS and "boxed" in answer and (place := introduced(answer)) is not None:
        return Extraction(place.answer.strip(), "given", place.start, place.end)
    return Extraction(answer, "given", 0, len(text)) if answer else None

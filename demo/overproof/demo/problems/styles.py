"""A worked solution in one of three styles; every style ends in the boxed answer."""

from collections.abc import Sequence
from enum import StrEnum

from overproof.demo.problems.worked import Step


class Style(StrEnum):
    """How long-winded a solution is."""

    TERSE = "terse"
    """The equations alone."""
    WORDED = "worded"
    """Each equation with its reason."""
    VERBOSE = "verbose"
    """Numbered steps with reasons, then every equation once more as a check."""


def render(steps: Sequence[Step], answer: str, style: Style) -> str:
    """The solution text in `style`, ending in `\\boxed{answer}`."""
    writer = {Style.TERSE: _terse, Style.WORDED: _worded, Style.VERBOSE: _verbose}[style]
    return writer(steps, rf"$\boxed{{{answer}}}$.")


def _terse(steps: Sequence[Step], boxed: str) -> str:
    return " ".join(f"${step.equation}$." for step in steps) + f" Answer: {boxed}"


def _worded(steps: Sequence[Step], boxed: str) -> str:
    return " ".join(f"{step.reason}: ${step.equation}$." for step in steps) + f" So the answer is {boxed}"


def _verbose(steps: Sequence[Step], boxed: str) -> str:
    numbered = " ".join(f"Step {number}. {step.reason}: ${step.equation}$." for number, step in enumerate(steps, 1))
    check = " ".join(f"${step.equation}$." for step in steps)
    return f"Let us go step by step. {numbered} Let us check this. {check} All holds, so the final answer is {boxed}"

"""What may go to the slow path: Math-Verify takes the part it can read of prose and calls that the answer, so prose may not."""

from __future__ import annotations

import re

from overproof.grading.domain.forms import CLOSING, OPENING

MAX_SLOW_CHARS = 300
"""Longer answers are derivations; of the gold answers that only Math-Verify can read the longest has 120 characters."""

MAX_SLOW_NESTING = 12
"""Brackets within brackets: Math-Verify's reader takes seconds for fifty of them."""

_NO_EXPRESSION = frozenset('"$@:;…⇒→∩?')

_PROSE = re.compile(r"(?<![\\A-Za-z{])(?:[A-Za-z]{4,}|not|no|or|and|is|if|for|so|the)(?![A-Za-z])")


def is_one_expression(text: str) -> bool:
    """Whether normalised text may go to the slow path: Math-Verify takes the part it can read of prose and calls that the answer."""
    return (
        len(text) <= MAX_SLOW_CHARS
        and _is_closed(text)
        and _GARBLED.search(text) is None
        and _is_shallow(text)
        and not _NO_EXPRESSION & set(text)
        and _PROSE.search(text) is None
    )


_GARBLED = re.compile(
    r"\\(?:begin|end)(?!\{[a-z]+\})|\\tex(?![a-z])|(?<=[\d)}])'|(?<![A-Za-z\d]')'(?=[\d{(])|(?<![\w}])\d+ ?_|(?<![\w.])0[xXbBoO]\d"
)
"""An environment without a proper name: the typing errors of a model are not worth a process. Math-Verify leaves out the mark
of `7'` and the index of `5_a` and reads `0x7` as a product."""


def _is_closed(text: str) -> bool:
    return all(text.count(opening) == text.count(closing) for opening, closing in ("()", "[]", "{}"))


def _is_shallow(text: str) -> bool:
    depth = deepest = 0
    for char in text:
        depth += (char in OPENING) - (char in CLOSING)
        deepest = max(deepest, depth)
    return deepest <= MAX_SLOW_NESTING and text.count("|") <= 2 * MAX_SLOW_NESTING


def are_statements(answer: str, gold: str) -> bool:
    """Two equations that say different things of their right sides: Math-Verify compares only those."""
    left, right = answer.rpartition("=")[0], gold.rpartition("=")[0]
    return bool(left and right) and left != right

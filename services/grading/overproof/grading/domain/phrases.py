"""Phrases that stand for a set of numbers: `no solution`, `all real numbers`, `all reals except 2`."""

from __future__ import annotations

import re

_EMPTY_SETS = frozenset({"∅", "❴❵", "empty set", "the empty set"})
_NO_SOLUTIONS = frozenset(
    {"no solution", "no solutions", "no real solution", "no real solutions", "there is no solution"}
    | {"no solution exists", "no solutions exist", "there are no solutions", "no real solutions exist"}
    | {"equation has no solution", "system has no solution", "equation has no solutions", "system has no solutions"}
)
_ALL_REALS = frozenset(
    {"ℝ", "all real numbers", "all reals", "all real", "reals", "the real numbers", "real numbers", "any real number"}
)
_ALL_REAL_NAMED = re.compile(
    r'^"?(?:all|any|every) real(?: numbers?)?(?: ?"? ?[a-z])?"?$|^[a-z]"? ?(?:is|can be) any real number"?$'
)
_ALL_REALS_BUT = re.compile(
    r'^"?all real(?: numbers|s)?(?: ?"? ?[a-z] ?"?)? ?(?:except|but|other than)(?: for)?"? ?(?:[a-z]=)?(.+?)"?$'
)


def is_empty_set(text: str, words: str) -> bool:
    """Whether normalised text, or the words it is, say that there is no solution."""
    return text in _EMPTY_SETS or words in _EMPTY_SETS or words in _NO_SOLUTIONS


def is_all_reals(text: str, words: str) -> bool:
    """`ℝ`, `all real numbers`, `x is any real number`."""
    return text in _ALL_REALS or words in _ALL_REALS or ("real" in text and _ALL_REAL_NAMED.match(text) is not None)


def points_left_out(text: str) -> str | None:
    """The numbers of `all real numbers except 2` as text; None for everything else."""
    match = _ALL_REALS_BUT.match(text) if "real" in text else None
    return match[1] if match else None

"""Normalised text to tokens, with limits on their number and size."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from overproof.grading.domain.symbols import FUNCTIONS, NAMED_CONSTANTS, WORDS
from overproof.grading.domain.tree import TooLarge, Unreadable

MAX_TOKENS = 600
"""The longest gold answer of MATH has 41 tokens, of OlympiadBench 127."""

MAX_DIGITS = 1_000
"""int() is quadratic in the digits, and Python itself refuses 4,300."""

MAX_SCIENTIFIC_EXPONENT = 1_000
"""`1e999` is readable, `1e999999999` would be a gigabyte of digits."""

MAX_LETTERS_OF_A_PRODUCT = 3
"""`abc` is a product of three letters, `even` a word."""

_TOKEN = re.compile(
    r"\s*(?:(?P<prefixed>0[xXbBoO]\d)|(?P<repeating>\d*\.\d*\\overline\s*\{\s*\d+\s*\}|\d*\.\d*\\overline\s*\d)"
    r"|(?P<num>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?![A-Za-z\d.]))?)"
    r"|(?P<cmd>\\[A-Za-z]+)|(?P<name>[A-Za-z]+)|(?P<text>\"[^\"]*\")|(?P<op>\S))",
    re.ASCII,
)


class Token(NamedTuple):
    """`kind` is num, cmd, name, text or op; `gap` says that a blank stood before it; numbers carry their value."""

    kind: str
    text: str
    gap: bool
    value: Fraction = Fraction(0)


def tokens_of(text: str) -> list[Token]:
    """Tokens of normalised text. Raises Unreadable (a word) and TooLarge (too many tokens, too many digits)."""
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, word = str(match.lastgroup), match[match.lastgroup or 0]
        gap = match.start(kind) > match.start()
        is_long = kind in {"name", "text"} and len(word) > MAX_LETTERS_OF_A_PRODUCT
        if is_long and [token.text for token in found[-2:]] == ["_", "{"]:
            found.append(Token("text", word.strip('"'), gap))  # a subscript is a name, not a product
        elif kind == "name" or (kind == "text" and word[1:-1].isalpha()):
            found.extend(_letters(word.strip('"'), gap))
        elif kind == "prefixed":
            raise Unreadable("digits of another base")  # `0x7` is no product of 0 and x7
        elif kind in {"num", "repeating"}:
            found.append(Token("num", word, gap, _number(word) if kind == "num" else _repeating(word)))
        else:
            found.append(Token(kind, word, gap))
        if len(found) > MAX_TOKENS:
            raise TooLarge(f"more than {MAX_TOKENS} signs")
    return found


def _letters(word: str, gap: bool) -> list[Token]:
    known = word if word in FUNCTIONS or word in NAMED_CONSTANTS else word.lower()
    if known in FUNCTIONS:
        return [Token("cmd", f"\\{known}", gap)]
    if known in NAMED_CONSTANTS and len(word) > 1:
        return [Token("op", NAMED_CONSTANTS[known], gap)]
    if len(word) > MAX_LETTERS_OF_A_PRODUCT or word.lower() in WORDS or not word.isascii():
        raise Unreadable(f"a word, {word[:20]}")
    return [Token("name", letter, gap and index == 0) for index, letter in enumerate(word)]


def _number(word: str) -> Fraction:
    mantissa, _, exponent = word.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 5 or (exponent and abs(int(exponent)) > MAX_SCIENTIFIC_EXPONENT):
        raise TooLarge(f"a number of {len(word)} digits")
    whole, _, decimals = mantissa.partition(".")
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals))
    return value * Fraction(10) ** int(exponent) if exponent else value


def _repeating(word: str) -> Fraction:
    """`0.1\\overline{27}`: the period over as many nines."""
    if len(word) > MAX_DIGITS:
        raise TooLarge(f"a number of {len(word)} digits")
    fixed, _, rest = word.partition("\\overline")
    period = "".join(char for char in rest if char.isdigit())
    decimals = len(fixed.partition(".")[2])
    return _number(fixed if fixed != "." else "0") + Fraction(int(period), (10 ** len(period) - 1) * 10**decimals)

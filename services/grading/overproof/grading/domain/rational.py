"""Exact arithmetic: the value of an answer that is a rational number, as a Fraction, never as a float.

Two ways in: `rational_of` reads the few spellings that make up four fifths of all answers without building a tree, and
`exact` walks a tree. Both return None for what is not rational and raise TooLarge before a number grows past the limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from overproof.grading.domain.tree import Node, TooLarge

MAX_BITS = 20_000
"""10**100 and 2**1009 are real answers; past 6,000 digits a power is an attack."""

MAX_FACTORIAL = 2_050
"""2050! has 19,600 bits: the factorial of a year is met in contests."""

MAX_BINOMIAL = 6_000
"""The binomial of twice a year and a year has 4,060 bits."""

MAX_DIGITS = 1_000

_RATIONAL = re.compile(
    r"(?P<sign>[-+]?)(?:"
    r"(?P<whole>\d+)(?P<decimals>\.\d*)?(?:/(?P<below>\d+))?"
    r"|(?P<point>\.\d+)"
    r"|(?P<mixed>\d+ ?)?\\frac ?\{(?P<inner>-?)(?P<num>\d+)\}\{(?P<den>\d+)\}"
    r"|(?P<units>\d+) (?P<top>\d+)/(?P<bottom>\d+))",
    re.ASCII,
)


def rational_of(text: str) -> Fraction | None:
    """The value of a normalised whole number, decimal, fraction or mixed number; None for every other text."""
    if len(text) > MAX_DIGITS or (match := _RATIONAL.fullmatch(text)) is None:
        return None
    part = match.groupdict()
    value = _unsigned(part)
    return value if value is None or part["sign"] != "-" else -value


def _unsigned(part: dict[str, str | None]) -> Fraction | None:
    if part["num"] is not None:
        return _over(part["num"], part["den"], part["mixed"], part["inner"] or "")
    if part["top"] is not None:
        return _over(part["top"], part["bottom"], part["units"], "")
    if part["point"] is not None:
        return Fraction(int(part["point"][1:]), 10 ** (len(part["point"]) - 1))
    decimals = (part["decimals"] or "")[1:]
    above = Fraction(int((part["whole"] or "") + decimals), 10 ** len(decimals))
    below = int(part["below"] or 1)
    return above / below if below else None


def _over(above: str | None, below: str | None, whole: str | None, inner: str) -> Fraction | None:
    """A fraction, with a whole number before it only when it is proper (else it is a product: not decided here)."""
    top, bottom = int(above or 0), int(below or 0)
    if bottom == 0 or (whole is not None and (inner or not 0 < top < bottom)):
        return None
    value = Fraction(top, bottom) + int(whole or 0)
    return -value if inner else value


def exact(node: Node) -> Fraction | None:
    """The rational value of a tree, None when it has symbols, constants or roots that are not rational. Raises TooLarge."""
    if node.op == "num":
        return node.number
    rule = _RULES.get(node.op)
    if rule is None:
        return None
    values = [exact(arg) for arg in node.args]
    known = [value for value in values if value is not None]
    return _bounded(rule(node, known)) if len(known) == len(values) else None


def _bounded(value: Fraction | None) -> Fraction | None:
    if value is not None and value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise TooLarge(f"a number of more than {MAX_BITS} bits")
    return value


def _sum(_: Node, values: Sequence[Fraction]) -> Fraction:
    result = Fraction(0)
    for value in values:
        result += value
        _bounded(result)
    return result


def _product(_: Node, values: Sequence[Fraction]) -> Fraction:
    result = Fraction(1)
    for value in values:
        result *= value
        _bounded(result)
    return result


def _quotient(_: Node, values: Sequence[Fraction]) -> Fraction | None:
    return values[0] / values[1] if values[1] else None


def _power(_: Node, values: Sequence[Fraction]) -> Fraction | None:
    base, exponent = values
    if exponent.denominator != 1:
        return _root_of(base, exponent.denominator, exponent.numerator)
    if base == 0:
        return Fraction(0) if exponent > 0 else None
    if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent) > MAX_BITS and abs(base) != 1:
        raise TooLarge("a power beyond the limit")
    return base ** int(exponent % 2 if abs(base) == 1 else exponent)


def _root(_: Node, values: Sequence[Fraction]) -> Fraction | None:
    value, index = values
    return _root_of(value, int(index), 1) if index.denominator == 1 and 1 <= index <= MAX_BITS else None


def _root_of(value: Fraction, index: int, power: int) -> Fraction | None:
    """`value ** (power / index)` where it is rational: numerator and denominator are perfect powers."""
    if value < 0 and index % 2:
        root = _root_of(-value, index, 1)
        return None if root is None else _power(Node("pow"), (-root, Fraction(power)))
    if value < 0 or index > MAX_BITS:
        return None
    above, below = _integer_root(value.numerator, index), _integer_root(value.denominator, index)
    return None if above is None or below is None else _power(Node("pow"), (Fraction(above, below), Fraction(power)))


def _integer_root(value: int, index: int) -> int | None:
    if value in {0, 1}:
        return value
    if index == 2:
        root = math.isqrt(value)
    elif value.bit_length() > 900:
        return None
    else:
        root = round(value ** (1 / index))
    return root if root**index == value else None


def _factorial(_: Node, values: Sequence[Fraction]) -> Fraction | None:
    if values[0].denominator != 1 or values[0] < 0:
        return None
    if values[0] > MAX_FACTORIAL:
        raise TooLarge("a factorial beyond the limit")
    return Fraction(math.factorial(int(values[0])))


def _call(node: Node, values: Sequence[Fraction]) -> Fraction | None:
    if node.name == "abs" and len(values) == 1:
        return abs(values[0])
    if node.name in {"floor", "ceil"} and len(values) == 1:
        return Fraction(math.floor(values[0]) if node.name == "floor" else math.ceil(values[0]))
    if node.name in {"min", "max"} and values:
        return min(values) if node.name == "min" else max(values)
    if node.name == "binom" and len(values) == 2:
        return _binomial(values[0], values[1])
    return _integer_call(node.name, values)


def _integer_call(name: str, values: Sequence[Fraction]) -> Fraction | None:
    if name not in {"gcd", "lcm"} or any(value.denominator != 1 for value in values):
        return None
    result = 0 if name == "gcd" else 1
    for value in values:
        result = (math.gcd if name == "gcd" else math.lcm)(result, int(value))
        _bounded(Fraction(result))
    return Fraction(result)


def _binomial(above: Fraction, below: Fraction) -> Fraction | None:
    if above.denominator != 1 or below.denominator != 1 or above < 0 or below < 0:
        return None
    if above > MAX_BINOMIAL:
        raise TooLarge("a binomial beyond the limit")
    return Fraction(math.comb(int(above), int(below)))


_RULES: dict[str, Callable[[Node, Sequence[Fraction]], Fraction | None]] = {
    "add": _sum,
    "mul": _product,
    "div": _quotient,
    "pow": _power,
    "root": _root,
    "neg": lambda _, values: -values[0],
    "percent": lambda _, values: values[0] / 100,
    "factorial": _factorial,
    "call": _call,
}

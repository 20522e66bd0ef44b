"""Values of expression trees to 60 digits, and from them: are two expressions the same?

Symbols get seeded values. A difference at one point proves that two expressions differ; agreement to 40 digits at every
point is taken as identity (Schwartz-Zippel for polynomials; for other functions a coincidence to 40 digits is not expected).
Numbers are compared relatively, so 2^-98 and 2^-99 differ and so do 10^20+1 and 10^20.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath  # type: ignore[import-untyped]

from overproof.grading.domain.rational import exact
from overproof.grading.domain.tree import Node, TooLarge, symbols, walk

DIGITS = 60
MORE_DIGITS = 120
"""A difference that is rounding noise shrinks with the digits; a true one stays."""

AGREE = 40
"""Digits in which equal values must agree: twenty fewer than are computed, for what cancellation eats."""

MAX_LOG2 = 8_000
"""Values beyond 2**8000 are not computed: trigonometric functions would need as many bits."""

MAX_FACTORIAL = 600
"""600! has 4,700 bits."""

ORDINARY_BITS = 60
"""Numbers within 2**±60 and agreement to 40 digits: two that differ by less than that are not met by chance."""

CLOSE_DIGITS = (250, 1_000, 4_000)

POINTS = 3
SIGNED = 100
"""Number of the first point with negative symbols."""

WIDE = 1_000
"""Number of the first point with symbols of other sizes."""
WIDE_SCALES = (7, 61, 997)

MAX_SYMBOLS = 12

Value = Any  # an mpf or mpc: mpmath has no types


class Undefined(ArithmeticError):
    """The expression has no finite value there."""


class _Field:
    """One precision with its functions. Contexts are mpmath's own objects: the global precision is never touched."""

    def __init__(self, digits: int) -> None:
        self.ctx = mpmath.MPContext()
        self.ctx.dps = digits
        ctx = self.ctx
        self.functions: dict[str, Callable[..., Value]] = {
            "sin": ctx.sin, "cos": ctx.cos, "tan": ctx.tan, "cot": ctx.cot, "sec": ctx.sec, "csc": ctx.csc,
            "sinh": ctx.sinh, "cosh": ctx.cosh, "tanh": ctx.tanh, "coth": ctx.coth, "asin": ctx.asin, "acos": ctx.acos,
            "atan": ctx.atan, "acot": ctx.acot, "ln": ctx.ln, "abs": ctx.fabs, "floor": ctx.floor, "ceil": ctx.ceil,
            "sgn": ctx.sign, "sqrt": ctx.sqrt, "binom": self.binomial, "min": min, "max": max,
            "cis": lambda angle: ctx.cos(angle) + ctx.mpc(0, 1) * ctx.sin(angle),
        }  # fmt: skip
        self.constants = {"π": +ctx.pi, "e": +ctx.e, "i": ctx.mpc(0, 1)}

        self.extreme = 0  # the largest binary exponent, up or down, since it was last set to 0

    def value(self, node: Node, at: Mapping[str, Value]) -> Value:
        """The tree's value with symbols as given. Raises Undefined or TooLarge."""
        if node.op == "num":
            value = node.number
            bits = abs(value.numerator.bit_length() - value.denominator.bit_length())
            self.extreme = max(self.extreme, bits)
            return self.ctx.mpf(value.numerator) / value.denominator
        if node.op == "sym":
            return at[node.name]
        if node.op == "const":
            return self.constant(node.name)
        arguments = [self.value(arg, at) for arg in node.args]
        try:
            return self.finite(_RULES[node.op](self, node, arguments, at))
        except (ZeroDivisionError, ValueError, TypeError, OverflowError, KeyError, self.ctx.NoConvergence) as error:
            raise Undefined(f"{node.op} {node.name}: {type(error).__name__}") from None

    def binomial(self, above: Value, below: Value) -> Value:
        if max(abs(above), abs(below)) > MAX_FACTORIAL:
            raise TooLarge("a binomial beyond the limit")
        return self.ctx.binomial(above, below)

    def constant(self, name: str) -> Value:
        if name not in self.constants:
            raise Undefined(name)
        return self.constants[name]

    def finite(self, value: Value) -> Value:
        if not self.ctx.isfinite(value):
            raise Undefined("not finite")
        if value:
            bits = self.ctx.mag(value)
            if bits > MAX_LOG2:
                raise TooLarge("a value beyond the limit")
            self.extreme = max(self.extreme, bits, -bits if bits > -MAX_LOG2 else 0)
        return value


def _sum(field: _Field, _: Node, values: Sequence[Value], __: Mapping[str, Value]) -> Value:
    return field.ctx.fsum(values)


def _product(field: _Field, _: Node, values: Sequence[Value], __: Mapping[str, Value]) -> Value:
    result = values[0]
    for value in values[1:]:
        result = field.finite(result * value)
    return result


def _power(field: _Field, node: Node, values: Sequence[Value], _: Mapping[str, Value]) -> Value:
    base, exponent = values
    if base and field.ctx.mag(base) * abs(exponent) > MAX_LOG2 * 2:
        raise TooLarge("a power beyond the limit")
    share = exact(node.args[1])
    if share is not None and share.denominator % 2 and share.denominator > 1 and _is_negative(field, base):
        return (-field.ctx.root(-base, share.denominator)) ** share.numerator
    return base**exponent


def _root(field: _Field, _: Node, values: Sequence[Value], __: Mapping[str, Value]) -> Value:
    value, index = values
    if index == 2:
        return field.ctx.sqrt(value)
    if index == field.ctx.floor(index) and int(index) % 2 and _is_negative(field, value):
        return -((-value) ** (1 / index))
    return value ** (1 / index)


def _is_negative(field: _Field, value: Value) -> bool:
    return not field.ctx.im(value) and field.ctx.re(value) < 0


def _factorial(field: _Field, _: Node, values: Sequence[Value], __: Mapping[str, Value]) -> Value:
    if abs(values[0]) > MAX_FACTORIAL:
        raise TooLarge("a factorial beyond the limit")
    return field.ctx.gamma(values[0] + 1)


def _call(field: _Field, node: Node, values: Sequence[Value], at: Mapping[str, Value]) -> Value:
    if node.name in {"f", "g", "h"}:
        return _unknown_function(field, node.name, values[0])
    if node.name == "log":
        base = values[1] if len(values) > 1 else at.get(LOG_BASE, field.ctx.mpf(10))
        return field.ctx.ln(values[0]) / field.ctx.ln(base)
    if node.name == "exp":
        return _power(field, Node("pow", (Node("const", (), "e"), *node.args)), (field.constants["e"], values[0]), at)
    return field.functions[node.name](*values)


def _unknown_function(field: _Field, name: str, value: Value) -> Value:
    """A fixed smooth function stands for f, g and h: f(x+1) equals only what is f(x+1)."""
    seed = ord(name)
    return field.ctx.cos(value * seed / 97 + seed) + value / seed


_RULES: dict[str, Callable[[_Field, Node, Sequence[Value], Mapping[str, Value]], Value]] = {
    "add": _sum,
    "mul": _product,
    "div": lambda _, __, values, ___: values[0] / values[1],
    "neg": lambda _, __, values, ___: -values[0],
    "pow": _power,
    "root": _root,
    "call": _call,
    "factorial": _factorial,
    "percent": lambda _, __, values, ___: values[0] / 100,
    "degree": lambda field, _, values, __: values[0] * field.constants["π"] / 180,
}

LOG_BASE = "log base"
"""The pseudo-symbol that says what `\\log` without a base means."""


class _Fields(threading.local):
    """The two precisions, once per thread: some of mpmath's functions change their context's precision while they run."""

    def __init__(self) -> None:
        self.coarse, self.fine = _Field(DIGITS), _Field(MORE_DIGITS)
        self.agree = self.coarse.ctx.mpf(10) ** -AGREE
        self.closer: dict[int, _Field] = {}
        self.tiny = self.coarse.ctx.mpf(10) ** (-DIGITS // 2)

    def with_digits(self, digits: int) -> _Field:
        """A field of so many digits, kept for the next time."""
        return self.closer.setdefault(digits, _Field(digits)) if digits not in self.closer else self.closer[digits]


_FIELDS = _Fields()


def _point(field: _Field, names: frozenset[str], index: int) -> dict[str, Value]:
    """The seeded values of the symbols at point `index`, between 1/2 and 3, from SIGNED on some of them negative."""
    scale = WIDE_SCALES[(index - WIDE) % len(WIDE_SCALES)] if index >= WIDE else 1
    return {name: _seeded(field, f"{name}/{index}") * scale * (-1 if _is_flipped(name, index) else 1) for name in names}


def _seeded(field: _Field, seed: str) -> Value:
    """The same in every process and precision."""
    return field.ctx.mpf(zlib.crc32(seed.encode()) % 250_007) / 100_003 + 0.5


STEPPED = frozenset({"floor", "ceil", "min", "max"})
"""Functions that are constant, or another function, over whole stretches: points close together see one stretch."""


def _is_flipped(name: str, index: int) -> bool:
    """All symbols are negative at point SIGNED, and each with even odds at the next ones."""
    return index == SIGNED or (SIGNED < index < WIDE and zlib.crc32(f"sign/{name}/{index}".encode()) % 2 == 1)


def same_value(one: Node, other: Node) -> bool | None:
    """Whether two expressions are equal as functions of their symbols; None when no point gives both a finite value.

    Symbols stand for positive numbers, so √(x²) equals x; where an absolute value is written, for negative ones too.
    Raises TooLarge.
    """
    names = symbols(one) | symbols(other)
    if len(names) > MAX_SYMBOLS:
        return None
    return any_log_base(one, other, lambda base: _same_at_points(one, other, names, base))


def any_log_base(one: Node, other: Node, decide: Callable[[int], bool | None]) -> bool | None:
    """The decision with `\\log` to the base 10 or, where that does not agree and such a log is written, to the base e."""
    decimal = decide(10)
    if decimal or not any(part.name == "log" and len(part.args) == 1 for part in (*walk(one), *walk(other))):
        return decimal
    return decide(0)


def _same_at_points(one: Node, other: Node, names: frozenset[str], log_base: int) -> bool | None:
    same = _same_from(0, one, other, names, log_base)
    if not same or not names:
        return same
    if any(part.name in STEPPED for part in (*walk(one), *walk(other))):
        return _same_from(WIDE, one, other, names, log_base)
    if any(part.name in {"abs", "sgn"} for part in (*walk(one), *walk(other))):
        return _same_from(SIGNED, one, other, names, log_base)
    if len(names) == 1 and any(part.op == "root" for part in (*walk(one), *walk(other))):
        return _same_from(SIGNED, one, other, names, log_base, only_real=True) is not False
    return same


def _same_from(
    first: int, one: Node, other: Node, names: frozenset[str], log_base: int, *, only_real: bool = False
) -> bool | None:
    """Agreement at POINTS points where both have a value (a real one, if so asked), of three times as many tried."""
    agreed = 0
    for index in range(first, first + 3 * POINTS):
        try:
            same = _same_at(one, other, names, index, log_base, only_real)
        except Undefined:
            continue
        if not same:
            return False
        agreed += 1
        if agreed == POINTS or not names:
            return True
    return None


def _same_at(one: Node, other: Node, names: frozenset[str], index: int, log_base: int, only_real: bool = False) -> bool:
    field = _FIELDS.coarse
    field.extreme = 0
    at = _at(field, names, index, log_base)
    left, right = field.value(one, at), field.value(other, at)
    if only_real and (left.imag or right.imag):
        raise Undefined("not real")
    scale = max(abs(left), abs(right))
    if scale > _FIELDS.tiny:
        near = bool(abs(left - right) <= scale * _FIELDS.agree)
        return near and (
            field.extreme <= ORDINARY_BITS or _same_closely(one, other, names, index, log_base, field.extreme)
        )
    if left == right or _both_vanish(one, other, names, index, log_base, scale):
        return not scale or _same_closely(one, other, names, index, log_base, field.extreme)
    return False


def _same_closely(one: Node, other: Node, names: frozenset[str], index: int, log_base: int, extreme: int) -> bool:
    """Where very large or small numbers take part, so many digits that `√(10^100 + 1)` and `10^50` come apart."""
    field = _FIELDS.with_digits(
        next(digits for digits in CLOSE_DIGITS if digits >= extreme or digits == CLOSE_DIGITS[-1])
    )
    at = _at(field, names, index, log_base)
    left, right = field.value(one, at), field.value(other, at)
    scale = max(abs(left), abs(right))
    if scale < field.ctx.mpf(10) ** -(3 * field.ctx.dps // 4):
        return True  # noise around zero: a true number of that size would have asked for more digits
    return bool(abs(left - right) <= scale * field.ctx.mpf(10) ** -(field.ctx.dps // 2))


def _both_vanish(one: Node, other: Node, names: frozenset[str], index: int, log_base: int, scale: Value) -> bool:
    """Tiny values: noise around zero shrinks when the digits double, a true tiny number does not."""
    at = _at(_FIELDS.fine, names, index, log_base)
    left, right = _FIELDS.fine.value(one, at), _FIELDS.fine.value(other, at)
    finer = max(abs(left), abs(right))
    return bool(abs(left - right) <= finer * _FIELDS.agree or finer < scale * _FIELDS.agree)


def _at(field: _Field, names: frozenset[str], index: int, log_base: int) -> dict[str, Value]:
    return _point(field, names, index) | {LOG_BASE: field.ctx.mpf(log_base) if log_base else field.constants["e"]}


def real_value(node: Node) -> Value | None:
    """The value of a constant real expression, to order and round it; None when it has symbols, is complex or has no value."""
    if symbols(node):
        return None
    try:
        value = _FIELDS.coarse.value(node, {})
    except (Undefined, TooLarge):
        return None
    return None if abs(value.imag) > _FIELDS.agree else value.real


def is_beyond(node: Node) -> bool:
    """Whether a constant expression asks for a value beyond the limits."""
    try:
        _FIELDS.coarse.value(node, dict.fromkeys(symbols(node), _FIELDS.coarse.ctx.mpf(2)))
    except TooLarge:
        return True
    except Undefined:
        return False
    return False


def proportional(one: Node, other: Node, *, positive: bool = False) -> bool | None:
    """Whether one expression is a constant multiple, not zero, of the other: so are the two sides of equal equations."""
    names = symbols(one) | symbols(other)
    if not names or len(names) > MAX_SYMBOLS:
        return None
    ratios = [ratio for index in range(2 * POINTS) if (ratio := _ratio_at(one, other, names, index)) is not None]
    if len(ratios) < POINTS:
        return None
    tolerance = abs(ratios[0]) * _FIELDS.agree
    if positive and (abs(ratios[0].imag) > tolerance or ratios[0].real < 0):
        return False
    return bool(ratios[0]) and all(abs(ratio - ratios[0]) <= tolerance for ratio in ratios)


def _ratio_at(one: Node, other: Node, names: frozenset[str], index: int) -> Value | None:
    field = _FIELDS.coarse
    at = _at(field, names, index, 10)
    try:
        return field.finite(field.value(one, at) / field.value(other, at))
    except (Undefined, ZeroDivisionError):
        return None

"""Values of expression trees at given precision and with given values of their symbols."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath  # type: ignore[import-untyped]

from overproof.grading.domain.rational import exact
from overproof.grading.domain.symbols import UNKNOWN_FUNCTIONS
from overproof.grading.domain.tree import Exhausted, Node, TooLarge

DIGITS = 60
MORE_DIGITS = 120
"""A difference that is rounding noise shrinks with the digits; a true one stays."""

AGREE = 40
"""Digits in which equal values must agree: twenty fewer than are computed, for what cancellation eats."""

MAX_LOG2 = 8_000
"""Values beyond 2**8000 are not computed: trigonometric functions would need as many bits."""

MAX_FACTORIAL = 600
"""600! has 4,700 bits."""

MAX_TERMS = 1_000
"""Of a sum or product written with \\sum or \\prod; a sum inside a sum multiplies the work, so it is bounded as a whole."""

MAX_EFFORT = 300_000
"""Of one decision, in microseconds of an ordinary core: counted by operations, so that it ends alike on every machine."""

EFFORTS = {60: (4, 20), 120: (4, 25), 250: (4, 60), 1_000: (12, 1_000), 4_000: (80, 15_000)}
"""Digits → what a simple operation and a power, root or function cost, as measured."""

MAX_GAMMA_DIGITS = 250
"""The first gamma function of a process takes 25 ms at 250 digits, 2.5 s at 1,000 and 14 s at 4,000."""

Value = Any  # an mpf or mpc: mpmath has no types


class Undefined(ArithmeticError):
    """The expression has no finite value there."""


class Field:
    """One precision with its functions. Contexts are mpmath's own objects: the global precision is never touched."""

    def __init__(self, digits: int) -> None:
        self.ctx = mpmath.MPContext()
        self.ctx.dps = digits
        ctx = self.ctx
        self.functions: dict[str, Callable[..., Value]] = {
            "sin": ctx.sin, "cos": ctx.cos, "tan": ctx.tan, "cot": ctx.cot, "sec": ctx.sec, "csc": ctx.csc,
            "sinh": ctx.sinh, "cosh": ctx.cosh,
            "tanh": lambda value: self.saturating(value, "tanh"), "coth": lambda value: self.saturating(value, "coth"),
            "asin": ctx.asin, "acos": ctx.acos,
            "atan": ctx.atan, "acot": ctx.acot, "ln": ctx.ln, "abs": ctx.fabs, "floor": ctx.floor, "ceil": ctx.ceil,
            "sgn": ctx.sign, "conj": ctx.conj, "sqrt": ctx.sqrt, "binom": self.binomial, "min": min, "max": max,
            "cis": lambda angle: ctx.cos(angle) + ctx.mpc(0, 1) * ctx.sin(angle),
        }  # fmt: skip
        self.constants = {"π": +ctx.pi, "e": +ctx.e, "i": ctx.mpc(0, 1)}

        self.simple, self.costly = EFFORTS[digits]
        self.terms = 0  # of sums and products of this tree
        self.extreme = 0  # the largest binary exponent, up or down, since it was last set to 0

    def value(self, node: Node, at: Mapping[str, Value]) -> Value:
        """The tree's value with symbols as given. Raises Undefined or TooLarge."""
        self.terms = 0
        return self._value(node, at)

    def _value(self, node: Node, at: Mapping[str, Value]) -> Value:
        if node.op == "num":
            value = node.number
            bits = abs(value.numerator.bit_length() - value.denominator.bit_length())
            self.extreme = max(self.extreme, bits)
            return self.ctx.mpf(value.numerator) / value.denominator
        if node.op in {"sym", "bound"}:
            return at[node.name]
        if node.op == "const":
            return self.constant(node.name)
        if node.op in {"sum", "product"}:
            return self.finite(self.series(node, at))
        arguments = [self._value(arg, at) for arg in node.args]
        spend(self.costly if node.op in _COSTLY else self.simple * len(arguments))
        try:
            return self.finite(_RULES[node.op](self, node, arguments, at))
        except (ZeroDivisionError, ValueError, TypeError, OverflowError, KeyError, self.ctx.NoConvergence) as error:
            raise Undefined(f"{node.op} {node.name}: {type(error).__name__}") from None

    def series(self, node: Node, at: Mapping[str, Value]) -> Value:
        """A sum or product over whole numbers, term by term. Raises Undefined where its ends are not whole."""
        body, *ends = node.args
        low, high = (self._value(end, at) for end in ends)
        if not (self.ctx.isint(low) and self.ctx.isint(high)):
            raise Undefined("ends of a sum that are not whole")
        total = self.ctx.mpf(0 if node.op == "sum" else 1)
        for index in range(int(low), int(high) + 1):
            self.terms += 1
            if self.terms > MAX_TERMS:
                raise TooLarge("a sum of too many terms")
            term = self._value(body, {**at, node.name: self.ctx.mpf(index)})
            total = total + term if node.op == "sum" else self.finite(total * term)
        return total

    def binomial(self, above: Value, below: Value) -> Value:
        if max(abs(above), abs(below)) > MAX_FACTORIAL:
            raise TooLarge("a binomial beyond the limit")
        self.spend_gamma(above, 20)
        return self.ctx.binomial(above, below)

    def spend_gamma(self, value: Value, times: int) -> None:
        """What the gamma function costs: next to nothing of a whole number. Raises Exhausted."""
        if not self.ctx.isint(value):
            spend(self.costly * times)
            if self.ctx.dps > MAX_GAMMA_DIGITS:
                raise Exhausted("a gamma function to many digits")

    def saturating(self, value: Value, name: str) -> Value:
        """tanh and coth, whose distance from 1 is e^(-2x): where digits would round it away, more of them are asked for."""
        bits = int(3 * abs(self.ctx.re(value)))
        if bits > MAX_LOG2:
            raise TooLarge("a value too close to one")
        self.extreme = max(self.extreme, bits)
        return self.ctx.tanh(value) if name == "tanh" else self.ctx.coth(value)

    def apart(self, value: Value) -> Value:
        """A power or root; one that is hardly more or less than 1 asks for the digits that tell it from 1."""
        if gap := value - 1:
            self.extreme = max(self.extreme, -self.ctx.mag(gap))
        return value

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


def _sum(field: Field, _: Node, values: Sequence[Value], __: Mapping[str, Value]) -> Value:
    return field.ctx.fsum(values)


def _product(field: Field, _: Node, values: Sequence[Value], __: Mapping[str, Value]) -> Value:
    result = values[0]
    for value in values[1:]:
        result = field.finite(result * value)
    return result


def _power(field: Field, node: Node, values: Sequence[Value], _: Mapping[str, Value]) -> Value:
    base, exponent = values
    if base and field.ctx.mag(base) * abs(exponent) > MAX_LOG2 * 2:
        raise TooLarge("a power beyond the limit")
    share = exact(node.args[1])
    if share is not None and share.denominator % 2 and share.denominator > 1 and _is_negative(field, base):
        return (-field.ctx.root(-base, share.denominator)) ** share.numerator
    return field.apart(base**exponent)


def _root(field: Field, _: Node, values: Sequence[Value], __: Mapping[str, Value]) -> Value:
    value, index = values
    if index == 2:
        return field.ctx.sqrt(value)
    if index == field.ctx.floor(index) and int(index) % 2 and _is_negative(field, value):
        return -((-value) ** (1 / index))
    return field.apart(value ** (1 / index))


def _is_negative(field: Field, value: Value) -> bool:
    return not field.ctx.im(value) and field.ctx.re(value) < 0


def _factorial(field: Field, _: Node, values: Sequence[Value], __: Mapping[str, Value]) -> Value:
    if abs(values[0]) > MAX_FACTORIAL:
        raise TooLarge("a factorial beyond the limit")
    field.spend_gamma(values[0], 5)
    return field.ctx.gamma(values[0] + 1)


def _call(field: Field, node: Node, values: Sequence[Value], at: Mapping[str, Value]) -> Value:
    if node.name in UNKNOWN_FUNCTIONS:
        return _unknown_function(field, node.name, values[0])
    if node.name == "log":
        base = values[1] if len(values) > 1 else at.get(LOG_BASE, field.ctx.mpf(10))
        return field.ctx.ln(values[0]) / field.ctx.ln(base)
    if node.name == "exp":
        return _power(field, Node("pow", (Node("const", (), "e"), *node.args)), (field.constants["e"], values[0]), at)
    return field.functions[node.name](*values)


def _unknown_function(field: Field, name: str, value: Value) -> Value:
    """A fixed smooth function stands for f, g and h: f(x+1) equals only what is f(x+1)."""
    seed = sum(map(ord, name))
    return field.ctx.cos(value * seed / 97 + seed) + value / seed


_RULES: dict[str, Callable[[Field, Node, Sequence[Value], Mapping[str, Value]], Value]] = {
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

_COSTLY = frozenset({"pow", "root", "call", "factorial"})

LOG_BASE = "log base"
"""The pseudo-symbol that says what `\\log` without a base means."""


class Fields(threading.local):
    """The two precisions, once per thread: some of mpmath's functions change their context's precision while they run."""

    def __init__(self) -> None:
        self.coarse, self.fine = Field(DIGITS), Field(MORE_DIGITS)
        self.agree = self.coarse.ctx.mpf(10) ** -AGREE
        self.closer: dict[int, Field] = {}
        self.tiny = self.coarse.ctx.mpf(10) ** (-DIGITS // 2)
        self.effort = 0
        self.reach = 0

    def with_digits(self, digits: int) -> Field:
        """A field of so many digits, kept for the next time."""
        return self.closer.setdefault(digits, Field(digits)) if digits not in self.closer else self.closer[digits]


FIELDS = Fields()


def begin() -> None:
    """A new decision begins, with nothing spent."""
    FIELDS.effort = 0


def spend(effort: int) -> None:
    """Count arithmetic. Raises Exhausted past MAX_EFFORT."""
    FIELDS.effort += effort
    if FIELDS.effort > MAX_EFFORT:
        raise Exhausted("more arithmetic than one decision may do")

"""Are two expressions the same? Decided from their values to 60 digits.

Symbols get seeded values. A difference at one point proves that two expressions differ; agreement to 40 digits at every
point is taken as identity (Schwartz-Zippel for polynomials; for other functions a coincidence to 40 digits is not expected).
Numbers are compared relatively, so 2^-98 and 2^-99 differ and so do 10^20+1 and 10^20. What is written with factorials, sums,
roundings or powers of a negative number holds of whole numbers only, so there letters that stand for such get whole values.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from overproof.grading.domain.fields import AGREE, DIGITS, FIELDS, LOG_BASE, Field, Undefined, Value
from overproof.grading.domain.rational import exact
from overproof.grading.domain.tree import Node, TooLarge, number, substituted, symbols, walk

__all__ = ["AGREE", "DIGITS", "is_beyond", "linear", "proportional", "real_value", "same_value"]

ORDINARY_BITS = 60
"""Numbers within 2**±60 and agreement to 40 digits: two that differ by less than that are not met by chance."""

CLOSE_DIGITS = (250, 1_000, 4_000)

POINTS = 3
SIGNED = 100
"""Number of the first point with negative symbols."""

WIDE = 1_000
"""Number of the first point with symbols of other sizes."""
WIDE_SCALES = (7, 61, 997)

WHOLE = 2_000
"""Number of the first point with whole numbers."""
WHOLE_VALUES = (*range(1, 13), 17, 29, 64, 101)
"""All remainders by 2, 3, 4, 5 and 6, and some farther out; polynomials of a lower degree than twelve are told apart."""
WHOLE_NAMES = frozenset("jklmnMN")
"""Letters that stand for whole numbers where whole numbers are asked for."""
MIN_WHOLE = 8
"""Values at which both must exist: a product of factorials may pass its limit at the last ones."""

FAR = 3_000
"""Number of the first point farther out than any number of the expressions: beyond every bend of a |x - 10^6|."""

MAX_SYMBOLS = 12


def _point(field: Field, names: frozenset[str], index: int) -> dict[str, Value]:
    """The seeded values of the symbols at point `index`, between 1/2 and 3, from SIGNED on some of them negative."""
    if FAR > index >= WHOLE:
        return {name: _whole(field, name, index, len(names)) for name in names}
    if index >= FAR:
        far = field.ctx.mpf(2) ** FIELDS.reach * (-1 if index % 2 else 1)
        return {name: _seeded(field, f"{name}/{index}") * far for name in names}
    scale = WIDE_SCALES[(index - WIDE) % len(WIDE_SCALES)] if index >= WIDE else 1
    return {name: _seeded(field, f"{name}/{index}") * scale * (-1 if _is_flipped(name, index) else 1) for name in names}


def _whole(field: Field, name: str, index: int, n_names: int) -> Value:
    """The whole values one after the other, for several symbols each in an order of its own; letters of reals stay real."""
    if name not in WHOLE_NAMES:
        return _seeded(field, f"{name}/{index}")
    turn = 0 if n_names == 1 else zlib.crc32(f"{name}/{index}".encode())
    return field.ctx.mpf(WHOLE_VALUES[(index - WHOLE + turn) % len(WHOLE_VALUES)])


def _seeded(field: Field, seed: str) -> Value:
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
    same = any_log_base(one, other, lambda base: _same_at_points(one, other, names, base))
    if not same and names & WHOLE_NAMES and (_is_discrete(one) or _is_discrete(other)):
        return any_log_base(one, other, lambda base: _same_at_whole_numbers(one, other, names, base))
    return same


def _is_discrete(node: Node) -> bool:
    """Whether it is written with what whole numbers are made for: factorials, sums, roundings, powers of a negative number."""
    return any(
        part.op in {"factorial", "sum", "product"}
        or part.name in {"floor", "ceil", "binom", "gcd", "lcm"}
        or (part.op == "pow" and _is_negative(part.args[0]) and bool(symbols(part.args[1])))
        for part in walk(node)
    )


def _is_negative(node: Node) -> bool:
    value = exact(node) if not symbols(node) else None
    return value is not None and value < 0


def _same_at_whole_numbers(one: Node, other: Node, names: frozenset[str], log_base: int) -> bool | None:
    agreed = 0
    for index in range(WHOLE, WHOLE + len(WHOLE_VALUES)):
        try:
            same = _same_at(one, other, names, index, log_base)
        except (Undefined, TooLarge):
            continue
        if not same:
            return False
        agreed += 1
    return True if agreed >= MIN_WHOLE else None


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
    parts = (*walk(one), *walk(other))
    bent, signed = (any(part.name in kind for part in parts) for kind in (STEPPED, {"abs", "sgn"}))
    rooted = len(names) == 1 and any(part.op == "root" for part in parts)
    if bent:
        same = _same_from(WIDE, one, other, names, log_base)
    elif signed:
        same = _same_from(SIGNED, one, other, names, log_base)
    elif rooted:
        same = _same_from(SIGNED, one, other, names, log_base, only_real=True) is not False
    return same and (not (bent or signed or rooted) or _same_far_out(one, other, names, log_base, not bent))


def _same_far_out(one: Node, other: Node, names: frozenset[str], log_base: int, only_real: bool) -> bool:
    """Whether no point far beyond the numbers of the expressions tells them apart; where they have no value there, none does."""
    FIELDS.reach = 2 * FIELDS.coarse.extreme + 10
    try:
        return _same_from(FAR, one, other, names, log_base, only_real=only_real) is not False
    except TooLarge:
        return True


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
    field = FIELDS.coarse
    field.extreme = 0
    at = _at(field, names, index, log_base)
    left, right = field.value(one, at), field.value(other, at)
    if only_real and (left.imag or right.imag):
        raise Undefined("not real")
    scale = max(abs(left), abs(right))
    if scale > FIELDS.tiny:
        near = bool(abs(left - right) <= scale * FIELDS.agree)
        return near and (
            field.extreme <= ORDINARY_BITS or _same_closely(one, other, names, index, log_base, field.extreme)
        )
    if left == right or _both_vanish(one, other, names, index, log_base, scale):
        return not scale or _same_closely(one, other, names, index, log_base, field.extreme)
    return False


def _same_closely(one: Node, other: Node, names: frozenset[str], index: int, log_base: int, extreme: int) -> bool:
    """Where very large or small numbers take part, so many digits that `√(10^100 + 1)` and `10^50` come apart."""
    for digits in CLOSE_DIGITS:
        if digits < extreme and digits != CLOSE_DIGITS[-1]:
            continue
        field = FIELDS.with_digits(digits)
        field.extreme = 0
        at = _at(field, names, index, log_base)
        left, right = field.value(one, at), field.value(other, at)
        extreme = max(extreme, field.extreme)  # more digits may show that still more are needed
        if digits >= extreme:
            break
    scale = max(abs(left), abs(right))
    if scale < field.ctx.mpf(10) ** -(3 * field.ctx.dps // 4):
        return True  # noise around zero: a true number of that size would have asked for more digits
    return bool(abs(left - right) <= scale * field.ctx.mpf(10) ** -(field.ctx.dps // 2))


def _both_vanish(one: Node, other: Node, names: frozenset[str], index: int, log_base: int, scale: Value) -> bool:
    """Tiny values: noise around zero shrinks when the digits double, a true tiny number does not."""
    at = _at(FIELDS.fine, names, index, log_base)
    left, right = FIELDS.fine.value(one, at), FIELDS.fine.value(other, at)
    finer = max(abs(left), abs(right))
    return bool(abs(left - right) <= finer * FIELDS.agree or finer < scale * FIELDS.agree)


def _at(field: Field, names: frozenset[str], index: int, log_base: int) -> dict[str, Value]:
    return _point(field, names, index) | {LOG_BASE: field.ctx.mpf(log_base) if log_base else field.constants["e"]}


def real_value(node: Node) -> Value | None:
    """The value of a constant real expression, to order and round it; None when it has symbols, is complex or has no value."""
    if symbols(node):
        return None
    try:
        value = FIELDS.coarse.value(node, {})
    except (Undefined, TooLarge):
        return None
    return None if abs(value.imag) > FIELDS.agree else value.real


def linear(node: Node, name: str) -> tuple[Node, Node] | None:
    """Value at 0 and slope of an expression that is linear in a symbol, as trees; None for what is not linear in it."""
    symbol = Node("sym", (), name)
    low, middle, high = (substituted(node, symbol, number(value)) for value in range(3))
    slope, next_slope = (
        Node("add", (above, Node("neg", (below,)))) for below, above in ((low, middle), (middle, high))
    )
    line = Node("add", (low, Node("mul", (slope, symbol))))
    return (low, slope) if same_value(slope, next_slope) and same_value(line, node) else None


def is_beyond(node: Node) -> bool:
    """Whether a constant expression asks for a value beyond the limits."""
    try:
        FIELDS.coarse.value(node, dict.fromkeys(symbols(node), FIELDS.coarse.ctx.mpf(2)))
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
    is_bent = any(part.name in {"abs", "sgn"} or part.op == "root" for part in (*walk(one), *walk(other)))
    indices = (*range(2 * POINTS), *(range(SIGNED, SIGNED + 2 * POINTS) if is_bent else ()))
    ratios = [ratio for index in indices if (ratio := _ratio_at(one, other, names, index)) is not None]
    if len(ratios) < POINTS:
        return None
    tolerance = abs(ratios[0]) * FIELDS.agree
    if positive and (abs(ratios[0].imag) > tolerance or ratios[0].real < 0):
        return False
    return bool(ratios[0]) and all(abs(ratio - ratios[0]) <= tolerance for ratio in ratios)


def _ratio_at(one: Node, other: Node, names: frozenset[str], index: int) -> Value | None:
    field = FIELDS.coarse
    at = _at(field, names, index, 10)
    try:
        return field.finite(field.value(one, at) / field.value(other, at))
    except (Undefined, ZeroDivisionError):
        return None

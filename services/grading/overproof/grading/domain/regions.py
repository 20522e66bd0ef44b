"""Subsets of the real line: intervals, unions, inequalities and finite sets, in one form that can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from overproof.grading.domain.numeric import real_value, same_value
from overproof.grading.domain.tree import Node, TooLarge

INFINITY = Node("const", (), "∞")
MINUS_INFINITY = Node("neg", (INFINITY,))


class Span(NamedTuple):
    """All reals from `low` to `high`, each end in or out. A single number is a span closed at both ends."""

    low: Node
    low_in: bool
    high: Node
    high_in: bool


REALS = (Span(MINUS_INFINITY, False, INFINITY, False),)


def infinity_sign(node: Node) -> int:
    """1 for ∞, -1 for -∞, 0 for anything else."""
    if node == INFINITY:
        return 1
    return -1 if node == MINUS_INFINITY else 0


def is_bound(node: Node) -> bool:
    """Whether a span may end there: at a real constant or an infinity."""
    return infinity_sign(node) != 0 or real_value(node) is not None


def order(node: Node) -> Any:
    """A number that sorts ends of spans. The node is a bound."""
    sign = infinity_sign(node)
    return sign * float("inf") if sign else real_value(node)


def same_end(one: Node, other: Node) -> bool:
    """Whether two ends are the same number or the same infinity."""
    if infinity_sign(one) or infinity_sign(other):
        return infinity_sign(one) == infinity_sign(other)
    try:
        return bool(same_value(one, other))
    except TooLarge:
        return False


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same set as disjoint spans from left to right; empty spans go, touching ones are joined."""
    merged: list[Span] = []
    for span in sorted(filter(_is_inhabited, spans), key=lambda span: (order(span.low), not span.low_in)):
        if merged and _touch(merged[-1], span):
            merged[-1] = _hull(merged[-1], span)
        else:
            merged.append(span)
    return tuple(merged)


def _is_inhabited(span: Span) -> bool:
    if same_end(span.low, span.high):
        return span.low_in and span.high_in
    return bool(order(span.low) < order(span.high))


def _touch(left: Span, right: Span) -> bool:
    if same_end(left.high, right.low):
        return left.high_in or right.low_in
    return bool(order(right.low) < order(left.high))


def _hull(left: Span, right: Span) -> Span:
    if same_end(left.high, right.high):
        return left._replace(high_in=left.high_in or right.high_in)
    return left if order(left.high) > order(right.high) else left._replace(high=right.high, high_in=right.high_in)


def without(points: Sequence[Node]) -> tuple[Span, ...]:
    """All reals but the given ones."""
    ends = [MINUS_INFINITY, *sorted(points, key=order), INFINITY]
    return tuple(Span(low, False, high, False) for low, high in pairwise(ends))


def intersect(one: Sequence[Span], other: Sequence[Span]) -> tuple[Span, ...]:
    """The reals that are in both."""
    return tuple(span for left in one for right in other if _is_inhabited(span := _overlap(left, right)))


def _overlap(left: Span, right: Span) -> Span:
    low, low_in = _inner(left.low, left.low_in, right.low, right.low_in, 1)
    high, high_in = _inner(left.high, left.high_in, right.high, right.high_in, -1)
    return Span(low, low_in, high, high_in)


def _inner(one: Node, one_in: bool, other: Node, other_in: bool, side: int) -> tuple[Node, bool]:
    if same_end(one, other):
        return one, one_in and other_in
    return (one, one_in) if (order(one) - order(other)) * side > 0 else (other, other_in)


def same_region(one: Sequence[Span], other: Sequence[Span]) -> bool:
    """Whether two merged regions are the same set."""
    return len(one) == len(other) and all(_same_span(left, right) for left, right in zip(one, other, strict=True))


def _same_span(one: Span, other: Span) -> bool:
    kinds = (one.low_in, one.high_in) == (other.low_in, other.high_in)
    return kinds and same_end(one.low, other.low) and same_end(one.high, other.high)


def ray(relation: str, bound: Node) -> tuple[Span, ...]:
    """The reals x with `x relation bound`."""
    if relation == "≠":
        return without([bound])
    if relation == "=":
        return (Span(bound, True, bound, True),)
    closed = relation in {"≤", "≥"}
    if relation in {"<", "≤"}:
        return (Span(MINUS_INFINITY, False, bound, closed),)
    return (Span(bound, closed, INFINITY, False),)

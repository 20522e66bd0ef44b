"""Forms that are subsets of the real line: which ones, and are two of them the same set?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.regions import (
    REALS,
    Span,
    infinity_sign,
    intersect,
    is_bound,
    merge,
    order,
    ray,
    same_region,
    without,
)
from overproof.grading.domain.solving import FLIPPED, outside, solved
from overproof.grading.domain.tree import Node, number, symbols

_INEQUALITIES = frozenset("<>≤≥≠")
_REGIONAL = frozenset({Kind.UNION, Kind.DIFFERENCE, Kind.REALS})
_NEVER_A_REGION = frozenset({Kind.SCALAR, Kind.WORDS, Kind.MATRIX, Kind.BASED, Kind.RATIO})


def is_regional(form: Form) -> bool:
    """Whether a form is an inequality, a union or a half-open interval, or a list of such joined by `or`, `and` or commas."""
    if form.kind is Kind.LIST:
        if form.text in {"∨", "∧"}:
            return any(is_regional(item) for item in form.items)
        return all(_is_inequality(item) for item in form.items) and len(_variables(form)) == 1
    if form.kind is Kind.RELATION:
        return bool(_INEQUALITIES & set(form.text))
    return form.kind in _REGIONAL or (form.kind is Kind.TUPLE and form.text in {"(]", "[)"})


def _is_inequality(form: Form) -> bool:
    return form.kind is Kind.RELATION and bool(_INEQUALITIES & set(form.text))


def same_regional(one: Form, other: Form) -> bool | None:
    """Whether two forms describe the same set of reals; `x > 2` is (2, ∞) but not `y > 2`."""
    if one.kind is other.kind is Kind.TUPLE and one.text != other.text:
        return False
    if _is_improper(one) != _is_improper(other):
        return False
    left, right = region_of(one), region_of(other)
    if left is not None and right is not None:
        return same_region(left, right) and len(_variables(one) | _variables(other)) < 2
    return False if _is_no_region(one) or _is_no_region(other) else None


def _is_improper(form: Form) -> bool:
    """Whether an interval in it claims to contain an infinity: `[-∞, 5)`."""
    if form.kind is Kind.TUPLE and len(form.items) == 2:
        ends = zip(form.items, form.text, "[]", strict=False)
        return any(item.node is not None and infinity_sign(item.node) and sign == shut for item, sign, shut in ends)
    return any(_is_improper(item) for item in form.items)


def _is_no_region(form: Form) -> bool:
    """Values, words, lists of values and vectors: never the same as a set of reals."""
    if form.kind is Kind.LIST or (form.kind is Kind.TUPLE and len(form.items) > 2):
        return all(item.kind is Kind.SCALAR for item in form.items)
    return form.kind in _NEVER_A_REGION


def _variables(form: Form) -> frozenset[str]:
    """The symbols that a relation's sides are made of; those of other regions do not count."""
    if form.kind is Kind.RELATION:
        return frozenset().union(*(symbols(item.node) for item in form.items if item.node is not None)) - {"?"}
    return (
        frozenset().union(*(_variables(item) for item in form.items))
        if form.kind in {Kind.LIST, Kind.UNION}
        else frozenset()
    )


def region_of(form: Form) -> tuple[Span, ...] | None:
    """The set of reals that a form describes, merged; None when it is not one with constant real ends."""
    spans = _spans(form)
    return None if spans is None else merge(spans)


def _spans(form: Form) -> Sequence[Span] | None:
    rule = _REGION_RULES.get(form.kind)
    return rule(form) if rule is not None else None


def _interval(form: Form) -> Sequence[Span] | None:
    if len(form.items) != 2 or any(item.node is None or not is_bound(item.node) for item in form.items):
        return None
    low, high = (item.node or number(0) for item in form.items)
    low_in, high_in = form.text[0] == "[", form.text[1] == "]"
    if (low_in and infinity_sign(low)) or (high_in and infinity_sign(high)) or order(low) > order(high):
        return None  # `[-∞, 5)` and `[4, 1)` are no intervals
    if order(low) == order(high) and not (low_in and high_in):
        return None  # `(1, 1)` is a point
    return [Span(low, low_in, high, high_in)]


def _points(form: Form) -> Sequence[Span] | None:
    nodes = [item.node for item in form.items if item.node is not None and is_bound(item.node)]
    return [Span(node, True, node, True) for node in nodes] if len(nodes) == len(form.items) else None


def _united(form: Form) -> Sequence[Span] | None:
    parts = [_spans(item) for item in form.items]
    return None if None in parts else [span for part in parts if part is not None for span in part]


def _listed(form: Form) -> Sequence[Span] | None:
    """`or` unites, `and` intersects; a comma is an `and` as long as something satisfies both."""
    if form.text == "∨":
        return _united(form)
    region: Sequence[Span] = REALS
    for item in form.items:
        spans = _spans(item)
        if spans is None:
            return None
        region = intersect(region, spans)
    return region if region or form.text == "∧" else _united(form)


def _difference(form: Form) -> Sequence[Span] | None:
    whole = _spans(form.items[0])
    taken = [item.node for part in form.items[1:] for item in part.items if part.kind is Kind.SET]
    nodes = [node for node in taken if node is not None and is_bound(node)]
    if whole is None or len(nodes) != len(taken) or any(part.kind is not Kind.SET for part in form.items[1:]):
        return None
    return intersect(whole, without(nodes))


def _inequality(form: Form) -> Sequence[Span] | None:
    """A chain with one lone symbol, such as `1 < x ≤ 3` or `x ≠ 2`; also `|x-1| < 2` and `2x+5 ≥ 0`."""
    if form.text == "≠" and form.items[1].kind is Kind.LIST:
        return _points_left_out(form)
    branches = outside(form)
    if branches:
        parts = [_inequality(branch) for branch in branches]
        return None if None in parts else [span for part in parts if part is not None for span in part]
    if (
        len(form.items) == 3
        and (middle := form.items[1].node) is not None
        and middle.op == "call"
        and middle.name == "abs"
    ):
        return _listed(Form(Kind.LIST, "∧", (_link(form, 0), _link(form, 1))))
    form = solved(form)
    nodes = [item.node for item in form.items]
    at = next((index for index, node in enumerate(nodes) if node is not None and node.op == "sym"), None)
    if at is None or len(nodes) > 3 or (len(nodes) == 3 and at != 1):
        return None
    region: Sequence[Span] = REALS
    for index, node in enumerate(nodes):
        if index == at:
            continue
        if node is None or not is_bound(node):
            return None
        sign = form.text[min(index, at)]
        region = intersect(region, _half_line(sign if index > at else FLIPPED.get(sign, ""), node))
    return region


def _link(chain: Form, at: int) -> Form:
    """One of the two inequalities of a chain of three."""
    return chain._replace(items=chain.items[at : at + 2], text=chain.text[at])


def _points_left_out(form: Form) -> Sequence[Span] | None:
    """`x ≠ ±1`."""
    nodes = [item.node for item in form.items[1].items if item.node is not None and is_bound(item.node)]
    is_lone = form.items[0].node is not None and form.items[0].node.op == "sym"
    return without(nodes) if is_lone and len(nodes) == len(form.items[1].items) else None


def _half_line(sign: str, bound: Node) -> tuple[Span, ...]:
    infinite = infinity_sign(bound)
    if infinite:
        return REALS if (sign == "<") == (infinite > 0) else ()
    return ray(sign, bound)


_REGION_RULES: dict[Kind, Callable[[Form], Sequence[Span] | None]] = {
    Kind.TUPLE: _interval,
    Kind.SET: _points,
    Kind.UNION: _united,
    Kind.LIST: _listed,
    Kind.DIFFERENCE: _difference,
    Kind.RELATION: _inequality,
    Kind.REALS: lambda _: REALS,
}

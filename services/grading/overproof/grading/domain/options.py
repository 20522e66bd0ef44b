"""The options of a policy, applied to forms: strictness, order, a tolerance for decimals."""

from __future__ import annotations

from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.numeric import real_value


def in_order(form: Form) -> Form:
    """The form with its lists as sequences whose order counts."""
    items = tuple(in_order(item) for item in form.items)
    if form.kind is Kind.LIST and form.text != "∧":
        return form._replace(kind=Kind.TUPLE, text=",", items=items)
    return form._replace(items=items)


def shape(form: Form) -> tuple[object, ...]:
    """What strictness asks to be the same: the kind of thing, its unit, its relation signs, the shapes of its members."""
    signs = form.text if form.kind is Kind.RELATION else ""
    members = sorted((shape(item) for item in form.items), key=repr)
    return (str(form.kind), form.unit, signs, *members)


def is_near(one: Form, other: Form, tolerance: float) -> bool:
    """Whether two values, or lists and tuples of values in the same order, differ by at most `tolerance`, relatively."""
    if one.kind is not other.kind or len(one.items) != len(other.items) or one.text != other.text:
        return False
    if one.items:
        return all(is_near(left, right, tolerance) for left, right in zip(one.items, other.items, strict=True))
    if one.node is None or other.node is None or one.unit != other.unit:
        return False
    left, right = real_value(one.node), real_value(other.node)
    if left is None or right is None:
        return False
    return bool(abs(left - right) <= max(abs(left), abs(right)) * tolerance)

"""Two values with their units: are they equal, and by which kind of arithmetic?"""

from __future__ import annotations

from typing import NamedTuple

from overproof.grading.domain.families import same_with_constants
from overproof.grading.domain.forms import Form
from overproof.grading.domain.numeric import same_value
from overproof.grading.domain.rational import exact
from overproof.grading.domain.regions import infinity_sign
from overproof.grading.domain.tree import Node, number
from overproof.grading.domain.units import as_measure, contradict, factors_of, is_measure


class Scalars(NamedTuple):
    """Whether two values are equal, and by which kind of arithmetic."""

    equal: bool | None
    stage: str


def same_scalar(one: Form, other: Form) -> Scalars:
    """Percent and degrees: `10%` is 10 and 0.1, `180°` is 180 and π; 10 is never 0.1."""
    one, other = _with_lone_unit(one, other), _with_lone_unit(other, one)
    if one.node is None or other.node is None:
        return Scalars(None, "structural")
    if "choice" in {one.text, other.text} and one.node.op == other.node.op == "sym":
        return Scalars(one.node.name.lower() == other.node.name.lower(), "structural")
    if one.unit != other.unit and one.unit and other.unit and (decided := _in_units(one, other)) is not None:
        return decided
    if one.unit != other.unit and "percent" in {one.unit, other.unit} and _is_share(one) and _is_share(other):
        return _same_nodes(_plain(one), _plain(other))
    result = _same_nodes(one.node, other.node)
    marked = {"percent", "degree"} & {one.unit, other.unit}
    if result.equal or one.unit == other.unit or not marked:
        return result
    return _same_nodes(_plain(one), _plain(other))


def _with_lone_unit(form: Form, other: Form) -> Form:
    """`8 m` as eight metres where the other answer has a unit that is measured in."""
    if form.node is None or form.unit or not is_measure(other.unit):
        return form
    measure = as_measure(form.node)
    return form if measure is None else form._replace(node=measure[0], unit=measure[1])


def _in_units(one: Form, other: Form) -> Scalars | None:
    """Carried into each other where both measure the same, wrong where they cannot be the same; None where they may."""
    if {one.unit, other.unit} == {"degree", "radian"}:
        return _same_nodes(_plain(one), _plain(other))
    if (factors := factors_of(one.unit, other.unit)) is not None:
        left, right = (
            Node("mul", (form.node or number(0), number(by))) for form, by in zip((one, other), factors, strict=True)
        )
        return _same_nodes(left, right)
    return Scalars(False, "structural") if contradict(one.unit, other.unit) else None


def _is_share(form: Form) -> bool:
    """A number between 0 and 1: without a percent sign it is a share, so `0.5%` is not 0.5, as `50%` may be 50."""
    value = exact(form.node) if form.node is not None else None
    return value is not None and 0 < abs(value) < 1


def _plain(form: Form) -> Node:
    """The value with its percent or degree mark carried out."""
    node = form.node if form.node is not None else number(0)
    return Node(form.unit, (node,)) if form.unit in {"percent", "degree"} else node


def _same_nodes(one: Node, other: Node) -> Scalars:
    if one == other:
        return Scalars(True, "structural")
    if infinity_sign(one) or infinity_sign(other):
        return Scalars(infinity_sign(one) == infinity_sign(other), "structural")
    left, right = exact(one), exact(other)
    if left is not None and right is not None:
        return Scalars(left == right, "rational")
    same = same_value(one, other)
    return Scalars(same_with_constants(one, other) if same is False else same, "numeric")

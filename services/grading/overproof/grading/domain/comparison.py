"""Are two forms the same answer? True and False are certain within the written policy; None is for the slow path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.numeric import proportional, same_value
from overproof.grading.domain.rational import exact
from overproof.grading.domain.regional import is_regional, same_regional
from overproof.grading.domain.regions import infinity_sign
from overproof.grading.domain.tree import Node, number, symbols, walk
from overproof.grading.domain.units import contradict, factors_of


class Scalars(NamedTuple):
    """Whether two values are equal, and by which kind of arithmetic."""

    equal: bool | None
    stage: str


def same_form(one: Form, other: Form) -> bool | None:
    """Whether two forms are the same answer. Symmetric. Raises TooLarge."""
    if one == other and one.kind is not Kind.OPAQUE:
        return True
    if Kind.CHOICE in {one.kind, other.kind}:
        return _same_choice(one, other)
    if Kind.OPAQUE in {one.kind, other.kind}:
        return None
    if is_regional(one) or is_regional(other):
        same = same_regional(one, other)
        return _same_inequality(one, other) if same is None else same
    if Kind.RELATION in {one.kind, other.kind}:
        return _same_relation(one, other)
    if (one.kind is Kind.LIST) != (other.kind is Kind.LIST):
        restated = _restated(one if one.kind is Kind.LIST else other)
        if restated is not None:
            return same_form(restated, other if one.kind is Kind.LIST else one)
    rule = _RULES.get((one.kind, other.kind))
    if rule is not None:
        return rule(one, other)
    rule = _RULES.get((other.kind, one.kind))
    return rule(other, one) if rule is not None else False


def _same_choice(one: Form, other: Form) -> bool | None:
    """`(B) 12` is the letter B and the value 12, but not `(B) 13`."""
    if one.kind is Kind.CHOICE and other.kind is Kind.CHOICE:
        return one.text == other.text and same_form(one.items[0], other.items[0]) is not False
    choice, answer = (one, other) if one.kind is Kind.CHOICE else (other, one)
    if answer.node is not None and answer.node.op == "sym" and len(answer.node.name) == 1:
        return answer.node.name == choice.text
    return same_form(choice.items[0], answer)


def same_scalar(one: Form, other: Form) -> Scalars:
    """Two values with their units. Percent and degrees: `10%` is 10 and 0.1, `180°` is 180 and π; 10 is never 0.1."""
    if one.node is None or other.node is None:
        return Scalars(None, "structural")
    if "choice" in {one.text, other.text} and one.node.op == other.node.op == "sym":
        return Scalars(one.node.name.lower() == other.node.name.lower(), "structural")
    if one.unit != other.unit and one.unit and other.unit:
        if {one.unit, other.unit} == {"degree", "radian"}:
            return _same_nodes(_plain(one), _plain(other))
        if (factors := factors_of(one.unit, other.unit)) is not None:
            return _same_nodes(
                *(Node("mul", (node, number(by))) for node, by in zip((one.node, other.node), factors, strict=True))
            )
        if contradict(one.unit, other.unit):
            return Scalars(False, "structural")
    result = _same_nodes(one.node, other.node)
    marked = {"percent", "degree"} & {one.unit, other.unit}
    if result.equal or one.unit == other.unit or not marked:
        return result
    return _same_nodes(_plain(one), _plain(other))


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
    return Scalars(same_value(one, other), "numeric")


def _scalars(one: Form, other: Form) -> bool | None:
    return same_scalar(one, other).equal


def _members(one: Form, other: Form) -> bool | None:
    """Lists and sets: any order. A set counts a member once."""
    left, right = one.items, other.items
    if Kind.SET in {one.kind, other.kind}:
        left, right = _distinct(left), _distinct(right)
    return _matched(left, right)


def _distinct(items: Sequence[Form]) -> tuple[Form, ...]:
    kept: list[Form] = []
    for item in items:
        if not any(same_form(item, other) for other in kept):
            kept.append(item)
    return tuple(kept)


def _matched(left: Sequence[Form], right: Sequence[Form]) -> bool | None:
    """Whether the members pair off. What is the same is the same as all of its kind, so the first partner will do."""
    if len(left) != len(right):
        return False
    single, waiting = [], list(right)
    for item in left:
        partner = next((index for index, other in enumerate(waiting) if same_form(item, other)), None)
        if partner is None:
            single.append(item)
        else:
            del waiting[partner]
    if not single:
        return True
    hopeless = any(all(same_form(one, other) is False for other in waiting) for one in single) or any(
        all(same_form(one, other) is False for one in single) for other in waiting
    )
    return False if hopeless else None


def _restated(form: Form) -> Form | None:
    """The last member of a list that says one thing several times, `15 39/40 = 639/40` in two boxes; None for other lists."""
    last = form.items[-1]
    return last if all(same_form(item, last) for item in form.items) else None


def _in_order(left: Sequence[Form], right: Sequence[Form]) -> bool | None:
    if len(left) != len(right):
        return False
    verdicts = [same_form(one, other) for one, other in zip(left, right, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _tuples(one: Form, other: Form) -> bool | None:
    """Order counts; so do the brackets of two members (an interval), not those of three (a vector)."""
    if one.text != other.text and (len(one.items) < 3 or not {one.text, other.text} <= {"()", "[]"}):
        return False
    return _in_order(one.items, other.items)


def _single(one: Form, other: Form) -> bool | None:
    """A set of one member is that member."""
    members = _distinct(one.items)
    return same_form(members[0], other) if len(members) == 1 else False


def _matrix_and_tuple(one: Form, other: Form) -> bool | None:
    """A column is the vector with its entries, `[[1,2],[3,4]]` the matrix of its rows."""
    if all(item.kind is Kind.TUPLE for item in other.items):
        return _in_order(one.items, tuple(item._replace(text="()") for item in other.items))
    if any(len(row.items) != 1 for row in one.items) or other.text not in {"()", "[]"}:
        return False
    return _in_order([row.items[0] for row in one.items], other.items)


def _ratios(one: Form, other: Form) -> bool | None:
    """`6:8` is `3:4`: cross products with the first part."""
    if len(one.items) != len(other.items):
        return False
    head, other_head = one.items[0], other.items[0]
    verdicts = [
        same_form(_times(head, other_part), _times(part, other_head))
        for part, other_part in zip(one.items[1:], other.items[1:], strict=True)
    ]
    return False if False in verdicts else None if None in verdicts else True


def _times(one: Form, other: Form) -> Form:
    nodes = tuple(form.node for form in (one, other) if form.node is not None)
    return Form(Kind.SCALAR, node=Node("mul", nodes))


def _ratio_and_scalar(one: Form, other: Form) -> bool | None:
    """`3:4` is 3/4."""
    if len(one.items) != 2 or one.items[0].node is None or one.items[1].node is None:
        return False
    return same_form(Form(Kind.SCALAR, node=Node("div", (one.items[0].node, one.items[1].node))), other)


# --- relations --------------------------------------------------------------------------------------------------------


def _same_relation(one: Form, other: Form) -> bool | None:
    if one.kind is not other.kind:
        relation, answer = (one, other) if one.kind is Kind.RELATION else (other, one)
        value = value_of(relation)
        return False if value is None else same_form(value, answer)
    if set(one.text) != {"="} or set(other.text) != {"="}:
        return None
    return _same_equation(one, other)


def value_of(relation: Form) -> Form | None:
    """What an equation says its left side is, when that is a name (`x`, `f(3)`, `a+b`, words) or a computation of it.

    Of `x = √2 ≈ 1.41` it is √2: what stands after `≈` is taken only when nothing better is there.
    """
    if set(relation.text) - {"=", "≈"}:
        return None
    head, exact_end = relation.items[0], relation.text.find("≈")
    if exact_end >= 0 and not (exact_end == 0 and is_head(head)):
        return relation.items[exact_end]
    value = relation.items[-1]
    if is_head(head) or same_form(head, value):
        return value
    is_name = len(relation.items) == 2 and value.node is not None and value.node.op == "sym"
    return head if is_name else None


def is_head(form: Form) -> bool:
    """Whether a left side only names the answer: words, a symbol, a function at a point, sums and products of symbols."""
    if form.kind is Kind.WORDS:
        return True
    if form.kind is Kind.TUPLE:
        return all(item.node is not None and item.node.op == "sym" for item in form.items)
    if form.node is None:
        return False
    if form.node.op == "call" and form.node.name in {"f", "g", "h"}:
        return True
    return bool(symbols(form.node)) and not any(part.op in {"num", "div", "neg"} for part in walk(form.node))


def _same_equation(one: Form, other: Form) -> bool | None:
    head, other_head = one.items[0], other.items[0]
    if head == other_head or Kind.WORDS in {head.kind, other_head.kind} or _are_function_heads(head, other_head):
        return same_form(one.items[-1], other.items[-1])
    left, right = _residual(one), _residual(other)
    if left is None or right is None:
        return None
    return proportional(left, right)


def _same_inequality(one: Form, other: Form) -> bool | None:
    """`2x > 4` and `2 < x`: both as a difference that is greater than 0, one a positive multiple of the other; else unknown."""
    left, right = _surplus(one), _surplus(other)
    if left is None or right is None or (one.text in "<>") != (other.text in "<>"):
        return None
    return proportional(left, right, positive=True) or None


def _surplus(relation: Form) -> Node | None:
    if relation.kind is not Kind.RELATION or relation.text not in {"<", ">", "≤", "≥"}:
        return None
    sides = relation.items if relation.text in {">", "≥"} else relation.items[::-1]
    return _residual(relation._replace(items=sides))


def _are_function_heads(one: Form, other: Form) -> bool:
    """`y` and `f(x)` name the same thing."""
    heads = [form.node for form in (one, other) if form.node is not None]
    names = {node.name for node in heads}
    return (
        len(heads) == 2 and "y" in names and any(node.op == "call" and node.name in {"f", "g", "h"} for node in heads)
    )


def _residual(equation: Form) -> Node | None:
    left, right = equation.items[0].node, equation.items[-1].node
    if left is None or right is None or len(equation.items) != 2:
        return None
    return Node("add", (left, Node("neg", (right,))))


_RULES: dict[tuple[Kind, Kind], Callable[[Form, Form], bool | None]] = {
    (Kind.SCALAR, Kind.SCALAR): _scalars,
    (Kind.LIST, Kind.LIST): _members,
    (Kind.SET, Kind.SET): _members,
    (Kind.SET, Kind.LIST): _members,
    (Kind.SET, Kind.SCALAR): _single,
    (Kind.TUPLE, Kind.TUPLE): _tuples,
    (Kind.MATRIX, Kind.MATRIX): lambda one, other: _in_order(one.items, other.items),
    (Kind.MATRIX, Kind.TUPLE): _matrix_and_tuple,
    (Kind.RATIO, Kind.RATIO): _ratios,
    (Kind.RATIO, Kind.SCALAR): _ratio_and_scalar,
}

"""Equations and inequalities: what they say of the answer, and when two of them say the same.

How their sides are compared comes as an argument: sides are forms of every kind.
"""

from __future__ import annotations

from collections.abc import Callable

from overproof.grading.domain.families import same_turns, same_up_to_constants, same_up_to_numbered_constants
from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.naming import by_name, is_named_call
from overproof.grading.domain.numeric import proportional, real_value
from overproof.grading.domain.symbols import UNKNOWN_FUNCTIONS
from overproof.grading.domain.tree import Node, substituted, symbols, walk

Same = Callable[[Form, Form], bool | None]

_TURNED = str.maketrans("<>≤≥", "><≥≤")


def same_relation(one: Form, other: Form, same: Same) -> bool | None:
    """Whether two forms, of which at least one is an equation, are the same answer."""
    if one.kind is not other.kind:
        relation, answer = (one, other) if one.kind is Kind.RELATION else (other, one)
        value = value_of(relation, same)
        return False if value is None else same(value, answer) or same_up_to_numbered_constants(value, answer)
    if set(one.text) != {"="} or set(other.text) != {"="}:
        return None
    return _same_equation(one, other, same)


def value_of(relation: Form, same: Same) -> Form | None:
    """What an equation says its left side is, when that is a name (`x`, `f(3)`, `a+b`, words) or a computation of it.

    Of `x = √2 ≈ 1.41` it is √2: what stands after `≈` is taken only when nothing better is there.
    """
    if set(relation.text) - {"=", "≈"}:
        return None
    head, exact_end = relation.items[0], relation.text.find("≈")
    if exact_end >= 0 and not (exact_end == 0 and is_head(head)):
        return relation.items[exact_end] if _are_close(relation.items[exact_end], relation.items[-1]) else None
    value = relation.items[-1]
    if is_head(head) or same(head, value):
        return value
    is_name = len(relation.items) == 2 and value.node is not None and value.node.op == "sym"
    return head if is_name else None


def _are_close(exact: Form, rounded: Form) -> bool:
    """Whether a number may be what another is about: `5 ≈ 7` says neither. Of what is no number nothing is known."""
    if exact.node is None or rounded.node is None or exact.unit or rounded.unit:
        return True
    value, about = real_value(exact.node), real_value(rounded.node)
    return value is None or about is None or bool(abs(value - about) <= MAX_ROUNDING * max(abs(value), abs(about)))


MAX_ROUNDING = 0.2
"""`3.5 ≈ 4` is the coarsest rounding that is met."""


def is_head(form: Form) -> bool:
    """Whether a left side only names the answer: words, a symbol, a function at a point, sums, products, ratios of symbols."""
    if form.kind is Kind.WORDS or is_named_call(form) or (form.kind is Kind.OPAQUE and "\\begin" in form.text):
        return True  # of `[..]^{-1} = [..]` the left side is the question
    if form.kind is Kind.TUPLE and form.text != "()":
        return False
    if form.kind in {Kind.TUPLE, Kind.RATIO}:
        return all(item.node is not None and item.node.op in {"sym", "mul"} and is_head(item) for item in form.items)
    if form.node is None:
        return False
    if is_unknown_call(form.node):
        return True
    if form.node.op == "sym" and {"+", "-"} & set(form.node.name):
        return False  # `a_{n+1} = 2^n` says something else of the sequence than `2^n`
    if form.node.op == "div" and all(arg.op == "sym" for arg in form.node.args):
        return True  # `m/n = 7/12`
    named = {"num", "neg"} if _is_of_points(form.node) else {"num", "div", "neg"}
    return bool(symbols(form.node)) and not any(part.op in named for part in walk(form.node))


def _is_of_points(node: Node) -> bool:
    """`AB/CD`: capital letters are points, and quotients of their distances are names as well."""
    return all(name.isupper() for name in symbols(node))


def _same_equation(one: Form, other: Form, same: Same) -> bool | None:
    head, other_head = one.items[0], other.items[0]
    if _steps_differ(one, other, same):
        return False
    if Kind.WORDS in {head.kind, other_head.kind}:
        return same(one.items[-1], other.items[-1]) if _may_name_the_same(head, other_head) else False
    if by_name(one) and by_name(other):
        left, right = by_name(one), by_name(other)
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    other = _with_argument_of(one, other)
    if (
        head == other.items[0]
        or (Kind.RATIO in {head.kind, other_head.kind} and same(head, other_head))
        or _name_a_function(one, other)
    ):
        values = one.items[-1], other.items[-1]
        return same(*values) or same_up_to_constants(*values) or same_turns(*values)
    if head.kind is other_head.kind is Kind.OPAQUE:
        return False  # two names that are not readable and not the same
    left_side, right_side = _residual(one), _residual(other)
    if left_side is None or right_side is None:
        return None
    return proportional(left_side, right_side)


def _steps_differ(one: Form, other: Form, same: Same) -> bool:
    """Whether of two chains of equal length a step between the ends differs, in its text where it is not readable."""
    if len(one.items) != len(other.items):
        return False
    return any(_is_other_step(*steps, same) for steps in zip(one.items[1:-1], other.items[1:-1], strict=True))


def _is_other_step(left: Form, right: Form, same: Same) -> bool:
    """Steps in other letters, `ab/2` and `bh/2`, may both be right."""
    if {left.kind, right.kind} <= {Kind.OPAQUE, Kind.MATRIX}:
        return left != right and not same(left, right)
    is_said_of_the_same = left.node is not None and right.node is not None and symbols(left.node) == symbols(right.node)
    return is_said_of_the_same and same(left, right) is False


def _may_name_the_same(one: Form, other: Form) -> bool:
    """`Area` and `A`, `total area` and `area`; not `AB` and `CD`, not `area` and `volume`."""
    if "letters" in {one.unit, other.unit}:
        return one.kind is other.kind and sorted(one.text) == sorted(other.text)
    if one.kind is not other.kind:
        return is_head(one) and is_head(other)
    left, right = set(one.text.split()), set(other.text.split())
    return left <= right or right <= left


def _with_argument_of(one: Form, other: Form) -> Form:
    """`f(t)=t^2` with the argument of `f(x)=...`, so that they can be compared."""
    head, other_head = one.items[0].node, other.items[0].node
    if (
        head is None
        or other_head is None
        or head.op != "call"
        or head._replace(args=()) != other_head._replace(args=())
    ):
        return other
    argument, other_argument = head.args[0], other_head.args[0]
    taken = frozenset().union(*(symbols(item.node) for item in other.items[1:] if item.node is not None))
    if {argument.op, other_argument.op} != {"sym"} or argument.name in taken:
        return other
    return other._replace(items=tuple(_renamed(item, other_argument, argument) for item in other.items))


def _renamed(form: Form, name: Node, value: Node) -> Form:
    node = None if form.node is None else substituted(form.node, name, value)
    return form._replace(node=node, items=tuple(_renamed(item, name, value) for item in form.items))


def same_inequality(one: Form, other: Form, same: Same) -> bool | None:
    """`2x > 4` and `2 < x`: both as a difference that is greater than 0, one a positive multiple of the other; chains term by term.

    What is not shown to be the same is unknown.
    """
    left, right = _ascending(one), _ascending(other)
    if left is None or right is None or left.text != right.text:
        return None
    if len(left.items) > 2:
        return _same_chain(left, right, same)
    left_side, right_side = _residual(left), _residual(right)
    if left_side is None or right_side is None:
        return None
    return proportional(left_side, right_side, positive=True) or None


def _same_chain(one: Form, other: Form, same: Same) -> bool | None:
    """Term by term; chains of names and nothing else that differ in one say different things."""
    if len(one.items) != len(other.items):
        return None
    verdicts = [same(item, other_item) for item, other_item in zip(one.items, other.items, strict=True)]
    if all(verdicts):
        return True
    nodes = [item.node for item in (*one.items, *other.items)]
    named = all(node is not None and node.op in {"sym", "call"} for node in nodes)
    return False if named and False in verdicts else None


def _ascending(relation: Form) -> Form | None:
    """An inequality read from its smaller side to its larger one; None for what is no inequality."""
    if relation.kind is not Kind.RELATION or not set(relation.text) <= set("<>≤≥"):
        return None
    if set(relation.text) <= set("<≤"):
        return relation
    turned = relation.text[::-1].translate(_TURNED)
    return relation._replace(items=relation.items[::-1], text=turned) if set(turned) <= set("<≤") else None


def _name_a_function(one: Form, other: Form) -> bool:
    """`y` and `f(x)`, or `y` and `f^{-1}(x)`, or `f` or `f_n` and `f(n)`, name the same thing."""
    heads = (one.items[0], other.items[0])
    nodes = [head.node for head in heads if head.node is not None]
    is_call = [is_named_call(head) or (head.node is not None and is_unknown_call(head.node)) for head in heads]
    if (
        len(nodes) == 2
        and is_call[0] != is_call[1]
        and nodes[0].name.partition("_")[0] == nodes[1].name.partition("_")[0]
    ):
        return True
    return any(is_call) and any(node == Node("sym", (), "y") for node in nodes)


def is_unknown_call(node: Node) -> bool:
    """`f(x)`, `f^{-1}(x)`, `P(x)`: a function of which nothing is known but its name."""
    return node.op == "call" and (node.name in UNKNOWN_FUNCTIONS or len(node.name) == 1)


def _residual(equation: Form) -> Node | None:
    left, right = equation.items[0].node, equation.items[-1].node
    if left is None or right is None or len(equation.items) != 2:
        return None
    return Node("add", (left, Node("neg", (right,))))

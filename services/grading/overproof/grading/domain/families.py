"""Answers with a letter that stands for every number of its kind: `π/6+2kπ, k∈ℤ`, `x^3+C`, `f(x)=cx`, `2 (mod 5)`.

Such a letter may be called otherwise, and whole turns may be counted from another one. How forms are compared comes as an argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import permutations

from overproof.grading.domain.forms import Form, Kind, symbols_of
from overproof.grading.domain.numeric import linear, same_value
from overproof.grading.domain.rational import exact
from overproof.grading.domain.tree import Node, number, substituted, symbols, walk

Same = Callable[[Form, Form], bool | None]

_PARAMETERS = frozenset({"k", "n", "m", "t", "s", "l", "j", "r", "u", "v", "c", "C", "\\lambda", "\\mu"})
"""Letters that parametrise a set of solutions without being declared."""

_VARIABLES = frozenset({"x", "y", "z", "t", "u", "v", "w", "\\theta"})
"""A constant is added to a function of one of these: `a+c` is a sum of two sides."""

_ARBITRARY = re.compile(r"[CcKk](?:_\{?\d\}?)?")
_CONSTANT = re.compile(r"[CcKkABDabm](?:_\{?\d\}?)?")
_NUMBERED = re.compile(r"[CcKk]_\{?\d\}?")
MAX_CONSTANTS = 3


def same_family(one: Form, other: Form, same: Same) -> bool | None:
    """Whether two forms, of which at least one declares a letter, are the same. A declaration may be left out, not contradicted."""
    if one.kind is other.kind is Kind.FAMILY and one.unit and other.unit and one.unit != other.unit:
        return False
    left, right = _body(one), _body(other)
    names_argument = _names_argument(left, _declared(one)) or _names_argument(right, _declared(other))
    if left.kind is not right.kind:
        left, right = _value(left), _value(right)
    verdict = same(left, right)
    if verdict or names_argument:
        return verdict
    renamed = _with_letter_of(left, right, _declared(one), _declared(other))
    if renamed is not None and (same(left, renamed) or _same_steps(left, renamed, one, other)):
        return True
    return verdict if verdict is None else _same_steps(left, right, one, other)


def _names_argument(body: Form, names: frozenset[str]) -> bool:
    """Whether what is declared is the argument of a function, `f(x)=x, x∈ℝ`: no letter to be called otherwise."""
    head = body.items[0].node if body.kind is Kind.RELATION else None
    return head is not None and head.op == "call" and bool(symbols(head) & names)


def _body(form: Form) -> Form:
    return form.items[0] if form.kind is Kind.FAMILY else form


def _declared(form: Form) -> frozenset[str]:
    return frozenset(form.text.split(",")) if form.kind is Kind.FAMILY else frozenset()


def _with_letter_of(left: Form, right: Form, names: frozenset[str], other_names: frozenset[str]) -> Form | None:
    """The second form with the letter of the first; None unless each has just one that the other lacks, at least one declared."""
    mine, theirs = symbols_of(left) - symbols_of(right), symbols_of(right) - symbols_of(left)
    if len(mine) != 1 or len(theirs) != 1:
        return None
    (letter,), (other_letter,) = mine, theirs
    if not (letter in names or other_letter in other_names):
        return None
    if letter not in names | _PARAMETERS or other_letter not in other_names | _PARAMETERS:
        return None
    return renamed(right, other_letter, letter)


def renamed(form: Form, old: str, new: str) -> Form:
    """The form with another name for a symbol."""
    node = None if form.node is None else substituted(form.node, Node("sym", (), old), Node("sym", (), new))
    return form._replace(node=node, items=tuple(renamed(item, old, new) for item in form.items))


def _same_steps(left: Form, right: Form, one: Form, other: Form) -> bool:
    """`a+bk` over the whole numbers: the same set for the same step, up to its sign, from any of its own members."""
    if "integers" not in {one.unit, other.unit} or {one.unit, other.unit} - {"integers", ""}:
        return False
    left, right = _value(left), _value(right)
    if left.kind is right.kind is Kind.LIST and len(left.items) == len(right.items):
        return all(
            any(_same_steps(item, partner, one, other) for partner in right.items) for item in left.items
        ) and all(any(_same_steps(item, partner, one, other) for partner in left.items) for item in right.items)
    steps = [_step(form, _declared(one) | _declared(other)) for form in (_value(left), _value(right))]
    if steps[0] is None or steps[1] is None:
        return False
    (start, step), (other_start, other_step) = steps[0], steps[1]
    if not (same_value(step, other_step) or same_value(step, Node("neg", (other_step,)))):
        return False
    turns = Node("div", (Node("add", (start, Node("neg", (other_start,)))), step))
    return any(same_value(turns, number(count)) for count in range(-3, 4))


def same_turns(one: Form, other: Form) -> bool:
    """`30°+360°k` and `30°+360°n`, `2kπ` and `2nπ`: undeclared letters that count whole turns."""
    if one.node is None or other.node is None:
        return False
    letters, other_letters = symbols(one.node), symbols(other.node)
    if len(letters | other_letters) != 2 or not (letters | other_letters) <= _COUNTING or len(letters) != 1:
        return False
    are_angles = one.unit == other.unit == "degree" or all(_PI in walk(form.node) for form in (one, other) if form.node)
    renamed_node = renamed(other, *other_letters, *letters).node
    return are_angles and renamed_node is not None and bool(same_value(one.node, renamed_node))


_COUNTING = frozenset({"k", "n", "m"})
_PI = Node("const", (), "π")


def _value(form: Form) -> Form:
    """Of `x=π/6+2kπ` the right side."""
    return form.items[1] if form.kind is Kind.RELATION and form.text == "=" else form


def _step(form: Form, names: frozenset[str]) -> tuple[Node, Node] | None:
    """Start and step of `a+bk`; None for what is not of that kind or has a step that is 0."""
    letters = symbols(form.node) & names if form.node is not None else frozenset()
    line = linear(form.node, next(iter(letters))) if form.node is not None and len(letters) == 1 else None
    return None if line is None or same_value(line[1], number(0)) else line


def same_tuple_family(
    one: Form, other: Form, in_order: Callable[[Sequence[Form], Sequence[Form]], bool | None]
) -> bool:
    """`(t, 2t)` and `(s, 2s)`: points of one line with another letter for the parameter."""
    left, right = symbols_of(one), symbols_of(other)
    if len(left) != 1 or len(right) != 1 or left == right or not (left | right) <= _PARAMETERS:
        return False
    return bool(in_order(one.items, renamed(other, next(iter(right)), next(iter(left))).items))


def same_with_constants(one: Node, other: Node) -> bool:
    """`x^3+C` and `x^3+1+c`: a constant of integration, added and found nowhere else, whatever it is called, takes up numbers."""
    left, right = _without_constant(one), _without_constant(other)
    if left is None or right is None:
        return False
    if same_value(left, right):
        return True
    names = symbols(left) | symbols(right)
    is_integral = "C" in symbols(one) and "C" in symbols(other)  # `x^2+c` may be the parabola that was asked for
    return is_integral and len(names) == 1 and _differ_by_a_number(left, right, *names)


def _differ_by_a_number(one: Node, other: Node, name: str) -> bool:
    """Whether the difference of two functions of one symbol is the same everywhere."""
    difference = Node("add", (one, Node("neg", (other,))))
    return bool(same_value(difference, substituted(difference, Node("sym", (), name), number(1))))


def _without_constant(node: Node) -> Node | None:
    if node.op != "add":
        return None
    for at, term in enumerate(node.args):
        rest = node._replace(args=(*node.args[:at], *node.args[at + 1 :], number(0)))
        if (
            term.op == "sym"
            and _ARBITRARY.fullmatch(term.name)
            and symbols(rest) & _VARIABLES
            and term.name not in symbols(rest)
        ):
            return rest
    return None


def same_up_to_constants(one: Form, other: Form) -> bool:
    """Right sides of `f(x)=cx` and `f(x)=kx`, `y=C_1e^x+C_2e^{-x}` and `y=Ae^x+Be^{-x}`: other names for free constants."""
    if one.node is None or other.node is None:
        return False
    left, right = symbols(one.node), symbols(other.node)
    if left == right:
        mine = theirs = sorted(name for name in left if _NUMBERED.fullmatch(name))
    else:
        mine, theirs = sorted(left - right), sorted(right - left)
    if not mine or len(mine) != len(theirs) or len(mine) > MAX_CONSTANTS or not _are_constants(mine, theirs):
        return False
    return any(bool(same_value(one.node, _mapped(other.node, theirs, order))) for order in permutations(mine))


def same_up_to_numbered_constants(one: Form, other: Form) -> bool:
    """As `same_up_to_constants`, of an answer without its left side: its constants must be numbered, `C_1`."""
    nodes = [form.node for form in (one, other) if form.node is not None]
    numbered = len(nodes) == 2 and all(any(map(_NUMBERED.fullmatch, symbols(node))) for node in nodes)
    return numbered and same_up_to_constants(one, other)


def _are_constants(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    """All may be constants, and on one side all are called as only constants are."""
    return all(_CONSTANT.fullmatch(name) for name in (*mine, *theirs)) and any(
        all(_ARBITRARY.fullmatch(name) for name in names) for names in (mine, theirs)
    )


def _mapped(node: Node, old: Sequence[str], new: Sequence[str]) -> Node:
    """All names replaced at once: by way of names that nothing else has."""
    for index, name in enumerate(old):
        node = substituted(node, Node("sym", (), name), Node("sym", (), f"#{index}"))
    for index, name in enumerate(new):
        node = substituted(node, Node("sym", (), f"#{index}"), Node("sym", (), name))
    return node


def same_residue(one: Form, other: Form, same: Same) -> bool | None:
    """`2 (mod 5)` and `7 (mod 5)`, or the bare 2: the value as written or the smallest one that is not negative."""
    if one.kind is other.kind:
        return one.text == other.text and same(_reduced(one), _reduced(other))
    residue, answer = (one, other) if one.kind is Kind.RESIDUE else (other, one)
    if answer.kind is Kind.FAMILY:
        return _same_class(residue, answer)
    own = residue.items[0]
    value = exact(own.node) if own.node is not None else None
    if value is not None and abs(value) >= int(residue.text):
        return same(_reduced(residue), answer)  # `12 mod 5` is 2
    return same(own, answer) or same(_reduced(residue), answer)


def _same_class(residue: Form, family: Form) -> bool:
    """`3 (mod 7)` and `7k+3` over the whole numbers."""
    value = residue.items[0].node
    line = _step(_value(family.items[0]), _declared(family)) if family.unit == "integers" else None
    if line is None or value is None:
        return False
    start, step, own = exact(line[0]), exact(line[1]), exact(value)
    if start is None or step is None or own is None or abs(step) != int(residue.text):
        return False
    return bool((start - own) % step == 0)


def _reduced(residue: Form) -> Form:
    """The values between 0 and the modulus."""
    value = residue.items[0]
    return value._replace(
        node=_remainder(value.node, residue),
        items=tuple(_reduced(residue._replace(items=(item,))) for item in value.items),
    )


def _remainder(node: Node | None, residue: Form) -> Node | None:
    whole = exact(node) if node is not None else None
    return node if whole is None or whole.denominator != 1 else number(whole % int(residue.text))

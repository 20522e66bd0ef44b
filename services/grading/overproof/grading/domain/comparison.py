"""Are two forms the same answer? True and False are certain within the written policy; None is for the slow path."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from overproof.grading.domain.calendar import on_24_hours
from overproof.grading.domain.families import same_family, same_residue, same_tuple_family
from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.naming import are_roots, by_name, in_alphabet
from overproof.grading.domain.regional import is_regional, same_regional
from overproof.grading.domain.relations import same_inequality, same_relation, value_of
from overproof.grading.domain.scalars import same_scalar
from overproof.grading.domain.tree import Node
from overproof.grading.domain.vectors import same_vector


def same_form(one: Form, other: Form) -> bool | None:
    """Whether two forms are the same answer. Symmetric. Raises TooLarge."""
    if one == other and one.kind is not Kind.OPAQUE:
        return True
    for kind, rule in _FIRST:
        if kind in {one.kind, other.kind}:
            return rule(one, other)
    if is_regional(one) or is_regional(other):
        same = same_regional(one, other)
        if same is None and one.kind is other.kind is Kind.UNION:
            return _matched(one.items, other.items)
        return same_inequality(one, other, same_form) if same is None else same
    if Kind.RELATION in {one.kind, other.kind}:
        return same_relation(one, other, same_form)
    if (one.kind is Kind.LIST) != (other.kind is Kind.LIST):
        restated = _restated(one if one.kind is Kind.LIST else other)
        if restated is not None:
            return same_form(restated, other if one.kind is Kind.LIST else one)
    return _by_kinds(one, other)


def _by_kinds(one: Form, other: Form) -> bool | None:
    if (rule := _RULES.get((one.kind, other.kind))) is not None:
        return rule(one, other)
    rule = _RULES.get((other.kind, one.kind))
    return rule(other, one) if rule is not None else False


def _same_opaque(one: Form, other: Form) -> bool | None:
    """A relation whose name alone is not readable, `d(P,Q)=√13`, still says a value."""
    relation, answer = (one, other) if one.kind is Kind.RELATION else (other, one)
    if relation.kind is Kind.RELATION and answer.kind is not Kind.OPAQUE:
        value = value_of(relation, same_form)
        return None if value is None else same_form(value, answer)
    return None


def _same_assigned(one: Form, other: Form) -> bool | None:
    """`x=1, y=2`: by their names; against a tuple in the order of the names; against a bare list in the order written."""
    left, right = by_name(one), by_name(other)
    if left and right:
        if left.keys() != right.keys():
            return False
        same = _in_order(list(left.values()), [right[name] for name in left])
        return _matched(list(left.values()), list(right.values())) if not same and are_roots(list(left)) else same
    values, answer = (left, other) if left else (right, one)
    if answer.kind is Kind.SET and len(answer.items) == 1:
        answer = answer.items[0]
    if answer.kind is Kind.TUPLE:
        return _in_order(in_alphabet(values), answer.items) if answer.text in {"()", ","} else False
    if answer.kind not in {Kind.LIST, Kind.SET}:
        return False
    if are_roots(list(values)):
        return _matched(list(values.values()), answer.items)
    is_sequence = answer.kind is Kind.LIST and answer.text != "∨" and answer.items[0].kind is not Kind.RELATION
    return _in_order(list(values.values()), answer.items) if is_sequence else False


def _same_choice(one: Form, other: Form) -> bool | None:
    """`(B) 12` is the letter B and the value 12, but not `(B) 13`."""
    if one.kind is Kind.CHOICE and other.kind is Kind.CHOICE:
        return one.text == other.text and same_form(one.items[0], other.items[0]) is not False
    choice, answer = (one, other) if one.kind is Kind.CHOICE else (other, one)
    if answer.node is not None and answer.node.op == "sym" and len(answer.node.name) == 1:
        return answer.node.name == choice.text
    return same_form(choice.items[0], answer)


def _scalars(one: Form, other: Form) -> bool | None:
    return same_scalar(one, other).equal


def _words(one: Form, other: Form) -> bool:
    """`n is odd` and `odd n`: the same words that say something, when there are at most two of them."""
    if one.text == other.text:
        return True
    left, right = (sorted(word for word in form.text.split() if word not in _SAYS_NOTHING) for form in (one, other))
    return left == right and 0 < len(left) <= 2 and not {one.unit, other.unit} & {"letters"}


_SAYS_NOTHING = frozenset(
    {"is", "are", "all", "any", "every", "the", "a", "an", "integer", "integers", "number", "numbers"}
)


def _letters(words: Form, other: Form) -> bool:
    """`ACD` and `A, C, D`: the letters of several choices."""
    letters = [item.node.name for item in other.items if item.node is not None and item.node.op == "sym"]
    return (
        words.unit == "letters" and len(letters) == len(other.items) and sorted(letters) == sorted(words.text.upper())
    )


def _time_and_ratio(words: Form, ratio: Form) -> bool:
    """`3:45 p.m.` and `15:45`."""
    time = on_24_hours(words.text)
    parts = [item.node.number for item in ratio.items if item.node is not None and item.node.op == "num"]
    return time is not None and parts == list(time)


def _cases(one: Form, other: Form) -> bool | None:
    """Functions by cases: the cases in any order."""
    return _matched(one.items, other.items)


def _column(matrix: Form, scalar: Form) -> bool | None:
    r"""`\binom{1}{-2}` is also how a column of two is written."""
    node = scalar.node
    if node is None or node.op != "call" or node.name != "binom":
        return False
    entries = [Form(Kind.SCALAR, node=arg) for arg in node.args]
    column = (
        [row.items[0] for row in matrix.items if len(row.items) == 1] if matrix.kind is Kind.MATRIX else matrix.items
    )
    return _in_order(column, entries) if len(column) == len(matrix.items) else False


def _members(one: Form, other: Form) -> bool | None:
    """Lists and sets: any order. A set counts a member once. `x=1, x=2` is not `y=1, y=2`."""
    if one.unit and other.unit and one.unit != other.unit:
        return False
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
    """The last member of a list that says one thing in several ways, `15 39/40` and `639/40` in two boxes; None for other lists."""
    last = form.items[-1]
    if len(set(form.items)) < len(form.items):
        return None
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
    same = _in_order(one.items, other.items)
    return same_tuple_family(one, other, _in_order) if same is False else same


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


_FIRST: tuple[tuple[Kind, Callable[[Form, Form], bool | None]], ...] = (
    (Kind.CHOICE, _same_choice),
    (Kind.OPAQUE, _same_opaque),
    (Kind.RESIDUE, lambda one, other: same_residue(one, other, same_form)),
    (Kind.FAMILY, lambda one, other: same_family(one, other, same_form)),
    (Kind.ASSIGNED, _same_assigned),
)
"""Kinds that decide whatever the other answer is; the first that is met."""

_RULES: dict[tuple[Kind, Kind], Callable[[Form, Form], bool | None]] = {
    (Kind.SCALAR, Kind.SCALAR): _scalars,
    (Kind.WORDS, Kind.WORDS): _words,
    (Kind.WORDS, Kind.LIST): _letters,
    (Kind.WORDS, Kind.RATIO): _time_and_ratio,
    (Kind.CASES, Kind.CASES): _cases,
    (Kind.MATRIX, Kind.SCALAR): _column,
    (Kind.TUPLE, Kind.SCALAR): lambda one, other: _column(one, other) or same_vector(one, other),
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

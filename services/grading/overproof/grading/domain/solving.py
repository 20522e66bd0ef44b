"""Inequalities solved for their one symbol: `|x-1| < 2` is `-1 < x < 3`, `2x+5 ≥ 0` is `x ≥ -5/2`."""

from __future__ import annotations

from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.numeric import linear, real_value
from overproof.grading.domain.regions import infinity_sign
from overproof.grading.domain.tree import Node, number, symbols

FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "=": "=", "≠": "≠"}
"""A relation sign with its sides exchanged."""


def solved(form: Form) -> Form:
    """`|e| < b` as `-b < e < b`, and an expression linear in its one symbol as that symbol; others stay as they are."""
    form = _absolute_first(form) if len(form.items) == 2 else form
    inner = form.items[0].node
    bound = form.items[1].node
    if (
        len(form.items) == 2
        and form.text in {"<", "≤"}
        and inner is not None
        and bound is not None
        and _is_absolute(inner)
    ):
        items = (Node("neg", (bound,)), inner.args[0], bound)
        form = form._replace(items=tuple(Form(Kind.SCALAR, node=node) for node in items), text=form.text * 2)
    return _isolated(form)


def outside(form: Form) -> tuple[Form, ...]:
    """`|e| > b` as its two branches `e > b` and `e < -b`; () for what is not of that kind."""
    if len(form.items) != 2:
        return ()
    form = _absolute_first(form)
    inner, bound = (item.node for item in form.items)
    if form.text not in {">", "≥"} or inner is None or bound is None or not _is_absolute(inner):
        return ()
    lone = Form(Kind.SCALAR, node=inner.args[0])
    below = Form(Kind.SCALAR, node=Node("neg", (bound,)))
    return form._replace(items=(lone, form.items[1])), form._replace(items=(lone, below), text=FLIPPED[form.text])


def _absolute_first(form: Form) -> Form:
    """`2 > |e|` as `|e| < 2`."""
    last = form.items[1].node
    if last is None or not _is_absolute(last):
        return form
    return form._replace(items=form.items[::-1], text=FLIPPED.get(form.text, form.text))


def _is_absolute(node: Node) -> bool:
    return node.op == "call" and node.name == "abs"


def _isolated(form: Form) -> Form:
    """`-1 < 2x+1 < 3` as `-1 < x < 1`."""
    nodes = [item.node for item in form.items]
    names = frozenset().union(*(symbols(node) for node in nodes if node is not None))
    mixed = [at for at, node in enumerate(nodes) if node is not None and symbols(node)]
    if len(names) != 1 or len(mixed) != 1 or nodes[mixed[0]].op == "sym" or None in nodes:  # type: ignore[union-attr]
        return form
    expression = nodes[mixed[0]]
    line = linear(expression, next(iter(names))) if expression is not None else None
    if line is None:
        return form
    start, slope = line
    slant = real_value(slope)
    if not slant:
        return form
    items = tuple(
        item if at == mixed[0] else Form(Kind.SCALAR, node=_moved(item.node or number(0), start, slope, slant < 0))
        for at, item in enumerate(form.items)
    )
    lone = Form(Kind.SCALAR, node=Node("sym", (), next(iter(names))))
    items = (*items[: mixed[0]], lone, *items[mixed[0] + 1 :])
    return form._replace(
        items=items, text="".join(FLIPPED.get(sign, sign) for sign in form.text) if slant < 0 else form.text
    )


def _moved(bound: Node, start: Node, slope: Node, turned: bool) -> Node:
    """(bound - start) / slope; an infinity only turns."""
    if infinity_sign(bound):
        return Node("neg", (bound,)) if turned and bound.op != "neg" else bound.args[0] if turned else bound
    return Node("div", (Node("add", (bound, Node("neg", (start,)))), slope))

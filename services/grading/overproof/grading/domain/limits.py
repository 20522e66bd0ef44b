"""What no library may be handed: values so large that merely writing them out takes the memory of a machine."""

from __future__ import annotations

from math import inf

from overproof.grading.domain.forms import Form
from overproof.grading.domain.numeric import is_beyond, real_value
from overproof.grading.domain.tree import Node, symbols, walk

MAX_EXPONENT = 100_000
"""Sympy writes a power of whole numbers out: 10^100000 takes it a millisecond, 10^(10^9) all memory."""

MAX_ARGUMENT = 20_000
"""Of a factorial, a binomial, an exponential or a hyperbolic function, and the ends of a sum or product."""

_GROWING = frozenset({"binom", "exp", "sinh", "cosh"})


def is_hopeless(form: Form) -> bool:
    """Whether an answer asks for such a value anywhere. Raises Exhausted."""
    return (form.node is not None and any(map(_explodes, walk(form.node)))) or any(map(is_hopeless, form.items))


def _explodes(node: Node) -> bool:
    if node.op == "pow":
        return _size(node.args[1]) > MAX_EXPONENT
    if node.op == "factorial" or (node.op == "call" and node.name in _GROWING):
        return any(_size(arg) > MAX_ARGUMENT for arg in node.args)
    return node.op in {"sum", "product"} and any(_size(end) > MAX_ARGUMENT for end in node.args[1:])


def _size(node: Node) -> float:
    """The absolute value of a constant, 0 where it has none."""
    if symbols(node) or any(part.op == "bound" for part in walk(node)):
        return 0.0
    value = real_value(node)
    return float(abs(value)) if value is not None else inf if is_beyond(node) else 0.0

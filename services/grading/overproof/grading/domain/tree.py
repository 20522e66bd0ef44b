"""The expression tree that the parser builds and every evaluator walks."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple


class Node(NamedTuple):
    """One operation. `op` is num, sym, const, add, mul, div, pow, root, neg, pm, call, degree, percent or factorial.

    `value` holds the Fraction of a num, the name of a sym, const or call, the sign of a pm.
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Fraction | str = ""

    @property
    def number(self) -> Fraction:
        """The value of a num node; TypeError for any other."""
        if not isinstance(self.value, Fraction):
            raise TypeError(f"a {self.op} node has no number")
        return self.value

    @property
    def name(self) -> str:
        """The value of a node that is named."""
        return str(self.value)


class Unreadable(ValueError):
    """The text is not an expression of the grammar; the message says where it stops being one."""


class TooLarge(ArithmeticError):
    """A number that the text asks for passes a limit; nothing is claimed about it."""


class Exhausted(Exception):
    """A decision used up the arithmetic that it may do; nothing is claimed about the two answers."""


def walk(node: Node) -> list[Node]:
    """All nodes of the tree, the root first. Iterative: the depth of the tree does not matter."""
    found, waiting = [], [node]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting.extend(node.args)
    return found


def symbols(node: Node) -> frozenset[str]:
    """Names of the free symbols."""
    return frozenset(part.name for part in walk(node) if part.op == "sym")


def number(value: int | Fraction) -> Node:
    """A num node."""
    return Node("num", (), Fraction(value))


def substituted(node: Node, name: Node, value: Node) -> Node:
    """The tree with another one in the place of a symbol."""
    if node == name:
        return value
    return node._replace(args=tuple(substituted(arg, name, value) for arg in node.args)) if node.args else node

"""The order of operations: a bounded Pratt parser (V. R. Pratt, "Top down operator precedence", 1973) over tokens.

`/` and a product without a sign bind alike and to the left, so `1/2x` is half of x; a sign binds just less than a product, so
`-2x` is the negative of 2x. What a letter or a command begins is for the subclass to say.
"""

from __future__ import annotations

import abc

from overproof.grading.domain.lexer import Token
from overproof.grading.domain.tree import Node, TooLarge, Unreadable, number

MAX_DEPTH = 60
"""A continued fraction of five levels has twenty; each costs at most four Python frames of the thousand there are."""

SUM, PRODUCT, POWER, POSTFIX = 10, 20, 30, 40
"""Binding powers."""

CLOSING = {"(": ")", "[": "]", "{": "}", "⌊": "⌋", "⌈": "⌉"}
_ROUNDING = {"⌊": "floor", "⌈": "ceil"}
_ENDS = frozenset(")]}⌋⌉,;=<>≤≥≠∪∩❵⟩∈:→")
_END = Token("end", "", False)


class Pratt(abc.ABC):
    """A cursor over tokens. `bars` counts the open absolute values: in one, `|` closes."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0

    @property
    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else _END

    def take(self) -> Token:
        token = self.peek
        self.at = min(self.at + 1, len(self.tokens))
        return token

    def expect(self, text: str) -> None:
        if self.peek.text != text:
            raise Unreadable(f"{text} is missing")
        self.at += 1

    def expression(self, power: int) -> Node:
        """Everything that binds more tightly than `power`."""
        self.descend()
        left = self.prefix(self.take(), power)
        while (binding := self.binding(self.peek)) > power:
            left = self.infix(left, binding)
        self.depth -= 1
        return left

    def descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLarge(f"nested more than {MAX_DEPTH} deep")

    def binding(self, token: Token) -> int:
        """How tightly the next token binds to what stands left of it; 0 ends the expression."""
        if token.kind == "op":
            if token.text in _INFIX:
                return _INFIX[token.text]
            if token.text in _ENDS or (token.text == "|" and self.bars):
                return 0
            return PRODUCT if token.text in "([{⌊⌈|π∞" else 0
        return PRODUCT if token.kind in {"num", "name", "cmd"} else 0

    def infix(self, left: Node, binding: int) -> Node:
        token = self.peek
        if token.text in _INFIX:
            self.at += 1
            return self.signed_infix(left, token.text, binding)
        if token.kind == "num" and self.tokens[self.at - 1].kind == "num":
            return self.mixed_number(left)
        right = self.expression(PRODUCT)
        if _is_mixed_number(left, right, self.tokens[self.at - 1]):
            return joined("add", left, right)
        return joined("mul", left, right)

    def signed_infix(self, left: Node, sign: str, binding: int) -> Node:
        if sign in _POSTFIX:
            return Node(_POSTFIX[sign], (left,))
        if sign == "^":
            return Node("pow", (left, self.exponent()))
        right = self.expression(binding)
        if sign == "/":
            return Node("div", (left, right))
        if sign in "±∓":
            return Node("pm", (left, right), sign)
        return joined("mul" if sign == "*" else "add", left, Node("neg", (right,)) if sign == "-" else right)

    def exponent(self) -> Node:
        """`{n+1}`, or without braces `2`, `10`, `-1`, and to the right `3^4` of `2^3^4`."""
        if self.peek.text == "{":
            self.at += 1
            return self.group("{")
        if self.peek.text == "-":
            self.at += 1
            return Node("neg", (self.expression(POWER - 1),))
        return self.expression(POWER - 1)

    def mixed_number(self, whole: Node) -> Node:
        """`4 4/9`; two numbers side by side are nothing else."""
        above, slash, below = (self.take(), self.take(), self.take())
        if not above.gap or slash.text != "/" or below.kind != "num" or not above.value < below.value:
            raise Unreadable("two numbers side by side")
        return Node("add", (whole, Node("div", (number(above.value), number(below.value)))))

    def prefix(self, token: Token, power: int = 0) -> Node:
        if token.kind == "num":
            return number(token.value)
        if token.kind in {"name", "cmd"}:
            return self.named(token)
        if token.text in CLOSING:
            return self.group(token.text)
        if token.text == "|":
            return self.absolute()
        if token.text in {"-", "+", "±", "∓"}:
            return self.signed(token.text, power)
        if token.text in {"π", "∞"}:
            return Node("const", (), token.text)
        raise Unreadable(f"{token.text[:20]} cannot begin an expression" if token.text else "it ends too early")

    @abc.abstractmethod
    def named(self, token: Token) -> Node:
        """What a letter or a command begins."""

    def signed(self, sign: str, power: int) -> Node:
        argument = self.expression(max(power, PRODUCT - 1))
        if sign == "+":
            return argument
        return Node("neg", (argument,)) if sign == "-" else Node("pm", (number(0), argument), sign)

    def group(self, opening: str) -> Node:
        bars, self.bars = self.bars, 0
        inside = self.expression(0)
        self.bars = bars
        self.expect(CLOSING[opening])
        return Node("call", (inside,), _ROUNDING[opening]) if opening in _ROUNDING else inside

    def absolute(self) -> Node:
        self.bars += 1
        inside = self.expression(0)
        self.bars -= 1
        self.expect("|")
        return Node("call", (inside,), "abs")


def _is_mixed_number(left: Node, right: Node, last: Token) -> bool:
    """`4 4/9` and `4\\frac{4}{9}`: a whole number followed by a proper fraction of whole numbers."""
    if left.op != "num" or right.op != "div" or any(arg.op != "num" for arg in right.args) or last.text == ")":
        return False
    above, below = right.args[0].number, right.args[1].number
    return left.number.denominator == above.denominator == below.denominator == 1 and 0 < above < below


def joined(op: str, left: Node, right: Node) -> Node:
    """A sum or product as one flat node, so that long ones do not nest."""
    return Node(op, (*left.args, right)) if left.op == op and len(left.args) > 1 else Node(op, (left, right))


_INFIX = {"+": SUM, "-": SUM, "±": SUM, "∓": SUM, "*": PRODUCT, "/": PRODUCT, "^": POWER} | dict.fromkeys(
    "!%°", POSTFIX
)
_POSTFIX = {"!": "factorial", "%": "percent", "°": "degree"}

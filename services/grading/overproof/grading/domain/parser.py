"""A bounded Pratt parser (V. R. Pratt, "Top down operator precedence", 1973): normalised text to an expression tree.

It reads what final answers are made of: arithmetic, fractions, roots, powers, functions, absolute values, floors, factorials,
binomials, degrees, percent, plus-minus and products without a sign. `/` and a product without a sign bind alike and to the
left, so `1/2x` is half of x. Nothing is evaluated and no text reaches Python's own parser.
"""

from __future__ import annotations

from fractions import Fraction

from overproof.grading.domain.lexer import Token, tokens_of
from overproof.grading.domain.symbols import FUNCTIONS, words
from overproof.grading.domain.tree import Node, TooLarge, Unreadable, number

MAX_DEPTH = 60
"""A continued fraction of five levels has twenty; each costs at most four Python frames of the thousand there are."""

SUM, PRODUCT, POWER, POSTFIX = 10, 20, 30, 40
"""Binding powers; a sign binds just less than a product, so `-2x` is the negative of 2x."""

_LETTER_COMMANDS = frozenset(
    words(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
        "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar triangle angle"
    )
)
_CLOSING = {"(": ")", "[": "]", "{": "}", "⌊": "⌋", "⌈": "⌉"}
_ROUNDING = {"⌊": "floor", "⌈": "ceil"}
_ENDS = frozenset(")]}⌋⌉,;=<>≤≥≠∪∩❵⟩∈:→")
_FUNCTION_LETTERS = frozenset("fgh")
_END = Token("end", "", False)


def parse(text: str) -> Node:
    """The tree of normalised text. Raises Unreadable when it is not one expression and TooLarge for too long a number
    or too deep a nesting."""
    parser = _Parser(tokens_of(text))
    tree = parser.expression(0)
    if parser.peek.kind != "end":
        raise Unreadable(f"nothing can be made of {parser.peek.text[:20]} there")
    return tree


class _Parser:
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
            return _joined("add", left, right)
        return _joined("mul", left, right)

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
        return _joined("mul" if sign == "*" else "add", left, Node("neg", (right,)) if sign == "-" else right)

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
        if token.kind == "name":
            return self.letter(token.text)
        if token.kind == "cmd":
            return self.command(token.text[1:])
        if token.text in _CLOSING:
            return self.group(token.text)
        if token.text == "|":
            return self.absolute()
        if token.text in {"-", "+", "±", "∓"}:
            return self.signed(token.text, power)
        if token.text in {"π", "∞"}:
            return Node("const", (), token.text)
        raise Unreadable(f"{token.text[:20]} cannot begin an expression" if token.text else "it ends too early")

    def signed(self, sign: str, power: int) -> Node:
        argument = self.expression(max(power, PRODUCT - 1))
        if sign == "+":
            return argument
        return Node("neg", (argument,)) if sign == "-" else Node("pm", (number(0), argument), sign)

    def group(self, opening: str) -> Node:
        bars, self.bars = self.bars, 0
        inside = self.expression(0)
        self.bars = bars
        self.expect(_CLOSING[opening])
        return Node("call", (inside,), _ROUNDING[opening]) if opening in _ROUNDING else inside

    def absolute(self) -> Node:
        self.bars += 1
        inside = self.expression(0)
        self.bars -= 1
        self.expect("|")
        return Node("call", (inside,), "abs")

    def letter(self, name: str) -> Node:
        subscript = self.subscript()
        if subscript:
            return Node("sym", (), f"{name}_{subscript}")
        if name in _FUNCTION_LETTERS and self.peek.text == "(" and not self.peek.gap:
            self.at += 1
            return Node("call", (self.group("("),), name)
        return Node("const", (), name) if name in {"e", "i"} else Node("sym", (), name)

    def subscript(self) -> str:
        """The text after `_`, a letter, a number or a group; "" when there is none."""
        if self.peek.text != "_":
            return ""
        self.at += 1
        if self.peek.text != "{":
            return self.take().text
        start = self.at + 1
        while self.take().text != "}":
            if self.peek.kind == "end":
                raise Unreadable("} is missing")
        return "".join(token.text for token in self.tokens[start : self.at - 1])

    def command(self, name: str) -> Node:
        if name == "frac":
            return self.fraction()
        if name == "sqrt":
            return self.square_root()
        if name == "binom":
            return Node("call", (self.argument(), self.argument()), "binom")
        if name == "overline":
            return Node("sym", (), f"overline {self.argument()}")
        if name in FUNCTIONS:
            return self.call(FUNCTIONS[name])
        if name in _LETTER_COMMANDS:
            return self.letter(f"\\{name}")
        raise Unreadable(f"\\{name} is not known")

    def fraction(self) -> Node:
        above, below = self.argument(), self.argument()
        if above == Node("sym", (), "d") and below.op == "mul" and below.args[0] == above:
            raise Unreadable("a derivative")
        return Node("div", (above, below))

    def argument(self) -> Node:
        """A braced group, or as TeX has it the one sign that follows (of a number its first digit)."""
        token = self.take()
        if token.kind == "num" and len(token.text) > 1 and token.text.isdigit():
            self.at -= 1
            self.tokens[self.at] = Token("num", token.text[1:], False, Fraction(int(token.text[1:])))
            return number(int(token.text[0]))
        self.descend()
        argument = self.group("{") if token.text == "{" else self.prefix(token)
        self.depth -= 1
        return argument

    def square_root(self) -> Node:
        index = number(2)
        if self.peek.text == "[":
            self.at += 1
            index = self.group("[")
        if self.peek.kind == "num":
            return Node("root", (number(self.take().value), index))
        return Node("root", (self.argument(), index))

    def call(self, name: str) -> Node:
        """A function with its power (`\\sin^2 x`), base (`\\log_2 8`) and argument, in brackets or not (`\\sin 2x`)."""
        base = power = None
        while self.peek.text in {"^", "_"}:
            if self.take().text == "_":
                base = self.whole_argument()
            else:
                power = self.whole_argument()
        arguments = self.arguments()
        if base is not None:
            arguments = (*arguments, base)
        if power == Node("neg", (number(1),)) and f"a{name}" in FUNCTIONS:
            return Node("call", arguments, f"a{name}")
        node = Node("call", arguments, name)
        return node if power is None else Node("pow", (node, power))

    def whole_argument(self) -> Node:
        token = self.take()
        return (
            number(token.value) if token.kind == "num" else self.group("{") if token.text == "{" else self.prefix(token)
        )

    def arguments(self) -> tuple[Node, ...]:
        if self.peek.text in {"(", "{", "["}:
            opening = self.take().text
            found = [self.expression(0)]
            while self.peek.text == ",":
                self.at += 1
                found.append(self.expression(0))
            self.expect(_CLOSING[opening])
            return tuple(found)
        if self.peek.text == "|":
            self.at += 1
            return (self.absolute(),)
        return (self.bare_argument(),)

    def bare_argument(self) -> Node:
        """`2x` of `\\sin 2x \\cos x`: factors up to a sign, a sum or the next function."""
        left = self.expression(PRODUCT)
        while (
            self.binding(self.peek) == PRODUCT and self.peek.text not in {"*", "/", "(", "["} and not self.is_function()
        ):
            left = _joined("mul", left, self.expression(PRODUCT))
        return left

    def is_function(self) -> bool:
        return self.peek.kind == "cmd" and self.peek.text[1:] in FUNCTIONS and self.peek.text != "\\sqrt"


def _is_mixed_number(left: Node, right: Node, last: Token) -> bool:
    """`4 4/9` and `4\\frac{4}{9}`: a whole number followed by a proper fraction of whole numbers."""
    if left.op != "num" or right.op != "div" or any(arg.op != "num" for arg in right.args) or last.text == ")":
        return False
    above, below = right.args[0].number, right.args[1].number
    return left.number.denominator == above.denominator == below.denominator == 1 and 0 < above < below


def _joined(op: str, left: Node, right: Node) -> Node:
    """A sum or product as one flat node, so that long ones do not nest."""
    return Node(op, (*left.args, right)) if left.op == op and len(left.args) > 1 else Node(op, (left, right))


_INFIX = {"+": SUM, "-": SUM, "±": SUM, "∓": SUM, "*": PRODUCT, "/": PRODUCT, "^": POWER} | dict.fromkeys(
    "!%°", POSTFIX
)
_POSTFIX = {"!": "factorial", "%": "percent", "°": "degree"}

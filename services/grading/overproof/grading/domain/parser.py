"""Normalised text to an expression tree.

It reads what final answers are made of: arithmetic, fractions, roots, powers, functions, absolute values, floors, factorials,
binomials, sums with ends, degrees, percent, plus-minus and products without a sign. Nothing is evaluated and no text reaches
Python's own parser.
"""

from __future__ import annotations

from fractions import Fraction

from overproof.grading.domain.lexer import Token, tokens_of
from overproof.grading.domain.pratt import CLOSING, PRODUCT, SUM, Pratt, joined
from overproof.grading.domain.rational import exact
from overproof.grading.domain.symbols import FUNCTIONS, UNKNOWN_FUNCTIONS, words
from overproof.grading.domain.tree import Node, Unreadable, number, substituted, symbols, walk

_LETTER_COMMANDS = frozenset(
    words(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
        "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar triangle angle"
    )
)


def parse(text: str) -> Node:
    """The tree of normalised text. Raises Unreadable when it is not one expression and TooLarge for too long a number
    or too deep a nesting."""
    parser = _Parser(tokens_of(text))
    tree = parser.expression(0)
    if parser.peek.kind != "end":
        raise Unreadable(f"nothing can be made of {parser.peek.text[:20]} there")
    return tree


MAX_TERMS = 200
"""Of a sum between numbers that is written out."""

MAX_WRITTEN_NODES = 5_000


def written_out(op: str, body: Node, index: str, low: Node, high: Node) -> Node:
    """A sum between small whole numbers as its terms; any other as one node whose index is bound. Raises Unreadable."""
    if not index.isalpha() or len(index) > 1 or index in {"e"}:
        raise Unreadable("a sum without an index")
    name = Node("const" if index == "i" else "sym", (), index)
    first, last = exact(low), exact(high)
    if first is None or last is None or first.denominator * last.denominator != 1:
        return Node(op, (substituted(body, name, Node("bound", (), index)), low, high), index)
    count = int(last - first) + 1
    if not 0 < count <= MAX_TERMS or count * len(walk(body)) > MAX_WRITTEN_NODES:
        return Node(op, (substituted(body, name, Node("bound", (), index)), low, high), index)
    terms = tuple(substituted(body, name, number(first + step)) for step in range(count))
    return Node("add" if op == "sum" else "mul", terms) if count > 1 else terms[0]


class _Parser(Pratt):
    """Letters, functions and commands."""

    def named(self, token: Token) -> Node:
        return self.letter(token.text) if token.kind == "name" else self.command(token.text[1:])

    def letter(self, name: str) -> Node:
        if name == "C" and (binomial := self.combinations()) is not None:
            return binomial
        subscript = self.subscript()
        if subscript:
            return Node("sym", (), f"{name}_{subscript}")
        if name in UNKNOWN_FUNCTIONS and (call := self.unknown(name)) is not None:
            return call
        return Node("const", (), name) if name in {"e", "i"} else Node("sym", (), name)

    def unknown(self, name: str) -> Node | None:
        """`f(x)`, `f^{-1}(x)`: a function of which nothing is known."""
        inverse = "".join(token.text for token in self.tokens[self.at : self.at + 6]) == "^{-1}("
        opening = self.tokens[self.at + 5] if inverse else self.peek
        if opening.text != "(" or opening.gap:
            return None
        self.at += 6 if inverse else 1
        return Node("call", (self.group("("),), f"{name}^-1" if inverse else name)

    def combinations(self) -> Node | None:
        """`C(5,2)`, `C_5^2`, `C_{n+2}^{2}`: a binomial. `C_1`, `C(x+1)` and `C_1^2` are not."""
        start = self.at
        if self.peek.text == "(" and not self.peek.gap:
            self.at += 1
            arguments = self.listed("(")
            if len(arguments) == 2:
                return Node("call", arguments, "binom")
        elif self.peek.text == "_":
            self.at += 1
            above = self.whole_argument()
            if self.peek.text == "^" and (above.op != "num" or above.number > 1):
                self.at += 1
                return Node("call", (above, self.exponent()), "binom")
        self.at = start
        return None

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
            return self.barred()
        if name in {"sum", "prod"}:
            return self.series("sum" if name == "sum" else "product")
        if name in FUNCTIONS:
            return self.call(FUNCTIONS[name])
        if name in _LETTER_COMMANDS:
            return self.letter(f"\\{name}")
        raise Unreadable(f"\\{name} is not known")

    def barred(self) -> Node:
        """`\\overline{3+4i}` is the conjugate of a number; over letters the bar is part of a name."""
        argument = self.argument()
        if Node("const", (), "i") in walk(argument) and not symbols(argument):
            return Node("call", (argument,), "conj")
        return Node("sym", (), f"overline {argument}")

    def series(self, op: str) -> Node:
        """`\\sum_{k=1}^{n} k^2`: the body reaches up to the next sign of its own level."""
        self.expect("_")
        self.expect("{")
        index = self.take()
        self.expect("=")
        low = self.expression(0)
        self.expect("}")
        self.expect("^")
        high = self.whole_argument()
        body = self.expression(SUM)
        return written_out(op, body, index.text, low, high)

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
            return self.listed(self.take().text)
        if self.peek.text == "|":
            self.at += 1
            return (self.absolute(),)
        return (self.bare_argument(),)

    def listed(self, opening: str) -> tuple[Node, ...]:
        """Expressions with commas between them, up to the bracket that closes the one before."""
        found = [self.expression(0)]
        while self.peek.text == ",":
            self.at += 1
            found.append(self.expression(0))
        self.expect(CLOSING[opening])
        return tuple(found)

    def bare_argument(self) -> Node:
        """`2x` of `\\sin 2x \\cos x`: factors up to a sign, a sum or the next function."""
        left = self.expression(PRODUCT)
        while self.continues():
            left = joined("mul", left, self.expression(PRODUCT))
        return left

    def continues(self) -> bool:
        """Whether the next factor is still of the argument: `e^x` of `\\cos x e^x` is not."""
        if self.peek.text == "e" and "".join(token.text for token in self.tokens[self.at + 1 : self.at + 2]) == "^":
            return False
        return (
            self.binding(self.peek) == PRODUCT and self.peek.text not in {"*", "/", "(", "["} and not self.is_function()
        )

    def is_function(self) -> bool:
        return self.peek.kind == "cmd" and self.peek.text[1:] in FUNCTIONS and self.peek.text != "\\sqrt"

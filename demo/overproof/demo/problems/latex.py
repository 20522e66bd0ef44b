"""Exact values as LaTeX: fractions, square roots and multiples of pi in their lowest terms."""

from fractions import Fraction
from math import isqrt

TIMES = r"\cdot"
OVER = r"\div"


def fraction(numerator: int, denominator: int) -> str:
    """A fraction of two positive integers in lowest terms, a whole number without a bar."""
    value = Fraction(numerator, denominator)
    if value.denominator == 1:
        return str(value.numerator)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def root(radicand: int) -> str:
    """The square root of a positive integer with every square factor taken out."""
    outside = max(d for d in range(1, isqrt(radicand) + 1) if radicand % (d * d) == 0)
    return surd(outside, radicand // (outside * outside), 1)


def surd(factor: int, radicand: int, denominator: int) -> str:
    """`factor * sqrt(radicand) / denominator` in lowest terms; the radicand is square-free."""
    ratio = Fraction(factor, denominator)
    if radicand == 1:
        return fraction(factor, denominator)
    bare = rf"\sqrt{{{radicand}}}"
    top = bare if ratio.numerator == 1 else f"{ratio.numerator}{bare}"
    return top if ratio.denominator == 1 else rf"\frac{{{top}}}{{{ratio.denominator}}}"


def multiple_of_pi(numerator: int, denominator: int = 1) -> str:
    """`numerator * pi / denominator` in lowest terms, without a coefficient of one."""
    ratio = Fraction(numerator, denominator)
    top = r"\pi" if ratio.numerator == 1 else rf"{ratio.numerator}\pi"
    return top if ratio.denominator == 1 else rf"\frac{{{top}}}{{{ratio.denominator}}}"


def term(coefficient: int, variable: str) -> str:
    """`3x`, or `x` for a coefficient of one."""
    return variable if coefficient == 1 else f"{coefficient}{variable}"

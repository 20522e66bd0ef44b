"""Prealgebra: whole numbers, percentages, averages and sums of fractions."""

from math import gcd
from random import Random

from overproof.demo.problems.latex import OVER, TIMES, fraction
from overproof.demo.problems.worked import NAMES, THINGS, Case, Step, Template, Worked

TYPE = "Prealgebra"


def _total(case: Case, rng: Random) -> Worked:
    a, b = rng.sample(case, 2)
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    statement = rng.choice(
        (
            f"Find the sum of ${a}$ and ${b}$.",
            f"What number is ${b}$ more than ${a}$?",
            f"{name} finds {a} {things} in the morning and {b} {things} in the evening. How many {things} is that in all?",
        )
    )
    return Worked(statement, (Step("Add the two numbers", f"{a} + {b} = {a + b}"),), str(a + b))


def _difference(case: Case, rng: Random) -> Worked:
    a, b = case
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    statement = rng.choice(
        (
            f"By how much is ${a}$ larger than ${b}$?",
            f"Take ${b}$ away from ${a}$. What is left?",
            f"{name} had {a} {things} and lost {b} of them. How many {things} does {name} still have?",
        )
    )
    return Worked(statement, (Step("Subtract the smaller number", f"{a} - {b} = {a - b}"),), str(a - b))


def _product_and_more(case: Case, rng: Random) -> Worked:
    a, b, c = case
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    statement = rng.choice(
        (
            f"Evaluate ${c} + {a} {TIMES} {b}$.",
            f"Work out ${a} {TIMES} {b} + {c}$.",
            f"{name} owns {c} {things} and buys {a} packs of {b} {things}. How many {things} does {name} own now?",
        )
    )
    steps = (
        Step("The product comes first", f"{a} {TIMES} {b} = {a * b}"),
        Step("Add the rest", f"{a * b} + {c} = {a * b + c}"),
    )
    return Worked(statement, steps, str(a * b + c))


def _product_and_less(case: Case, rng: Random) -> Worked:
    a, b, c = case
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    statement = rng.choice(
        (
            f"{name} fills {a} bags with {b} {things} each, then gives {c} {things} away. How many {things} remain?",
            f"A shelf has {a} rows of {b} {things}. {name} takes {c} of them. How many {things} stay on the shelf?",
        )
    )
    steps = (
        Step("Count them at the start", f"{a} {TIMES} {b} = {a * b}"),
        Step("Take away those that go", f"{a * b} - {c} = {a * b - c}"),
    )
    return Worked(statement, steps, str(a * b - c))


def _equal_shares(case: Case, rng: Random) -> Worked:
    a, b, c = case
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    statement = rng.choice(
        (
            f"{name} shares {a} packs of {b} {things} fairly among {c} children. How many {things} does each child get?",
            f"From {a} packs of {b} {things}, {name} makes {c} equal piles. How many {things} are in one pile?",
        )
    )
    steps = (
        Step("Count them all", f"{a} {TIMES} {b} = {a * b}"),
        Step("Divide into equal parts", f"{a * b} {OVER} {c} = {a * b // c}"),
    )
    return Worked(statement, steps, str(a * b // c))


def _brackets(case: Case, rng: Random) -> Worked:
    a, b, c, d = case
    inner, product = a + b, (a + b) * c
    statement = rng.choice(
        (
            f"Evaluate $({a} + {b}) {TIMES} {c} - {d}$.",
            f"Add ${a}$ and ${b}$, multiply the sum by ${c}$, then subtract ${d}$. What is the result?",
        )
    )
    steps = (
        Step("The bracket comes first", f"{a} + {b} = {inner}"),
        Step("Multiply", f"{inner} {TIMES} {c} = {product}"),
        Step("Subtract", f"{product} - {d} = {product - d}"),
    )
    return Worked(statement, steps, str(product - d))


def _percent(case: Case, rng: Random) -> Worked:
    percent, whole = case
    parts = 100 // percent
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    statement = rng.choice(
        (
            rf"What is ${percent}\%$ of ${whole}$?",
            f"Of {whole} {things}, {percent} percent belong to {name}. How many {things} is that?",
        )
    )
    steps = (
        Step("Write the percentage as a fraction", rf"\frac{{{percent}}}{{100}} = \frac{{1}}{{{parts}}}"),
        Step("Take that part", f"{whole} {OVER} {parts} = {whole // parts}"),
    )
    return Worked(statement, steps, str(whole // parts))


def _fraction_sum(case: Case, rng: Random) -> Worked:
    a, b, c, d = case
    left, right, below = a * d, c * b, b * d
    first, second = rf"\frac{{{a}}}{{{b}}}", rf"\frac{{{c}}}{{{d}}}"
    statement = rng.choice(
        (
            f"Add ${first}$ and ${second}$. Give the result in lowest terms.",
            f"Write ${first} + {second}$ as one fraction in lowest terms.",
        )
    )
    steps = (
        Step("Choose a shared denominator", f"{b} {TIMES} {d} = {below}"),
        Step("Widen the first fraction", f"{a} {TIMES} {d} = {left}"),
        Step("Widen the second fraction", f"{c} {TIMES} {b} = {right}"),
        Step("Add the numerators", f"{left} + {right} = {left + right}"),
        Step("Divide", f"{left + right} {OVER} {below} = {fraction(left + right, below)}"),
    )
    return Worked(statement, steps, fraction(left + right, below))


def _average(case: Case, rng: Random) -> Worked:
    a, b, c = case
    total = a + b + c
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"Find the mean of ${a}$, ${b}$ and ${c}$.",
            f"{name} scores {a}, {b} and {c} points in three games. What is the average score?",
        )
    )
    steps = (
        Step("Add the first two", f"{a} + {b} = {a + b}"),
        Step("Add the third", f"{a + b} + {c} = {total}"),
        Step("Divide by how many there are", f"{total} {OVER} 3 = {total // 3}"),
    )
    return Worked(statement, steps, str(total // 3))


_SHARES = tuple(
    (a, b, c) for a in range(2, 10) for b in range(2, 10) for c in range(2, 10) if a * b % c == 0 and a * b > c
)
_FRACTION_SUMS = tuple(
    (a, b, c, d)
    for b in range(2, 7)
    for d in range(b + 1, 8)
    for a in range(1, b)
    for c in range(1, d)
    if gcd(a, b) == 1 and gcd(c, d) == 1
)

TEMPLATES = (
    Template("total", 1, tuple((a, b) for a in range(3, 45) for b in range(2, min(a, 25))), _total),
    Template("difference", 1, tuple((a, b) for a in range(8, 50) for b in range(3, min(a - 1, 20))), _difference),
    Template(
        "product-and-more",
        2,
        tuple((a, b, c) for a in range(2, 9) for b in range(2, 9) for c in range(1, 16)),
        _product_and_more,
    ),
    Template(
        "product-and-less",
        3,
        tuple((a, b, c) for a in range(2, 9) for b in range(2, 9) for c in range(2, 16) if a * b > c),
        _product_and_less,
    ),
    Template("equal-shares", 3, _SHARES, _equal_shares),
    Template(
        "brackets",
        4,
        tuple(
            (a, b, c, d)
            for a in range(2, 6)
            for b in range(1, 5)
            for c in range(2, 7)
            for d in range(1, min(10, (a + b) * c))
        ),
        _brackets,
    ),
    Template(
        "percent", 4, tuple((p, w) for p in (5, 10, 20, 25, 50) for w in range(100 // p, 100, 100 // p)), _percent
    ),
    Template("fraction-sum", 5, _FRACTION_SUMS, _fraction_sum),
    Template(
        "average",
        5,
        tuple((a, b, c) for a in range(2, 25) for b in range(2, 16) for c in range(1, 10) if (a + b + c) % 3 == 0),
        _average,
    ),
)

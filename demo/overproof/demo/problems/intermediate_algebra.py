"""Intermediate algebra: sequences and series, quadratic equations, absolute values, symmetric expressions."""

from random import Random

from overproof.demo.problems.latex import OVER, TIMES, fraction, term
from overproof.demo.problems.worked import NAMES, Case, Step, Template, Worked

TYPE = "Intermediate Algebra"


def _square_plus(case: Case, rng: Random) -> Worked:
    n, m = case
    letter = rng.choice("kntx")
    statement = rng.choice(
        (
            f"Let ${letter} = {n}$. What is ${letter}^2 + {m}$?",
            f"Square {n} and add {m}. What is the result?",
        )
    )
    steps = (
        Step("Square the number", f"{n}^2 = {n * n}"),
        Step("Add", f"{n * n} + {m} = {n * n + m}"),
    )
    return Worked(statement, steps, str(n * n + m))


def _sequence_term(case: Case, rng: Random) -> Worked:
    first, gap, n = case
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"An arithmetic sequence starts with {first} and grows by {gap} each time. Find its term number {n}.",
            f"{name} saves {first} coins in week 1 and each week {gap} more than the week before. How many in week {n}?",
        )
    )
    grown = (n - 1) * gap
    steps = (
        Step("Count the increases", f"{n} - 1 = {n - 1}"),
        Step("Multiply by the increase", f"{n - 1} {TIMES} {gap} = {grown}"),
        Step("Add the first term", f"{grown} + {first} = {grown + first}"),
    )
    return Worked(statement, steps, str(grown + first))


def _quadratic_roots(case: Case, rng: Random) -> Worked:
    p, q = case
    letter = rng.choice("xtz")
    equation = f"{letter}^2 - {p + q}{letter} + {p * q} = 0"
    statement = rng.choice(
        (
            f"List both solutions of ${equation}$, smallest first.",
            f"Solve ${equation}$. Separate the solutions by a comma.",
        )
    )
    steps = (
        Step("Two numbers with the right product", f"{p} {TIMES} {q} = {p * q}"),
        Step("They have the right sum", f"{p} + {q} = {p + q}"),
    )
    return Worked(statement, steps, f"{p}, {q}")


def _distance_ends(center: int, radius: int) -> tuple[Step, ...]:
    return (
        Step("The lower end", f"{center} - {radius} = {center - radius}"),
        Step("The upper end", f"{center} + {radius} = {center + radius}"),
    )


def _absolute_equation(case: Case, rng: Random) -> Worked:
    center, radius = case
    statement = rng.choice(
        (
            f"Find all $x$ with $|x - {center}| = {radius}$. Separate them by a comma.",
            f"Which numbers lie at distance {radius} from {center} on the number line? List them.",
        )
    )
    return Worked(statement, _distance_ends(center, radius), f"{center - radius}, {center + radius}")


def _absolute_inequality(case: Case, rng: Random) -> Worked:
    center, radius = case
    statement = rng.choice(
        (
            f"Solve $|x - {center}| < {radius}$. Answer with an interval.",
            f"For which $x$ is the distance to {center} less than {radius}? Give an open interval.",
        )
    )
    return Worked(statement, _distance_ends(center, radius), f"({center - radius}, {center + radius})")


def _series_sum(case: Case, rng: Random) -> Worked:
    first, n, gap = case
    last = first + (n - 1) * gap
    mean = (first + last) // 2
    statement = rng.choice(
        (
            f"An arithmetic series has {n} terms, the first is {first} and the last is {last}. Find its sum.",
            f"{n} numbers in equal steps run from {first} to {last}. What do they add up to?",
        )
    )
    steps = (
        Step("Add the two ends", f"{first} + {last} = {first + last}"),
        Step("Halve to get the mean", f"{first + last} {OVER} 2 = {mean}"),
        Step("Multiply by the number of terms", f"{mean} {TIMES} {n} = {mean * n}"),
    )
    return Worked(statement, steps, str(mean * n))


def _discriminant(case: Case, rng: Random) -> Worked:
    a, b, c = case
    square, four, product = b * b, 4 * a, 4 * a * c
    statement = rng.choice(
        (
            f"Find the discriminant of ${term(a, 'x^2')} + {b}x + {c}$.",
            f"For ${term(a, 'x^2')} + {b}x + {c} = 0$, what is the number under the root in the quadratic formula?",
        )
    )
    steps = (
        Step("Square the middle coefficient", f"{b}^2 = {square}"),
        Step("Four times the first", f"4 {TIMES} {a} = {four}"),
        Step("Times the last", f"{four} {TIMES} {c} = {product}"),
        Step("Subtract", f"{square} - {product} = {square - product}"),
    )
    return Worked(statement, steps, str(square - product))


def _sum_of_squares(case: Case, rng: Random) -> Worked:
    total, product = case
    u, v = rng.choice(("ab", "xy", "mn", "rs"))
    statement = rng.choice(
        (
            f"Given ${u} + {v} = {total}$ and ${u}{v} = {product}$, find ${u}^2 + {v}^2$.",
            f"Two numbers have the sum {total} and the product {product}. What is the sum of their squares?",
        )
    )
    square, twice = total * total, 2 * product
    steps = (
        Step("Square the sum", f"{total}^2 = {square}"),
        Step("Double the product", f"2 {TIMES} {product} = {twice}"),
        Step("Subtract", f"{square} - {twice} = {square - twice}"),
    )
    return Worked(statement, steps, str(square - twice))


def _sum_of_reciprocals(case: Case, rng: Random) -> Worked:
    p, q = case
    total, product = p + q, p * q
    equation = f"x^2 - {total}x + {product} = 0"
    statement = rng.choice(
        (
            f"The roots of ${equation}$ are $r$ and $s$. Find $\\frac{{1}}{{r}} + \\frac{{1}}{{s}}$.",
            f"Add the reciprocals of the two roots of ${equation}$.",
        )
    )
    steps = (
        Step("The product of the roots", f"{p} {TIMES} {q} = {product}"),
        Step("The sum of the roots", f"{p} + {q} = {total}"),
        Step("Divide the sum by the product", f"{total} {OVER} {product} = {fraction(total, product)}"),
    )
    return Worked(statement, steps, fraction(total, product))


TEMPLATES = (
    Template(
        "square-plus", 1, tuple((n, m) for n in range(2, 10) for m in range(1, 31) if n * n + m < 100), _square_plus
    ),
    Template(
        "sequence-term",
        2,
        tuple((a, d, n) for a in range(1, 16) for d in range(2, 8) for n in range(3, 9)),
        _sequence_term,
    ),
    Template("quadratic-roots", 3, tuple((p, q) for q in range(2, 11) for p in range(1, q)), _quadratic_roots),
    Template(
        "absolute-equation", 3, tuple((c, r) for c in range(6, 36) for r in range(2, min(c, 18))), _absolute_equation
    ),
    Template(
        "absolute-inequality",
        4,
        tuple((c, r) for c in range(6, 36) for r in range(2, min(c, 18))),
        _absolute_inequality,
    ),
    Template(
        "series-sum",
        4,
        tuple(
            (a, n, d)
            for a in range(1, 10)
            for n in range(3, 8)
            for d in range(1, 5)
            if (2 * a + (n - 1) * d) % 2 == 0 and (2 * a + (n - 1) * d) * n < 200
        ),
        _series_sum,
    ),
    Template(
        "discriminant",
        4,
        tuple((a, b, c) for a in range(1, 5) for b in range(3, 10) for c in range(1, 7) if b * b > 4 * a * c),
        _discriminant,
    ),
    Template(
        "sum-of-squares", 5, tuple((s, p) for s in range(3, 11) for p in range(1, s * s // 4 + 1)), _sum_of_squares
    ),
    Template(
        "sum-of-reciprocals",
        5,
        tuple((p, q) for q in range(2, 11) for p in range(1, q) if p * q < 100),
        _sum_of_reciprocals,
    ),
)

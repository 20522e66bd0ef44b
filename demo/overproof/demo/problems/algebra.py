"""Algebra: equations in one unknown, values of a function, pairs of equations."""

from random import Random

from overproof.demo.problems.latex import OVER, TIMES, term
from overproof.demo.problems.worked import NAMES, Case, Step, Template, Worked

TYPE = "Algebra"


def _shifted_up(case: Case, rng: Random) -> Worked:
    x, a = case
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"Which $x$ satisfies $x + {a} = {x + a}$?",
            f"Solve the equation ${a} + x = {x + a}$.",
            f"{name} thinks of a number and adds {a}. The result is {x + a}. What was the number?",
        )
    )
    return Worked(statement, (Step("Subtract on both sides", f"{x + a} - {a} = {x}"),), str(x))


def _shifted_down(case: Case, rng: Random) -> Worked:
    x, a = case
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"Which $x$ satisfies $x - {a} = {x - a}$?",
            f"{name} thinks of a number and takes away {a}. The result is {x - a}. What was the number?",
        )
    )
    return Worked(statement, (Step("Add on both sides", f"{x - a} + {a} = {x}"),), str(x))


def _two_steps(case: Case, rng: Random) -> Worked:
    a, x, b = case
    right = a * x + b
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"Find $x$ if ${a}x + {b} = {right}$.",
            f"The equation ${b} + {a}x = {right}$ has one solution. What is it?",
            f"{name} multiplies a number by {a}, adds {b} and gets {right}. What is the number?",
        )
    )
    steps = (
        Step("Subtract on both sides", f"{right} - {b} = {a * x}"),
        Step("Divide by the coefficient", f"{a * x} {OVER} {a} = {x}"),
    )
    return Worked(statement, steps, str(x))


def _two_steps_down(case: Case, rng: Random) -> Worked:
    a, x, b = case
    right = a * x - b
    statement = rng.choice(
        (f"Find $x$ if ${a}x - {b} = {right}$.", f"What number $x$ makes ${a}x - {b}$ equal to ${right}$?")
    )
    steps = (
        Step("Add on both sides", f"{right} + {b} = {a * x}"),
        Step("Divide by the coefficient", f"{a * x} {OVER} {a} = {x}"),
    )
    return Worked(statement, steps, str(x))


def _both_sides(case: Case, rng: Random) -> Worked:
    c, k, x, b = case
    a, d = c + k, k * x + b
    statement = rng.choice(
        (
            f"Solve ${a}x + {b} = {term(c, 'x')} + {d}$.",
            f"For which $x$ are ${a}x + {b}$ and ${term(c, 'x')} + {d}$ equal?",
        )
    )
    steps = (
        Step("Gather the unknowns on one side", f"{a} - {c} = {k}"),
        Step("Gather the numbers on the other", f"{d} - {b} = {k * x}"),
        Step("Divide by the coefficient", f"{k * x} {OVER} {k} = {x}"),
    )
    return Worked(statement, steps, str(x))


def _function_value(case: Case, rng: Random) -> Worked:
    a, b, c, t = case
    square, first, second = t * t, a * t * t, b * t
    rule = f"{term(a, 'x^2')} + {term(b, 'x')} + {c}"
    statement = rng.choice(
        (
            f"For $f(x) = {rule}$, compute $f({t})$.",
            f"A function is given by $g(x) = {rule}$. What is $g({t})$?",
        )
    )
    steps = (
        Step("Square the input", f"{t}^2 = {square}"),
        Step("The quadratic term", f"{a} {TIMES} {square} = {first}"),
        Step("The linear term", f"{b} {TIMES} {t} = {second}"),
        Step("Add these terms", f"{first} + {second} = {first + second}"),
        Step("Add the constant", f"{first + second} + {c} = {first + second + c}"),
    )
    return Worked(statement, steps, str(first + second + c))


def _two_unknowns(case: Case, rng: Random) -> Worked:
    a, x, y = case
    low, high = x + y, a * x + y
    statement = rng.choice(
        (
            f"Find the pair $(x, y)$ with $x + y = {low}$ and ${a}x + y = {high}$.",
            f"The lines $x + y = {low}$ and ${a}x + y = {high}$ meet in one point. Give it as $(x, y)$.",
        )
    )
    steps = (
        Step("Subtract the coefficients", f"{a} - 1 = {a - 1}"),
        Step("Subtract the right sides", f"{high} - {low} = {high - low}"),
        Step("Divide", f"{high - low} {OVER} {a - 1} = {x}"),
        Step("Put this into the first equation", f"{low} - {x} = {y}"),
    )
    return Worked(statement, steps, f"({x}, {y})")


def _sum_and_difference(case: Case, rng: Random) -> Worked:
    x, y = case
    total, gap = x + y, x - y
    statement = rng.choice(
        (
            f"Find the pair $(x, y)$ with $x + y = {total}$ and $x - y = {gap}$.",
            f"Two numbers $x$ and $y$ have the sum {total}, and $x$ is {gap} larger than $y$. Give $(x, y)$.",
        )
    )
    steps = (
        Step("Add the equations", f"{total} + {gap} = {2 * x}"),
        Step("Halve", f"{2 * x} {OVER} 2 = {x}"),
        Step("Put this into the first equation", f"{total} - {x} = {y}"),
    )
    return Worked(statement, steps, f"({x}, {y})")


TEMPLATES = (
    Template("shifted-up", 1, tuple((x, a) for x in range(2, 31) for a in range(2, 21)), _shifted_up),
    Template("shifted-down", 1, tuple((x, a) for x in range(6, 36) for a in range(2, min(x, 18))), _shifted_down),
    Template(
        "two-steps", 2, tuple((a, x, b) for a in range(2, 9) for x in range(2, 9) for b in range(1, 16)), _two_steps
    ),
    Template(
        "two-steps-down",
        2,
        tuple((a, x, b) for a in range(2, 9) for x in range(2, 9) for b in range(1, 13) if a * x > b),
        _two_steps_down,
    ),
    Template(
        "both-sides",
        3,
        tuple((c, k, x, b) for c in range(1, 5) for k in range(2, 6) for x in range(2, 9) for b in range(1, 8)),
        _both_sides,
    ),
    Template(
        "function-value",
        4,
        tuple((a, b, c, t) for a in range(1, 4) for b in range(1, 6) for c in range(1, 10) for t in range(2, 5)),
        _function_value,
    ),
    Template(
        "two-unknowns",
        5,
        tuple((a, x, y) for a in range(2, 6) for x in range(1, 10) for y in range(1, 10)),
        _two_unknowns,
    ),
    Template(
        "sum-and-difference", 5, tuple((x, y) for x in range(3, 25) for y in range(1, min(x, 16))), _sum_and_difference
    ),
)

"""Precalculus: vectors, exact trigonometric values, radians, distances, determinants, composition."""

from random import Random

from overproof.demo.problems.latex import OVER, TIMES, fraction, multiple_of_pi, root, surd
from overproof.demo.problems.worked import NAMES, Case, Step, Template, Worked, root_steps

TYPE = "Precalculus"

# twice the sine of an angle in degrees is the root of this number: sin 30 = sqrt(1)/2, sin 45 = sqrt(2)/2, ...
_SINE_RADICANDS = {30: 1, 45: 2, 60: 3}


def _exact(factor: int, function: str, degrees: int) -> str:
    """`factor * sin(degrees)` or the cosine, exactly, for 30, 45 and 60 degrees."""
    angle = degrees if function == "sin" else 90 - degrees
    return surd(factor, _SINE_RADICANDS[angle], 2)


def _vector_sum(case: Case, rng: Random) -> Worked:
    a, b, c, d = case
    statement = rng.choice(
        (
            f"Add the vectors $({a}, {b})$ and $({c}, {d})$.",
            f"The point $({a}, {b})$ is shifted by $({c}, {d})$. Where does it land?",
        )
    )
    steps = (
        Step("The first coordinates", f"{a} + {c} = {a + c}"),
        Step("The second coordinates", f"{b} + {d} = {b + d}"),
    )
    return Worked(statement, steps, f"({a + c}, {b + d})")


def _scaled_trig(case: Case, rng: Random) -> Worked:
    factor, degrees, which = case
    function = ("sin", "cos")[which]
    statement = rng.choice(
        (
            rf"Find the exact value of ${factor} \{function} {degrees}^\circ$.",
            rf"A rod of length {factor} is multiplied by $\{function} {degrees}^\circ$. What is the exact length now?",
        )
    )
    value = _exact(factor, function, degrees)
    steps = (
        Step("The known value", rf"\{function} {degrees}^\circ = {_exact(1, function, degrees)}"),
        Step("Multiply", rf"{factor} {TIMES} {_exact(1, function, degrees)} = {value}"),
    )
    return Worked(statement, steps, value)


def _radians(case: Case, rng: Random) -> Worked:
    (degrees,) = case
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            rf"Express ${degrees}^\circ$ in radians.",
            f"{name} turns by {degrees} degrees. Give this angle in radians.",
            f"How many radians are {degrees} degrees?",
        )
    )
    step = Step("Divide by 180, the degrees of pi", f"{degrees} {OVER} 180 = {fraction(degrees, 180)}")
    return Worked(statement, (step,), multiple_of_pi(degrees, 180))


def _dot_product(case: Case, rng: Random) -> Worked:
    a, b, c, d = case
    first, second = a * c, b * d
    statement = rng.choice(
        (
            f"Compute the scalar product of $({a}, {b})$ and $({c}, {d})$.",
            f"Let $u = ({a}, {b})$ and $v = ({c}, {d})$. What is $u \\cdot v$?",
        )
    )
    steps = (
        Step("Multiply the first coordinates", f"{a} {TIMES} {c} = {first}"),
        Step("Multiply the second coordinates", f"{b} {TIMES} {d} = {second}"),
        Step("Add", f"{first} + {second} = {first + second}"),
    )
    return Worked(statement, steps, str(first + second))


def _distance(case: Case, rng: Random) -> Worked:
    a, b, across, up = case
    c, d = a + across, b + up
    total = across**2 + up**2
    statement = rng.choice(
        (
            f"How far apart are the points $({a}, {b})$ and $({c}, {d})$?",
            f"Find the length of the segment from $({a}, {b})$ to $({c}, {d})$.",
        )
    )
    steps = (
        Step("The step to the right", f"{c} - {a} = {across}"),
        Step("The step upwards", f"{d} - {b} = {up}"),
        Step("The first square", f"{across}^2 = {across**2}"),
        Step("The second square", f"{up}^2 = {up**2}"),
        Step("Add the squares", f"{across**2} + {up**2} = {total}"),
        *root_steps(total),
    )
    return Worked(statement, steps, root(total))


def _from_polar(case: Case, rng: Random) -> Worked:
    radius, degrees = case
    x, y = _exact(radius, "cos", degrees), _exact(radius, "sin", degrees)
    statement = rng.choice(
        (
            rf"A point has polar coordinates $({radius}, {degrees}^\circ)$. Give its rectangular coordinates.",
            f"A point lies {radius} from the origin at an angle of {degrees} degrees to the $x$-axis. Find $(x, y)$.",
        )
    )
    steps = (
        Step("The first coordinate", rf"{radius} {TIMES} {_exact(1, 'cos', degrees)} = {x}"),
        Step("The second coordinate", rf"{radius} {TIMES} {_exact(1, 'sin', degrees)} = {y}"),
    )
    return Worked(statement, steps, f"({x}, {y})")


def _determinant(case: Case, rng: Random) -> Worked:
    a, b, c, d = case
    matrix = rf"\begin{{pmatrix}} {a} & {b} \\ {c} & {d} \end{{pmatrix}}"
    statement = rng.choice(
        (
            f"Find the determinant of ${matrix}$.",
            f"The columns of ${matrix}$ span a parallelogram. What is its area?",
        )
    )
    steps = (
        Step("The falling diagonal", f"{a} {TIMES} {d} = {a * d}"),
        Step("The rising diagonal", f"{b} {TIMES} {c} = {b * c}"),
        Step("Subtract", f"{a * d} - {b * c} = {a * d - b * c}"),
    )
    return Worked(statement, steps, str(a * d - b * c))


def _composition(case: Case, rng: Random) -> Worked:
    a, b, c, t = case
    square, inner = t * t, t * t + c
    statement = rng.choice(
        (
            f"Let $f(x) = {a}x + {b}$ and $g(x) = x^2 + {c}$. Find $f(g({t}))$.",
            f"Given $g(x) = x^2 + {c}$ and $f(x) = {a}x + {b}$, what is $f(g({t}))$?",
        )
    )
    steps = (
        Step("Square the input", f"{t}^2 = {square}"),
        Step("Finish the inner function", f"{square} + {c} = {inner}"),
        Step("Multiply", f"{a} {TIMES} {inner} = {a * inner}"),
        Step("Finish the outer function", f"{a * inner} + {b} = {a * inner + b}"),
    )
    return Worked(statement, steps, str(a * inner + b))


_DETERMINANTS = tuple(
    (a, b, c, d) for a in range(2, 8) for b in range(1, 6) for c in range(1, 6) for d in range(2, 8) if a * d > b * c
)

TEMPLATES = (
    Template(
        "vector-sum",
        1,
        tuple(
            (a, b, c, d)
            for a in range(1, 20, 2)
            for b in range(2, 16, 2)
            for c in range(2, 12, 3)
            for d in range(1, 12, 3)
        ),
        _vector_sum,
    ),
    Template(
        "scaled-trig",
        2,
        tuple((k, angle, which) for k in range(2, 19) for angle in _SINE_RADICANDS for which in (0, 1)),
        _scaled_trig,
    ),
    Template("radians", 2, tuple((d,) for d in range(5, 361, 5)), _radians),
    Template(
        "dot-product",
        3,
        tuple((a, b, c, d) for a in range(1, 8) for b in range(1, 8) for c in range(2, 7) for d in range(2, 7)),
        _dot_product,
    ),
    Template(
        "distance",
        4,
        tuple(
            (a, b, right, up) for a in range(1, 7) for b in range(1, 7) for right in range(1, 9) for up in range(1, 9)
        ),
        _distance,
    ),
    Template("from-polar", 4, tuple((r, angle) for r in range(2, 31) for angle in _SINE_RADICANDS), _from_polar),
    Template("determinant", 5, _DETERMINANTS, _determinant),
    Template(
        "composition",
        5,
        tuple((a, b, c, t) for a in range(2, 5) for b in range(1, 10) for c in range(1, 6) for t in range(2, 5)),
        _composition,
    ),
)

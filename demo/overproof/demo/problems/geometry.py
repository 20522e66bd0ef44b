"""Geometry: lengths, angles, areas and diagonals, circles and solids."""

from random import Random

from overproof.demo.problems.latex import OVER, TIMES, multiple_of_pi, root
from overproof.demo.problems.worked import NAMES, Case, Step, Template, Worked, root_steps

TYPE = "Geometry"


def _rectangle_area(case: Case, rng: Random) -> Worked:
    a, b = rng.sample(case, 2)
    shape = rng.choice(("lawn", "table top", "poster", "pool", "window"))
    statement = rng.choice(
        (
            f"A rectangle is {a} units long and {b} units wide. Find its area.",
            f"A {shape} measures {a} by {b}. What area does it cover?",
        )
    )
    return Worked(statement, (Step("Multiply length and width", f"{a} {TIMES} {b} = {a * b}"),), str(a * b))


def _triangle_perimeter(case: Case, rng: Random) -> Worked:
    a, b, c = rng.sample(case, 3)
    statement = rng.choice(
        (
            f"The sides of a triangle are {a}, {b} and {c}. Find its perimeter.",
            f"{rng.choice(NAMES)} walks once around a triangle with sides {a}, {b} and {c}. How long is the walk?",
        )
    )
    steps = (
        Step("Add two sides", f"{a} + {b} = {a + b}"),
        Step("Add the third side", f"{a + b} + {c} = {a + b + c}"),
    )
    return Worked(statement, steps, str(a + b + c))


def _rectangle_perimeter(case: Case, rng: Random) -> Worked:
    a, b = rng.sample(case, 2)
    statement = rng.choice(
        (
            f"A rectangle is {a} units long and {b} units wide. Find its perimeter.",
            f"{rng.choice(NAMES)} fences a field of {a} by {b} meters. How many meters of fence are needed?",
        )
    )
    steps = (
        Step("Add length and width", f"{a} + {b} = {a + b}"),
        Step("Every side occurs twice", f"2 {TIMES} {a + b} = {2 * (a + b)}"),
    )
    return Worked(statement, steps, str(2 * (a + b)))


def _third_angle(case: Case, rng: Random) -> Worked:
    a, b = rng.sample(case, 2)
    statement = rng.choice(
        (
            f"A triangle has angles of ${a}^\\circ$ and ${b}^\\circ$. How many degrees has its third angle?",
            f"{rng.choice(NAMES)} measures two angles of a triangle: {a} and {b} degrees. Find the third in degrees.",
        )
    )
    steps = (
        Step("Add the known angles", f"{a} + {b} = {a + b}"),
        Step("The angles of a triangle sum to 180", f"180 - {a + b} = {180 - a - b}"),
    )
    return Worked(statement, steps, str(180 - a - b))


def _triangle_area(case: Case, rng: Random) -> Worked:
    base, height = case
    statement = rng.choice(
        (
            f"A triangle has base {base} and height {height}. Find its area.",
            f"A sail is a triangle, {base} meters wide at the foot and {height} meters high. What is its area?",
        )
    )
    steps = (
        Step("Multiply base and height", f"{base} {TIMES} {height} = {base * height}"),
        Step("A triangle is half of that", f"{base * height} {OVER} 2 = {base * height // 2}"),
    )
    return Worked(statement, steps, str(base * height // 2))


def _hypotenuse(case: Case, rng: Random) -> Worked:
    a, b = rng.sample(case, 2)
    total = a * a + b * b
    statement = rng.choice(
        (
            f"The legs of a right triangle are {a} and {b}. How long is its hypotenuse?",
            f"A screen is {a} wide and {b} high. Find the exact length of its diagonal.",
            f"{rng.choice(NAMES)} walks {a} miles east and {b} miles north. How far is the start in a straight line?",
        )
    )
    steps = (
        Step("The first square", f"{a}^2 = {a * a}"),
        Step("The second square", f"{b}^2 = {b * b}"),
        Step("Add the squares", f"{a * a} + {b * b} = {total}"),
        *root_steps(total),
    )
    return Worked(statement, steps, root(total))


def _trapezoid_area(case: Case, rng: Random) -> Worked:
    a, b, height = case
    a, b = rng.sample((a, b), 2)
    total = a + b
    statement = rng.choice(
        (
            f"A trapezoid has parallel sides {a} and {b} and height {height}. Find its area.",
            f"A field has two parallel edges of {a} and {b} meters, {height} meters apart. What is its area?",
        )
    )
    steps = (
        Step("Add the parallel sides", f"{a} + {b} = {total}"),
        Step("Multiply by the height", f"{total} {TIMES} {height} = {total * height}"),
        Step("Halve", f"{total * height} {OVER} 2 = {total * height // 2}"),
    )
    return Worked(statement, steps, str(total * height // 2))


def _ring(case: Case, rng: Random) -> Worked:
    outer, inner = case
    area = outer * outer - inner * inner
    statement = rng.choice(
        (
            f"Two circles share a center and have radii {inner} and {outer}. Find the area between them.",
            f"A round hole of radius {inner} is cut into a disk of radius {outer}. What area is left?",
        )
    )
    steps = (
        Step("The large square", f"{outer}^2 = {outer * outer}"),
        Step("The small square", f"{inner}^2 = {inner * inner}"),
        Step("Subtract, pi is a common factor", f"{outer * outer} - {inner * inner} = {area}"),
    )
    return Worked(statement, steps, multiple_of_pi(area))


def _cylinder_side(case: Case, rng: Random) -> Worked:
    radius, height = case
    both = radius * height
    statement = rng.choice(
        (
            f"A can has radius {radius} and height {height}. What is the area of its curved side?",
            f"A label covers the side of a tin of radius {radius} and height {height}. Find the area of the label.",
        )
    )
    steps = (
        Step("Multiply radius and height", f"{radius} {TIMES} {height} = {both}"),
        Step("Double it, pi is a factor", f"2 {TIMES} {both} = {2 * both}"),
    )
    return Worked(statement, steps, multiple_of_pi(2 * both))


def _box_diagonal(case: Case, rng: Random) -> Worked:
    a, b, c = case
    flat, total = a * a + b * b, a * a + b * b + c * c
    statement = rng.choice(
        (
            f"A box measures {a} by {b} by {c}. Find the length of its space diagonal.",
            f"How long is the longest straight rod that fits into a crate of {a} by {b} by {c}?",
        )
    )
    steps = (
        Step("The first square", f"{a}^2 = {a * a}"),
        Step("The second square", f"{b}^2 = {b * b}"),
        Step("The third square", f"{c}^2 = {c * c}"),
        Step("Add two squares", f"{a * a} + {b * b} = {flat}"),
        Step("Add the third", f"{flat} + {c * c} = {total}"),
        *root_steps(total),
    )
    return Worked(statement, steps, root(total))


_TRIANGLES = tuple((a, b, c) for a in range(3, 21) for b in range(3, a + 1) for c in range(2, b + 1) if b + c > a)

TEMPLATES = (
    Template("rectangle-area", 1, tuple((a, b) for a in range(3, 13) for b in range(2, min(a, 10))), _rectangle_area),
    Template("triangle-perimeter", 1, _TRIANGLES, _triangle_perimeter),
    Template(
        "rectangle-perimeter",
        2,
        tuple((a, b) for a in range(3, 28) for b in range(2, min(a, 20))),
        _rectangle_perimeter,
    ),
    Template("third-angle", 3, tuple((a, b) for a in range(20, 95, 5) for b in range(15, min(a, 80), 5)), _third_angle),
    Template(
        "triangle-area",
        3,
        tuple((a, b) for a in range(2, 13) for b in range(2, 13) if a * b % 2 == 0 and a * b < 100),
        _triangle_area,
    ),
    Template("hypotenuse", 4, tuple((a, b) for a in range(2, 10) for b in range(1, a)), _hypotenuse),
    Template(
        "trapezoid-area",
        4,
        tuple(
            (a, b, h)
            for a in range(3, 10)
            for b in range(2, a)
            for h in range(2, 9)
            if (a + b) * h % 2 == 0 and (a + b) * h < 100
        ),
        _trapezoid_area,
    ),
    Template("ring", 5, tuple((outer, inner) for outer in range(2, 11) for inner in range(1, outer)), _ring),
    Template(
        "cylinder-side", 5, tuple((r, h) for r in range(1, 10) for h in range(2, 10) if r * h < 50), _cylinder_side
    ),
    Template(
        "box-diagonal",
        5,
        tuple(
            (a, b, c)
            for a in range(1, 8)
            for b in range(1, a + 1)
            for c in range(1, b + 1)
            if a * a + b * b + c * c < 100
        ),
        _box_diagonal,
    ),
)

"""Number theory: remainders, common divisors and multiples, bases, divisor counts, powers in a modulus."""

from math import gcd
from random import Random

from overproof.demo.problems.latex import OVER, TIMES
from overproof.demo.problems.worked import NAMES, THINGS, Case, Step, Template, Worked

TYPE = "Number Theory"


def _division(whole: int, by: int) -> str:
    """Division with remainder as an equation."""
    quotient, rest = divmod(whole, by)
    return f"{whole} = {by} {TIMES} {quotient} + {rest}"


def _remainder(case: Case, rng: Random) -> Worked:
    whole, by = case
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    statement = rng.choice(
        (
            f"Divide ${whole}$ by ${by}$. What is the remainder?",
            rf"Which number from $0$ to ${by - 1}$ is congruent to ${whole}$ modulo ${by}$?",
            f"{name} packs {whole} {things} into full boxes of {by}. How many {things} are left over?",
        )
    )
    return Worked(statement, (Step("Divide with remainder", _division(whole, by)),), str(whole % by))


def _euclid(a: int, b: int) -> tuple[Step, ...]:
    """The division steps of Euclid's algorithm (Elements VII.2) down to the remainder zero."""
    steps = []
    while b:
        steps.append(Step("Divide with remainder", _division(a, b)))
        a, b = b, a % b
    return tuple(steps)


def _common_divisor(case: Case, rng: Random) -> Worked:
    a, b = case
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"What is the greatest common divisor of ${a}$ and ${b}$?",
            rf"Compute $\gcd({a}, {b})$.",
            f"{name} cuts ribbons of {a} and {b} inches into equal pieces with nothing left. "
            "How many inches long can a piece be at most?",
        )
    )
    return Worked(statement, _euclid(a, b), str(gcd(a, b)))


def _common_multiple(case: Case, rng: Random) -> Worked:
    a, b = case
    divisor = gcd(a, b)
    part = a // divisor
    statement = rng.choice(
        (
            f"What is the least common multiple of ${a}$ and ${b}$?",
            f"One light blinks every {a} seconds, another every {b} seconds. "
            "They blink together now. After how many seconds does that happen again?",
        )
    )
    steps = (
        *_euclid(a, b),
        Step("Divide by the common divisor", f"{a} {OVER} {divisor} = {part}"),
        Step("Multiply", f"{part} {TIMES} {b} = {part * b}"),
    )
    return Worked(statement, steps, str(part * b))


def _to_base_ten(case: Case, rng: Random) -> Worked:
    base, high, low = case
    statement = rng.choice(
        (
            f"Write the base-{base} number ${high}{low}_{base}$ in base ten.",
            f"A number has the digits {high} and {low} in base {base}. What is it in base ten?",
        )
    )
    steps = (
        Step("The first digit counts the base", f"{high} {TIMES} {base} = {high * base}"),
        Step("Add the last digit", f"{high * base} + {low} = {high * base + low}"),
    )
    return Worked(statement, steps, str(high * base + low))


def _divisor_count(case: Case, rng: Random) -> Worked:
    p, i, q, j = case
    whole = p**i * q**j
    count = (i + 1) * (j + 1)
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    statement = rng.choice(
        (
            f"How many positive integers divide ${whole}$?",
            f"Count the positive divisors of ${whole}$.",
            f"{name} lays {whole} {things} in rows of equal length. How many lengths are possible?",
        )
    )
    steps = (
        Step("Factor the number into primes", f"{whole} = {p}^{i} {TIMES} {q}^{j}"),
        Step("Multiply the exponents plus one", f"{i + 1} {TIMES} {j + 1} = {count}"),
    )
    return Worked(statement, steps, str(count))


def _multiples_between(case: Case, rng: Random) -> Worked:
    by, low, high = case
    statement = rng.choice(
        (
            f"How many multiples of ${by}$ are larger than ${low}$ and at most ${high}$?",
            f"Count the integers $n$ with ${low} < n \\le {high}$ that ${by}$ divides.",
        )
    )
    steps = (
        Step("Count up to the upper end", _division(high, by)),
        Step("Count up to the lower end", _division(low, by)),
        Step("Subtract the counts", f"{high // by} - {low // by} = {high // by - low // by}"),
    )
    return Worked(statement, steps, str(high // by - low // by))


def _power_remainder(case: Case, rng: Random) -> Worked:
    base, exponent, modulus = case
    statement = rng.choice(
        (
            f"What remainder does ${base}^{exponent}$ leave when divided by ${modulus}$?",
            f"Reduce ${base}^{exponent}$ modulo ${modulus}$.",
        )
    )
    steps, rest = [], base % modulus
    for power in range(2, exponent + 1):
        steps.append(Step(f"Power {power}", f"{rest} {TIMES} {base} = {rest * base}"))
        steps.append(Step("Divide with remainder", _division(rest * base, modulus)))
        rest = rest * base % modulus
    return Worked(statement, tuple(steps), str(rest))


_PAIRS = tuple((a, b) for a in range(6, 49) for b in range(4, min(a, 31)) if gcd(a, b) > 1)
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)
_FACTORED = tuple(
    (p, i, q, j)
    for p in _PRIMES
    for q in _PRIMES
    if p < q
    for i in range(1, 5)
    for j in range(1, 4)
    if p**i * q**j < 100
)

TEMPLATES = (
    Template("remainder", 1, tuple((n, m) for m in range(3, 10) for n in range(m + 2, 61)), _remainder),
    Template("common-divisor", 2, _PAIRS, _common_divisor),
    Template("common-multiple", 3, tuple((a, b) for a, b in _PAIRS if a * b // gcd(a, b) < 100), _common_multiple),
    Template(
        "to-base-ten",
        3,
        tuple((b, high, low) for b in range(4, 10) for high in range(1, b) for low in range(b)),
        _to_base_ten,
    ),
    Template("divisor-count", 4, _FACTORED, _divisor_count),
    Template(
        "multiples-between",
        4,
        tuple((m, low, high) for m in range(3, 10) for low in range(m, 25, 3) for high in range(30, 61, 2)),
        _multiples_between,
    ),
    Template(
        "power-remainder",
        5,
        tuple((b, k, m) for b in range(2, 10) for k in range(2, 6) for m in range(3, 12) if b != m),
        _power_remainder,
    ),
)

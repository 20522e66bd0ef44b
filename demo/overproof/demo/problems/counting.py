"""Counting and probability: sums and products of choices, overlaps, draws from a bag, expected value."""

from math import comb, gcd, perm
from random import Random

from overproof.demo.problems.latex import OVER, TIMES, fraction
from overproof.demo.problems.worked import COLOURS, NAMES, Case, Step, Template, Worked

TYPE = "Counting & Probability"


def _either_choice(case: Case, rng: Random) -> Worked:
    a, b = rng.sample(case, 2)
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"{name} may take one of {a} trains or one of {b} buses. How many ways to travel are there?",
            f"A menu has {a} soups and {b} salads. {name} orders one dish. How many choices are there?",
        )
    )
    return Worked(statement, (Step("Either kind will do, so add", f"{a} + {b} = {a + b}"),), str(a + b))


def _both_choices(case: Case, rng: Random) -> Worked:
    a, b = rng.sample(case, 2)
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"{name} has {a} coats and {b} scarves. In how many ways can {name} wear one coat and one scarf?",
            f"A code is one of {a} letters followed by one of {b} digits. How many codes are there?",
        )
    )
    return Worked(statement, (Step("Every choice goes with every other", f"{a} {TIMES} {b} = {a * b}"),), str(a * b))


def _one_draw(case: Case, rng: Random) -> Worked:
    a, b = case
    first, second = rng.sample(COLOURS, 2)
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"{name} draws one of {a} {first} and {b} {second} balls at random. How likely is a {first} ball?",
            f"An urn holds {a} {first} and {b} {second} balls. What is the probability of drawing a {first} one?",
        )
    )
    steps = (
        Step("Count all balls", f"{a} + {b} = {a + b}"),
        Step("Divide the good ones by all", f"{a} {OVER} {a + b} = {fraction(a, a + b)}"),
    )
    return Worked(statement, steps, fraction(a, a + b))


def _other_colour(case: Case, rng: Random) -> Worked:
    a, b, c = case
    one, two, three = rng.sample(COLOURS, 3)
    good, total = b + c, a + b + c
    statement = rng.choice(
        (
            f"A box has {a} {one}, {b} {two} and {c} {three} chips. One is drawn. "
            f"What is the probability that it is not {one}?",
            f"Of the flags on a wall {a} are {one}, {b} are {two} and {c} are {three}. "
            f"One falls down. How likely is it that it is {two} or {three}?",
        )
    )
    steps = (
        Step("Count the good ones", f"{b} + {c} = {good}"),
        Step("Count all", f"{good} + {a} = {total}"),
        Step("Divide the good ones by all", f"{good} {OVER} {total} = {fraction(good, total)}"),
    )
    return Worked(statement, steps, fraction(good, total))


def _neither(case: Case, rng: Random) -> Worked:
    whole, a, b, both = case
    either = a + b - both
    statement = rng.choice(
        (
            f"Of {whole} children {a} swim, {b} dance and {both} do both. How many do neither?",
            f"A club has {whole} members: {a} speak French, {b} speak Greek and {both} of them speak both. "
            "How many speak neither language?",
        )
    )
    steps = (
        Step("Add the two groups", f"{a} + {b} = {a + b}"),
        Step("Those in both were counted twice", f"{a + b} - {both} = {either}"),
        Step("Subtract from the whole", f"{whole} - {either} = {whole - either}"),
    )
    return Worked(statement, steps, str(whole - either))


def _pair_and_one(case: Case, rng: Random) -> Worked:
    n, m = case
    ordered, pairs = n * (n - 1), comb(n, 2)
    statement = rng.choice(
        (
            f"In how many ways can a team of 2 girls and 1 boy be picked from {n} girls and {m} boys?",
            f"A plate gets 2 different fruits out of {n} and 1 cheese out of {m}. How many plates are possible?",
        )
    )
    steps = (
        Step("Count ordered pairs", f"{n} {TIMES} {n - 1} = {ordered}"),
        Step("Order does not matter, so halve", f"{ordered} {OVER} 2 = {pairs}"),
        Step("Multiply by the single choice", f"{pairs} {TIMES} {m} = {pairs * m}"),
    )
    return Worked(statement, steps, str(pairs * m))


def _two_posts(case: Case, rng: Random) -> Worked:
    n, m = case
    ordered = perm(n, 2)
    statement = rng.choice(
        (
            f"A club of {n} members elects a chair and a deputy, and hires 1 of {m} coaches. How many outcomes are there?",
            f"Gold and silver go to two of {n} runners, and 1 of {m} judges hands them over. In how many ways can this go?",
        )
    )
    steps = (
        Step("Fill the two places in order", f"{n} {TIMES} {n - 1} = {ordered}"),
        Step("Multiply by the last choice", f"{ordered} {TIMES} {m} = {ordered * m}"),
    )
    return Worked(statement, steps, str(ordered * m))


def _two_draws(case: Case, rng: Random) -> Worked:
    a, b = case
    total, good, ways = a + b, a * (a - 1), (a + b) * (a + b - 1)
    first, second = rng.sample(COLOURS, 2)
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"An urn holds {a} {first} and {b} {second} balls. Two are drawn and not put back. "
            f"What is the probability that both are {first}?",
            f"{name} takes two of {a} {first} and {b} {second} socks in the dark. How likely are two {first} ones?",
        )
    )
    steps = (
        Step("Count all", f"{a} + {b} = {total}"),
        Step("Good ordered pairs", f"{a} {TIMES} {a - 1} = {good}"),
        Step("All ordered pairs", f"{total} {TIMES} {total - 1} = {ways}"),
        Step("Divide", f"{good} {OVER} {ways} = {fraction(good, ways)}"),
    )
    return Worked(statement, steps, fraction(good, ways))


def _expected_prize(case: Case, rng: Random) -> Worked:
    prize, p, q = case
    chance = rf"\frac{{{p}}}{{{q}}}"
    name = rng.choice(NAMES)
    statement = rng.choice(
        (
            f"A ticket wins {prize} coins with probability ${chance}$ and nothing else. What is it worth on average?",
            f"{name} gets {prize} points with probability ${chance}$, otherwise none. How many points are expected?",
        )
    )
    steps = (
        Step("Multiply the prize by the numerator", f"{prize} {TIMES} {p} = {prize * p}"),
        Step("Divide by the denominator", f"{prize * p} {OVER} {q} = {fraction(prize * p, q)}"),
    )
    return Worked(statement, steps, fraction(prize * p, q))


TEMPLATES = (
    Template("either-choice", 1, tuple((a, b) for a in range(3, 30) for b in range(2, min(a, 20))), _either_choice),
    Template("both-choices", 1, tuple((a, b) for a in range(3, 13) for b in range(2, min(a, 10))), _both_choices),
    Template("one-draw", 2, tuple((a, b) for a in range(1, 13) for b in range(1, 13) if a != b), _one_draw),
    Template(
        "other-colour",
        3,
        tuple((a, b, c) for a in range(1, 9) for b in range(1, 8) for c in range(1, 8) if b != c),
        _other_colour,
    ),
    Template(
        "neither",
        4,
        tuple(
            (whole, a, b, both)
            for whole in range(20, 41, 4)
            for a in range(6, 16, 2)
            for b in range(5, 14, 2)
            for both in range(1, 5)
            if a + b - both < whole
        ),
        _neither,
    ),
    Template(
        "pair-and-one",
        4,
        tuple((n, m) for n in range(3, 10) for m in range(2, 10) if comb(n, 2) * m < 100),
        _pair_and_one,
    ),
    Template(
        "two-posts", 4, tuple((n, m) for n in range(3, 10) for m in range(2, 10) if perm(n, 2) * m < 100), _two_posts
    ),
    Template("two-draws", 5, tuple((a, b) for a in range(2, 8) for b in range(1, 8) if a + b < 11), _two_draws),
    Template(
        "expected-prize",
        5,
        tuple((prize, p, q) for prize in range(2, 13) for q in range(2, 9) for p in range(1, q) if gcd(p, q) == 1),
        _expected_prize,
    ),
)

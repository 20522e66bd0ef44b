"""Seeded MATH-like problems in seven subjects and five levels, small enough for a model of half a million parameters.

A problem belongs to a group (its template and numbers); the split is a function of the group alone, so wordings of
one problem never fall on both sides of a split.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from overproof.demo.problems.catalog import LEVELS, SPLITS, TYPES, Family, Split, cells, split_of
from overproof.demo.problems.styles import Style, render
from overproof.demo.problems.worked import Case, Step

__all__ = [
    "LEVELS",
    "SPLITS",
    "TYPES",
    "DemoProblem",
    "Split",
    "Step",
    "Style",
    "endless",
    "generate",
    "solution_in_style",
    "split_of",
]

# wordings of one case are drawn this often at most; past it nearly every draw is a repetition
WORDINGS_PER_GROUP = 12


@dataclass(frozen=True)
class DemoProblem:
    """A problem with its gold answer and a worked solution."""

    problem: str
    """The statement, LaTeX between dollar signs."""
    answer: str
    """LaTeX of the answer, what stands in the box."""
    solution: str
    """Worked solution in the worded style, ending in the boxed answer."""
    level: int
    """1 (one fact) to 5."""
    type: str
    """The subject, named as in MATH."""
    group: str
    """Template and numbers; equal for all wordings of one problem."""
    steps: tuple[Step, ...]
    """The solution's steps, for other styles."""


def generate(split: Split, n: int, seed: int) -> Iterator[DemoProblem]:
    """`n` problems of `split` with distinct statements, spread evenly over subjects and levels as long as they last.

    The same arguments give the same problems in the same order. The test split has one problem per group; elsewhere
    a group comes back in another wording only when every group has been used. Raises ValueError when the split
    has fewer than `n` distinct problems or `split` is none of train, val, test.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    if n < 0:
        raise ValueError(f"The number of problems must not be negative, but it is {n}.")
    problems = list(islice(_distinct(split, Random(f"{split}:{seed}")), n))
    if len(problems) < n:
        raise ValueError(f"The {split} split has {len(problems)} distinct problems, fewer than the {n} asked for.")
    return iter(problems)


def endless(split: Split, seed: int) -> Iterator[DemoProblem]:
    """Problems without end, with repetitions; subject and level, then template, then case are drawn uniformly."""
    rng = Random(f"endless {split}:{seed}")
    usable = [[(family, cases) for family, cases in cell if cases] for cell in cells(split)]
    while True:
        family, cases = rng.choice(rng.choice(usable))
        yield _write(family, rng.choice(cases), rng)


def solution_in_style(problem: DemoProblem, style: Style) -> str:
    """The worked solution of `problem` in another style."""
    return render(problem.steps, problem.answer, style)


def _distinct(split: Split, rng: Random) -> Iterator[DemoProblem]:
    seen: set[str] = set()
    for _ in range(1 if split == "test" else WORDINGS_PER_GROUP):
        for family, case in _each_group_once(split, rng):
            problem = _write(family, case, rng)
            if problem.problem not in seen:
                seen.add(problem.problem)
                yield problem


def _each_group_once(split: Split, rng: Random) -> Iterator[tuple[Family, Case]]:
    queues = [queue for cell in cells(split) if (queue := _mixed(cell, rng))]
    while queues:
        queue = rng.choice(queues)
        yield queue.popleft()
        if not queue:
            queues.remove(queue)


def _mixed(cell: tuple[tuple[Family, tuple[Case, ...]], ...], rng: Random) -> deque[tuple[Family, Case]]:
    """A cell's cases in random order, its templates taking turns so that a large one does not crowd out a small one."""
    shuffled = [deque((family, case) for case in rng.sample(cases, len(cases))) for family, cases in cell]
    mixed: deque[tuple[Family, Case]] = deque()
    while shuffled := [queue for queue in shuffled if queue]:
        mixed.extend(queue.popleft() for queue in shuffled)
    return mixed


def _write(family: Family, case: Case, rng: Random) -> DemoProblem:
    worked = family.template.write(case, rng)
    return DemoProblem(
        problem=worked.statement,
        answer=worked.answer,
        solution=render(worked.steps, worked.answer, Style.WORDED),
        level=family.template.level,
        type=family.type,
        group=family.group(case),
        steps=worked.steps,
    )

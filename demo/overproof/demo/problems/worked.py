"""What a template is made of: cases (its numbers), a statement, worked steps and an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from overproof.demo.problems.latex import root

Case = tuple[int, ...]

NAMES = ("Ada", "Bruno", "Clara", "Dev", "Elif", "Farah", "Goran", "Hana", "Ivo", "Jana", "Kofi", "Lena", "Milo")
THINGS = ("beads", "buttons", "pears", "plums", "marbles", "nails", "pencils", "seeds", "stickers", "tiles", "tokens")
COLOURS = ("red", "blue", "green", "white", "black", "yellow")


class Step(NamedTuple):
    """One line of reasoning."""

    reason: str
    """What is done, as the start of a sentence without its full stop."""
    equation: str
    """LaTeX of a true equation, without dollar signs."""


class Worked(NamedTuple):
    """A statement with its steps; the last step ends in the answer or in what the answer is made of."""

    statement: str
    steps: tuple[Step, ...]
    answer: str


@dataclass(frozen=True)
class Template:
    """A family of problems of one level that differ by their numbers, and beyond those only by wording."""

    name: str
    level: int
    cases: tuple[Case, ...]
    """The numbers of every member; members that differ by a symmetry only (3 + 5, 5 + 3) are one case."""
    write: Callable[[Case, Random], Worked]
    """Words one case; the generator picks names, things and one of the wordings."""


def root_steps(radicand: int) -> tuple[Step, ...]:
    """The step that takes square factors out of a root; none when there is nothing to take out."""
    bare = rf"\sqrt{{{radicand}}}"
    return () if root(radicand) == bare else (Step("Take the root", f"{bare} = {root(radicand)}"),)

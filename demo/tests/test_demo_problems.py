"""The generator: deterministic, split by group, every worked solution true."""

import math
import re
from collections import Counter

import pytest

from overproof.demo.problems import (
    LEVELS,
    SPLITS,
    TYPES,
    DemoProblem,
    Split,
    Style,
    endless,
    generate,
    solution_in_style,
    split_of,
)
from overproof.demo.problems.catalog import FAMILIES, cells

TOKEN = re.compile(r"\\[a-z]+|\d+|\S")


class Equation:
    """Values of the few LaTeX forms that steps use, by recursive descent: no code is evaluated."""

    def __init__(self, text: str) -> None:
        self.tokens = [*TOKEN.findall(text), "end"]

    def sides(self) -> list[float]:
        values = [self.sum()]
        while self.take("="):
            values.append(self.sum())
        assert self.tokens == ["end"], self.tokens
        return values

    def take(self, token: str) -> bool:
        if self.tokens[0] != token:
            return False
        self.tokens.pop(0)
        return True

    def need(self, token: str) -> None:
        assert self.take(token), (token, self.tokens)

    def sum(self) -> float:
        value = self.product()
        while self.tokens[0] in "+-":
            value += self.product() if self.tokens.pop(0) == "+" else -self.product()
        return value

    def product(self) -> float:
        value = self.power()
        while True:
            if self.take(r"\cdot"):
                value *= self.power()
            elif self.take(r"\div"):
                value /= self.power()
            elif self.tokens[0] in (r"\sqrt", r"\pi"):
                value *= self.power()
            else:
                return value

    def power(self) -> float:
        value = self.atom()
        return value ** self.atom() if self.take("^") else value

    def braces(self) -> float:
        self.need("{")
        value = self.sum()
        self.need("}")
        return value

    def degrees(self) -> float:
        value = math.radians(float(self.tokens.pop(0)))
        self.need("^")
        self.need(r"\circ")
        return value

    def atom(self) -> float:
        token = self.tokens.pop(0)
        if token == r"\frac":
            return self.braces() / self.braces()
        if token == r"\sqrt":
            return math.sqrt(self.braces())
        if token in (r"\sin", r"\cos"):
            return {r"\sin": math.sin, r"\cos": math.cos}[token](self.degrees())
        return math.pi if token == r"\pi" else float(token)


def values(answer: str) -> list[float]:
    """The numbers of an answer: one, or those of a pair, an interval or a list."""
    return [Equation(part).sides()[0] for part in answer.strip("()").split(", ")]


@pytest.fixture(scope="module")
def everything() -> dict[Split, list[DemoProblem]]:
    sizes: dict[Split, int] = {"train": 20_000, "val": 2_000, "test": 2_000}
    return {split: list(generate(split, size, seed=3)) for split, size in sizes.items()}


def test_the_evaluator_sees_a_false_equation() -> None:
    left, right = Equation(r"3 \cdot 4 + \sqrt{4} = 15").sides()
    assert (left, right) == (14, 15)


def test_same_arguments_same_problems() -> None:
    assert list(generate("train", 200, seed=5)) == list(generate("train", 200, seed=5))


def test_another_seed_gives_other_problems() -> None:
    assert list(generate("train", 200, seed=5)) != list(generate("train", 200, seed=6))


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    assert list(generate("val", 300, seed=1))[:100] == list(generate("val", 100, seed=1))


def test_splits_share_neither_groups_nor_statements(everything: dict[Split, list[DemoProblem]]) -> None:
    pairs: list[tuple[Split, Split]] = [("train", "val"), ("train", "test"), ("val", "test")]
    for one, other in pairs:
        assert not {p.group for p in everything[one]} & {p.group for p in everything[other]}
        assert not {p.problem for p in everything[one]} & {p.problem for p in everything[other]}


def test_the_split_follows_from_the_group(everything: dict[Split, list[DemoProblem]]) -> None:
    assert all(split_of(p.group) == split for split, problems in everything.items() for p in problems)


def test_splits_are_about_80_10_10() -> None:
    sizes = {split: sum(len(cases) for cell in cells(split) for _, cases in cell) for split in SPLITS}
    whole = sum(sizes.values())
    assert 0.78 < sizes["train"] / whole < 0.82
    assert 0.08 < sizes["test"] / whole < 0.12


def test_statements_are_distinct_and_test_groups_too(everything: dict[Split, list[DemoProblem]]) -> None:
    assert all(len({p.problem for p in problems}) == len(problems) for problems in everything.values())
    assert len({p.group for p in everything["test"]}) == len(everything["test"])


def test_cases_of_a_template_are_distinct_and_names_unique() -> None:
    assert all(len(set(f.template.cases)) == len(f.template.cases) for f in FAMILIES)
    assert len({f.template.name for f in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("split", SPLITS)
def test_every_type_and_level_has_its_share(split: Split) -> None:
    counts = Counter((p.type, p.level) for p in generate(split, 350, seed=0))
    assert set(counts) == {(kind, level) for kind in TYPES for level in LEVELS}
    assert min(counts.values()) >= 3


def test_every_step_is_a_true_equation(everything: dict[Split, list[DemoProblem]]) -> None:
    for equation in {step.equation for problems in everything.values() for p in problems for step in p.steps}:
        first, *others = Equation(equation).sides()
        assert others, equation
        assert others == pytest.approx([first] * len(others)), equation


def test_the_answer_follows_from_the_steps(everything: dict[Split, list[DemoProblem]]) -> None:
    for problem in everything["test"]:
        numbers = {round(x, 9) for s in problem.steps for x in [*Equation(s.equation).sides(), *parts(s.equation)]}
        for value in values(problem.answer):
            assert numbers & {round(value, 9), round(value / math.pi, 9)}, problem


def parts(equation: str) -> list[float]:
    """Every number written in an equation: the remainder of a division is an answer as well."""
    return [float(n) for n in re.findall(r"\d+", equation)] + [
        math.sqrt(float(n)) for n in re.findall(r"(?<![\d.])\d+", equation)
    ]


@pytest.mark.parametrize("style", Style)
def test_every_solution_ends_in_the_boxed_answer(style: Style, everything: dict[Split, list[DemoProblem]]) -> None:
    for problem in everything["val"]:
        text = solution_in_style(problem, style)
        assert text.endswith(rf"$\boxed{{{problem.answer}}}$.")
        assert all(f"${step.equation}$" in text for step in problem.steps)


def test_styles_differ_in_length() -> None:
    for problem in generate("train", 100, seed=0):
        terse, worded, verbose = (len(solution_in_style(problem, style)) for style in Style)
        assert terse < worded < verbose


def test_answers_are_of_many_kinds(everything: dict[Split, list[DemoProblem]]) -> None:
    answers = [p.answer for p in everything["test"]]
    kinds = {
        "integer": r"\d+",
        "fraction": r"\\frac\{\d+\}\{\d+\}",
        "surd": r"\d*\\sqrt\{\d+\}",
        "pi": r".*\\pi.*",
        "pair": r"\(.+, .+\)",
        "list": r"[^(]+, [^)]+",
    }
    found = {kind: sum(bool(re.fullmatch(pattern, a)) for a in answers) for kind, pattern in kinds.items()}
    assert min(found.values()) >= 10, found


def test_endless_stays_in_its_split_and_repeats_itself() -> None:
    one, other = endless("train", seed=1), endless("train", seed=1)
    drawn = [next(one) for _ in range(500)]
    assert all(split_of(p.group) == "train" for p in drawn)
    assert drawn == [next(other) for _ in range(500)]


def test_there_are_enough_problems() -> None:
    assert len(list(generate("train", 8_000, seed=0))) == 8_000
    assert len({p.group for p in generate("test", 600, seed=0)}) == 600


def test_too_many_is_said_in_a_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"The test split has \d+ distinct problems, fewer than the 100000 asked for\."
    ):
        generate("test", 100_000, seed=0)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of train, val, test"):
        generate("dev", 1, seed=0)  # type: ignore[arg-type]

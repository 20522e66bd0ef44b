"""Tables of cases: equivalence and extraction, and properties that hold over all of them."""

import json
import random
from pathlib import Path
from timeit import repeat

import pytest

from overproof.grading.domain.cascade import Stage, decide, reading
from overproof.grading.domain.extraction import extract
from overproof.grading.domain.normalise import normalise

CASES = Path(__file__).parent / "cases"
EQUIVALENCE = json.loads((CASES / "equivalence.json").read_text())
EXTRACTION = json.loads((CASES / "extraction.json").read_text())


def label(case: dict[str, str]) -> str:
    return f"{case['source']}: {case.get('answer') or case.get('text')}"[:60]


@pytest.mark.parametrize("case", EQUIVALENCE, ids=label)
def test_the_fast_path_alone_decides_every_case_of_the_policy(case: dict[str, str]) -> None:
    decision = decide(case["answer"], case["gold"])
    assert decision.equal is (case["verdict"] == "correct"), decision


@pytest.mark.parametrize("case", EQUIVALENCE, ids=label)
def test_deciding_is_symmetric(case: dict[str, str]) -> None:
    assert decide(case["answer"], case["gold"]).equal is decide(case["gold"], case["answer"]).equal


@pytest.mark.parametrize("case", EQUIVALENCE, ids=label)
def test_every_side_is_readable_and_equal_to_itself(case: dict[str, str]) -> None:
    for text in (case["answer"], case["gold"]):
        assert decide(text, text + " ").equal
        assert text.count("{") != text.count("}") or "ldots" in text or reading(text).readable


@pytest.mark.parametrize("case", EXTRACTION, ids=label)
def test_extraction(case: dict[str, str]) -> None:
    found = extract(case["text"])
    assert (found and found.method, found and found.answer) == (case["method"], case["answer"])


@pytest.mark.parametrize("case", EXTRACTION, ids=label)
def test_the_span_lies_in_the_text_and_holds_the_answer(case: dict[str, str]) -> None:
    found = extract(case["text"])
    if found is not None and ", " not in found.answer:
        assert found.answer.lstrip("-").strip("()") in case["text"][found.start : found.end]


@pytest.mark.parametrize(
    "unit", ["{", "\\boxed{", "\\[", "\\(", "$", "$a", "1", "the answer is ", "**a", "<answer>", "#### ", "\n>", "1,", "\\boxed{1},", "</think>"]
)  # fmt: skip
def test_extraction_is_linear_in_the_text(unit: str) -> None:
    def seconds(n_chars: int) -> float:
        text = unit * (n_chars // len(unit))
        return min(repeat(lambda: extract(text), number=1, repeat=4))  # the least disturbed by other work

    assert seconds(150_000) < 20 * max(seconds(30_000), 0.01)  # quadratic would be 25 times on texts that take long


def test_the_members_of_a_list_may_come_in_any_order() -> None:
    members = ["\\frac{1}{2}", "-3", "\\sqrt{2}", "2\\pi", "(1,2)", "x+1"]
    gold = ", ".join(members)
    draw = random.Random(7)
    for _ in range(30):
        draw.shuffle(members)
        assert decide(", ".join(members), gold).equal
        assert decide("\\{" + ", ".join(members) + "\\}", gold).equal
        assert decide(", ".join(members[1:]), gold).equal is False


def test_the_verdict_does_not_depend_on_what_was_asked_before() -> None:
    def verdicts(cases: list[dict[str, str]]) -> dict[str, bool | None]:
        return {f"{case['answer']}|{case['gold']}": decide(case["answer"], case["gold"]).equal for case in cases}

    shuffled = random.Random(3).sample(EQUIVALENCE, len(EQUIVALENCE))
    assert verdicts(EQUIVALENCE) == verdicts(shuffled)


def test_random_junk_never_raises_and_is_judged_symmetrically() -> None:
    draw = random.Random(11)
    pieces = [
        *"0123456789+-*/^=(){}[],;|!.%$ xyei<>_&\"':",
        "\\frac",
        "\\sqrt",
        "\\text{",
        "\\boxed{",
        "\\cup",
        "\\pm",
        "\\in",
        "\\{",
        "\\}",
    ]
    pieces += [
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "\\infty",
        "\\le",
        "^\\circ",
        "\\log",
        "\\sin",
        " or ",
        " and ",
        "\x00",
        "½",
        "\\\\",
    ]
    for _ in range(3_000):
        one = "".join(draw.choices(pieces, k=draw.randrange(1, 20)))
        other = "".join(draw.choices(pieces, k=draw.randrange(1, 12)))
        assert decide(one, other).equal is decide(other, one).equal, (one, other)
        reading(one)
        extract(one)


@pytest.mark.parametrize(
    ("answer", "gold", "stage"),
    [
        ("\\frac{1}{2}", "\\frac{1}{2}", Stage.EXACT),
        ("\\dfrac12", "\\frac{1}{2}", Stage.NORMALISED),
        ("0.5", "\\frac{1}{2}", Stage.RATIONAL),
        ("1,2", "2,1", Stage.STRUCTURAL),
        ("\\sqrt{8}", "2\\sqrt{2}", Stage.NUMERIC),
        ("\\int_0^1 x dx", "1/2", Stage.UNDECIDED),
    ],
)
def test_the_cheapest_stage_decides(answer: str, gold: str, stage: Stage) -> None:
    assert decide(answer, gold).stage is stage


def test_a_rounded_decimal_is_wrong_and_named() -> None:
    assert decide("0.333", "\\frac{1}{3}") == (False, Stage.RATIONAL, "the decimal is the other answer, rounded")
    assert decide("1.41421", "\\sqrt{2}").reason == "the decimal is the other answer, rounded"
    assert decide("1.5", "\\sqrt{2}").reason == ""


@pytest.mark.parametrize("gold", ["", "  ", "\\frac{1}{2", "$$", "a " * 1500, "word " * 20])
def test_a_gold_that_cannot_be_read_says_why(gold: str) -> None:
    assert reading(gold).readable is False
    assert reading(gold).reason


def test_normalising_twice_changes_nothing() -> None:
    for case in EQUIVALENCE:
        once = normalise(case["answer"])
        if "\\" not in once:
            assert normalise(once) == once

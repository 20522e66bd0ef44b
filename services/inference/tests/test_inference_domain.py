"""Seeds, adaptive sampling, order and counts."""

from __future__ import annotations

import random

import pytest

from overproof.inference.adapters.canned_engine import CannedEngine
from overproof.inference.domain.requests import Problem, request_for, seed_of
from overproof.inference.domain.rows import Sampled, Tally, columns, in_order
from overproof.inference.ports import Completion, Request
from overproof.shared.errors import ModelError
from overproof.shared.recipe import PromptOptions, Shot
from overproof.shared.specs import Sampling
from overproof.shared.tables import COMPLETIONS
from overproof.shared.topology import FinishReason

STOP, LENGTH, ERROR = FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR


def completion(number: int, draw: int, reason: FinishReason = STOP, text: str = "x") -> Completion:
    return Completion(number, draw, text, 3, 10, reason)


def test_seed_is_the_same_for_ever() -> None:
    assert seed_of(7, "abc", 2) == 6031075661860947495


def test_seeds_differ_by_run_seed_problem_and_sample() -> None:
    seeds = {seed_of(s, p, k) for s in range(3) for p in ("a", "b", "1", "11") for k in range(3)}
    assert len(seeds) == 3 * 4 * 3
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_later_pass_goes_on_with_the_next_samples() -> None:
    problem = Problem("p", "1 + 1?")
    whole = request_for(0, problem, PromptOptions(), Sampling(samples=4))
    later = request_for(0, problem, PromptOptions(), Sampling(samples=2, first_sample=2))
    assert later.seeds == whole.seeds[2:]


def test_prompt_has_system_examples_and_problem() -> None:
    prompt = PromptOptions(system="Be short.", template="Q: {problem}", few_shot=(Shot(problem="a", solution="b"),))
    turns = request_for(3, Problem("p", "c {x}"), prompt, Sampling()).turns
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("system", "Be short."), ("user", "Q: a"), ("assistant", "b"), ("user", "Q: c {x}"),
    ]  # fmt: skip


def test_completions_come_out_in_order() -> None:
    made = [completion(number, draw) for number in range(5) for draw in range(3)]
    shuffled = random.Random(1).sample(made, len(made))
    assert list(in_order(shuffled, lambda _: 3)) == made


def test_requests_may_have_different_numbers_of_completions() -> None:
    draws = [2, 1, 3, 1]
    made = [completion(number, draw) for number, n in enumerate(draws) for draw in range(n)]
    shuffled = random.Random(2).sample(made, len(made))
    assert list(in_order(shuffled, draws.__getitem__)) == made


def test_order_is_kept_while_streaming() -> None:
    source = iter([completion(0, 0), completion(0, 1), completion(2, 0), completion(1, 0), completion(1, 1)])
    ordered = in_order(source, lambda _: 2)
    assert [next(ordered)[:2] for _ in range(2)] == [(0, 0), (0, 1)]
    assert next(source)[:2] == (2, 0)


def test_rows_fit_the_table() -> None:
    rows = [Sampled("p", 4, 99, completion(0, 0, LENGTH))]
    found = columns(rows, {"round": 1, "role": "teacher", "model": "m", "spec": "s"})
    assert set(found) == set(COMPLETIONS.names)
    assert (found["finish_reason"], found["seed"], found["sample"], found["model"]) == (["length"], [99], [4], ["m"])


def test_tally_counts_by_outcome() -> None:
    tally = Tally()
    for one in (completion(0, 0), completion(0, 1, LENGTH), completion(1, 0, ERROR, "too long")):
        tally.add(one)
    notes = tally.notes()
    assert (notes["completions"], notes["tokens"], notes["prompt_tokens"]) == (3, 9, 30)
    assert (notes["truncated"], notes["errors"]) == (1, 1)


@pytest.mark.parametrize(
    ("errors", "ratio", "fails"), [(1, 0.99, True), (1, 0.9, False), (0, 1.0, False), (10, 0, False)]
)
def test_shard_fails_below_the_success_ratio(errors: int, ratio: float, fails: bool) -> None:
    tally = Tally()
    for number in range(10):
        tally.add(completion(number, 0, ERROR if number < errors else STOP, "The prompt has 9 tokens."))
    if fails:
        with pytest.raises(ModelError, match=r"1 of 10 .* The prompt has 9 tokens"):
            tally.require(ratio)
    else:
        tally.require(ratio)


def test_empty_shard_succeeds() -> None:
    Tally().require(1.0)


def canned(text: str, seeds: tuple[int, ...], max_tokens: int = 500) -> list[Completion]:
    request = Request(0, [{"role": "user", "content": text}], seeds)
    return list(CannedEngine().generate([request], Sampling(max_tokens=max_tokens), lambda: None))


def test_canned_engine_adds_the_last_sum_of_the_turn() -> None:
    made = canned("Not 1 + 1 but: what is 17 + 25?", tuple(range(400)))
    right = [one for one in made if one.text.endswith("\\boxed{42}")]
    assert len(right) == 300
    assert all("\\boxed{" in one.text and one.finish_reason == STOP for one in made)
    assert made == canned("Not 1 + 1 but: what is 17 + 25?", tuple(range(400)))


def test_canned_engine_is_cut_at_max_tokens() -> None:
    made = canned("1 + 1", tuple(seed_of(0, "p", k) for k in range(50)), max_tokens=60)
    assert {one.finish_reason for one in made} == {STOP, LENGTH}
    assert all(one.n_tokens <= 60 for one in made)

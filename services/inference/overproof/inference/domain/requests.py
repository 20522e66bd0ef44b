"""Which prompts go to the engine, and with which seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from overproof.inference.ports import Request
from overproof.shared.recipe import PromptOptions
from overproof.shared.specs import Sampling
from overproof.shared.topology import Verdict


class Problem(NamedTuple):
    """What sampling needs of a problem."""

    problem_id: str
    problem: str


def seed_of(seed: int, problem_id: str, sample: int) -> int:
    """The seed of one sample, 0 <= seed < 2**63: the same whenever and wherever the shard is made again."""
    text = f"{seed}/{problem_id}/{sample}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def samples_of(sampling: Sampling) -> range:
    """The sample numbers of this pass."""
    return range(sampling.first_sample, sampling.first_sample + sampling.samples)


def request_for(number: int, problem: Problem, prompt: PromptOptions, sampling: Sampling) -> Request:
    """The request of one problem, with a seed for each sample of the pass."""
    seeds = tuple(seed_of(sampling.seed, problem.problem_id, sample) for sample in samples_of(sampling))
    return Request(number, prompt.messages(problem.problem), seeds)


def correct_counts(grades: Iterable[Mapping[str, object]]) -> dict[str, int]:
    """Correct completions by problem. Reads: problem_id, verdict."""
    counts: dict[str, int] = {}
    for grade in grades:
        if grade["verdict"] == Verdict.CORRECT:
            problem_id = str(grade["problem_id"])
            counts[problem_id] = counts.get(problem_id, 0) + 1
    return counts


def is_finished(problem_id: str, correct: Mapping[str, int], enough: int | None) -> bool:
    """Whether a problem needs no further samples."""
    return enough is not None and correct.get(problem_id, 0) >= enough

"""Which prompts go to the engine, and with which seeds."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from overproof.inference.domain.quotas import Drawn, draws
from overproof.inference.ports import Request
from overproof.shared.recipe import PromptOptions
from overproof.shared.specs import SampleSpec, Sampling


class Problem(NamedTuple):
    """What sampling needs of a problem."""

    problem_id: str
    problem: str


def seed_of(seed: int, problem_id: str, sample: int) -> int:
    """The seed of one sample, 0 <= seed < 2**63: the same whenever and wherever the shard is made again."""
    text = f"{seed}/{problem_id}/{sample}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def samples_of(spec: SampleSpec, drawn: Drawn) -> range:
    """The sample numbers of a problem in this pass; none when it needs no more."""
    sampling = spec.sampling
    if spec.enough is None:
        return whole_pass(sampling)
    most = spec.max_samples or sampling.first_sample + sampling.samples
    return range(drawn.n, drawn.n + draws(drawn, spec.enough, spec.quota, sampling.samples, most))


def whole_pass(sampling: Sampling) -> range:
    """The sample numbers of a problem that gets all of a pass."""
    return range(sampling.first_sample, sampling.first_sample + sampling.samples)


def request_for(
    number: int, problem: Problem, prompt: PromptOptions, sampling: Sampling, samples: range | None = None
) -> Request:
    """The request of one problem, with a seed for each of its samples; all of the pass unless told otherwise."""
    samples = whole_pass(sampling) if samples is None else samples
    seeds = tuple(seed_of(sampling.seed, problem.problem_id, sample) for sample in samples)
    return Request(number, prompt.messages(problem.problem), seeds)

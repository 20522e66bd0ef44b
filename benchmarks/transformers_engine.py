"""Tokens per second of the Transformers engine against the library's own `generate`, same model, prompts and sampling.

    OMP_NUM_THREADS=1 python benchmarks/transformers_engine.py --model demo/models/teacher

CPU seconds are printed beside wall seconds: on a machine that others use too, they are the fairer measure of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from overproof.demo.problems import generate as demo_problems
from overproof.inference.adapters.transformers_engine import TransformersEngine
from overproof.inference.domain.requests import Problem, request_for
from overproof.inference.ports import Request
from overproof.shared.recipe import EngineOptions, PromptOptions
from overproof.shared.specs import Sampling


class Measured(NamedTuple):
    """One way of generating."""

    name: str
    tokens: int
    wall_seconds: float
    cpu_seconds: float


def measured(name: str, generate: Callable[[], Iterator[int]]) -> Measured:
    """Run it; `generate` yields tokens per completion."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = sum(generate())
    return Measured(name, tokens, time.perf_counter() - wall, time.process_time() - cpu)


def library(engine: TransformersEngine, asked: list[Request], sampling: Sampling) -> Iterator[int]:
    """`model.generate` over prompts sorted by length, in batches of as many sequences as the engine runs at once."""
    prompts = sorted((engine.chat.encode(request.turns) for request in asked), key=len)
    per_batch = max(1, engine.batch_size // sampling.samples)
    for begin in range(0, len(prompts), per_batch):
        yield from _library_batch(engine, prompts[begin : begin + per_batch], sampling)


def _library_batch(engine: TransformersEngine, prompts: list[list[int]], sampling: Sampling) -> Iterator[int]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ends = torch.tensor(sorted(engine.chat.eos))
    how: dict[str, Any] = {"do_sample": False}
    if sampling.temperature:
        how = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    with torch.inference_mode():
        out = engine.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=sampling.max_tokens, eos_token_id=ends.tolist(),
            pad_token_id=0, num_return_sequences=sampling.samples, **how,
        )[:, width:]  # fmt: skip
    is_end = torch.isin(out, ends)
    for row in is_end:
        yield int(row.nonzero()[0]) + 1 if row.any() else len(row)


def main() -> None:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--only", choices=("engine", "library"))
    args = parser.parse_args()
    options = EngineOptions(kind="transformers", batch_size=args.batch_size)
    engine = TransformersEngine(args.model, options, torch_threads=args.threads)
    sampling = Sampling(samples=args.samples, temperature=args.temperature, max_tokens=args.max_tokens, seed=1)
    asked = [
        request_for(number, Problem(str(number), one.problem), PromptOptions(), sampling)
        for number, one in enumerate(demo_problems("train", args.problems, seed=1))
    ]
    ways: dict[str, Callable[[], Iterator[int]]] = {
        "library": lambda: library(engine, asked, sampling),
        "engine": lambda: (one.n_tokens for one in engine.generate(asked, sampling, lambda: None)),
    }
    print(f"{'':8} {'tokens':>8} {'wall s':>8} {'cpu s':>8} {'tokens/wall s':>14} {'tokens/cpu s':>13}")
    for name in [args.only] if args.only else ways:
        one = measured(name, ways[name])
        rates = one.tokens / one.wall_seconds, one.tokens / one.cpu_seconds
        print(
            f"{name:8} {one.tokens:8} {one.wall_seconds:8.2f} {one.cpu_seconds:8.2f} {rates[0]:14.0f} {rates[1]:13.0f}"
        )


if __name__ == "__main__":
    main()

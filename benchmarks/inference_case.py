"""What every way of `inference.py` is given: prompts, lengths, seeds, engine arguments. And the file of results."""

from __future__ import annotations

import argparse
import json
from typing import Any

from dummy_models import LONGEST, length_of, problems

from overproof.shared.recipe import EngineOptions, PromptOptions
from overproof.shared.specs import Sampling

PROMPT = PromptOptions(template="{problem}")
AROUND = 15
"""Tokens of the chat template beside the problem's words."""
LENGTHS = {"512 each": 512, "log-normal": LONGEST}
"""The limit on tokens, by which the worker knows the kind."""
SHORT = ("128 each", 128, 1_024)
"""Of the variants: name, tokens, prompts."""
SMALLER = 16
"""What `--small` divides tokens by."""


def sampling_of(max_tokens: int, args: argparse.Namespace) -> Sampling:
    """Drawn at temperature 1 with a seed for each sample, as sampling a teacher is."""
    return Sampling(samples=1, temperature=1.0, max_tokens=max_tokens // (SMALLER if args.small else 1), seed=args.seed)


def options_of(args: argparse.Namespace) -> EngineOptions:
    """Both ways start the engine with these."""
    further: dict[str, Any] = {"load_format": "dummy", "max_num_seqs": args.sequences}
    further |= {"enforce_eager": True} if args.small else {"max_num_batched_tokens": 16_384}
    if args.no_compile:
        further["compilation_config"] = json.dumps({"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"})
    if args.own_graphs:
        further["max_cudagraph_capture_size"] = 512
    return EngineOptions(
        kind="vllm", dtype="float32" if args.small else "bfloat16", max_model_len=2_048,
        gpu_memory_utilization=0.3 if args.small else 0.9, options=further,
    )  # fmt: skip


def tokens_wanted(sampling: Sampling, seed: int) -> int:
    """How long the completion with this seed is made, whatever the random weights say."""
    varied = sampling.max_tokens in (LONGEST, LONGEST // SMALLER)
    return min(sampling.max_tokens, length_of(seed)) if varied else sampling.max_tokens


def report(args: argparse.Namespace, **values: Any) -> None:
    """One line, on the screen and in the file."""
    if "tokens" in values:
        values["tokens_per_second"] = round(values["tokens"] / values["seconds"])
    print("RESULT", json.dumps(values), flush=True)
    with args.out.open("a") as file:
        file.write(json.dumps(values) + "\n")


def texts_of(args: argparse.Namespace) -> list[str]:
    """The problems: as many words as fill the prompt."""
    return problems(args.problems, args.prompt_tokens - AROUND)

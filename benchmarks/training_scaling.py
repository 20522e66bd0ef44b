"""Trained tokens per second, peak memory and loss of one training on one GPU and on several, under ZeRO 1, 2 and 3.

python benchmarks/training_scaling.py FOLDER [--shape 1.5b|7b] [--gpus 2] [--stages 1 2 3] [--steps 9] [--rows 145] [--theirs]
    [--options '{"micro_batch_tokens": 16384}'] [--tiny]

Full fine-tuning with checkpointing, 8,192 tokens per pass, unless the options say otherwise; model and rows as in `training.py`. The global
batch is the same on every number of GPUs, so their losses are too, up to rounding: `apart` is the largest distance of a step's loss from that on one
GPU. One GPU trains under the first stage that is named. `--theirs` measures ZeRO 1 and 2 with DeepSpeed's own exchange of gradients
and weights, too. `--tiny` runs on a CPU, with processes in place of GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from training import LONGEST, figures, make_model, rows_of, run_overproof, shape_of

TINY_LONGEST = 512
THEIRS = {"zero_optimization": {"overlap_comm": True}}
"""As DeepSpeed is configured anyway; that the recipe says so leaves the exchange to it."""


class Case(NamedTuple):
    """One line of the table."""

    gpus: int
    stage: int
    theirs: bool = False


def cases(args: argparse.Namespace) -> list[Case]:
    """One GPU, then every stage on each number of GPUs."""
    several = [Case(gpus, stage) for gpus in args.gpus for stage in args.stages]
    theirs = [one._replace(theirs=True) for one in several if one.stage < 3] if args.theirs else []
    return [Case(1, args.stages[0]), *several, *theirs]


def curve(folder: Path, rows: list[list[int]], case: Case, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The metrics of each step."""
    longest = TINY_LONGEST if args.tiny else LONGEST
    options = {"micro_batch_tokens": 2 * longest, "gradient_checkpointing": True} | args.options
    options |= {
        "zero_stage": case.stage,
        "processes": case.gpus,
        "deepspeed": THEIRS if case.theirs else {},
    }
    return run_overproof(folder, options, rows, args.steps, args.rows, longest)


def line_of(
    lines: list[dict[str, Any]], base: list[dict[str, Any]], rows: list[list[int]], case: Case, args: argparse.Namespace
) -> dict[str, Any]:
    """One line of the table; `base`: the same training on one GPU."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    found, alone = (figures("", one, rows, shape_of(args), device) for one in (lines, base))
    per_gpu = found["tokens_per_second"] / case.gpus
    return {
        "gpus": case.gpus, "exchange": "DeepSpeed's" if case.theirs else "ours",
        "tokens_per_second": found["tokens_per_second"], "per_gpu": round(per_gpu),
        "efficiency": round(per_gpu / alone["tokens_per_second"], 3),
        "mfu": found["mfu"] and round(found["mfu"] / case.gpus, 4), "memory_gib": found["memory_gib"],
        "ms_per_step": found["ms_per_step"], "tokens_per_step": found["tokens_per_step"],
        "apart": round(max(abs(one["loss"] - other["loss"]) for one, other in zip(lines, base, strict=True)), 6),
        "losses": [round(one["loss"], 5) for one in lines],
    }  # fmt: skip


def main() -> None:
    """A line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=["1.5b", "7b"], default="1.5b")
    parser.add_argument("--gpus", type=int, nargs="+", default=[2])
    parser.add_argument("--stages", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--rows", type=int, default=145)
    parser.add_argument("--theirs", action="store_true")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if not (args.folder / "model").exists():
        make_model(args.folder / "model", shape_of(args))
        torch.cuda.empty_cache()
    if args.tiny:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    rows = rows_of(4000, int(shape_of(args)["vocab_size"]), TINY_LONGEST if args.tiny else LONGEST)
    base: list[dict[str, Any]] = []
    for case in cases(args):
        lines = curve(args.folder, rows, case, args)
        if len(lines) < args.steps:
            print(f"{case}: ended after {len(lines)} steps, see overproof.log", flush=True)
            continue
        base = base or lines
        print(json.dumps({"stage": case.stage} | line_of(lines, base, rows, case, args)), flush=True)


if __name__ == "__main__":
    main()

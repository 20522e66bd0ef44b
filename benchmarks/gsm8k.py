"""Real models on GSM8K, through the services: messages → completions in parquet → verdicts.

    python benchmarks/gsm8k.py MODELS --data FOLDER --out RESULT.json

MODELS holds checkpoints; FOLDER `gsm8k_train.parquet` and `gsm8k_test.parquet` (columns id, problem, answer). In turn, on one
inference worker and one grading worker:
  test    each of `--models`, greedy, one completion, with the bare problem and with the recipe's default prompt
  train   the first of `--models`, as a teacher is sampled: passes of four at temperature 0.7, at most eight per problem, none for a
          problem with `--enough` correct ones
Verdicts are the grader's; `last number` is the usual cheap check beside it: the last number of the text is the gold answer.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from device_memory import Watch
from scrape import Scraper
from workers import Queues, server, worker

from overproof.reporting.domain.statistics import Estimate, wilson
from overproof.shared.recipe import EngineOptions, GradingOptions, PromptOptions
from overproof.shared.specs import GradeSpec, ModelRef, SampleSpec, Sampling
from overproof.shared.tables import COMPLETIONS, GRADES
from overproof.shared.topology import Role, Verdict

PER_SHARD = 100
PROMPTS = {"bare problem": PromptOptions(template="{problem}"), "default prompt": PromptOptions()}
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
SAMPLES_PER_PASS, MAX_SAMPLES = 4, 8


class Made(NamedTuple):
    """The graded completions of one spec."""

    spec: SampleSpec
    grades: GradeSpec
    rows: list[dict[str, Any]]
    """Of COMPLETIONS, with the verdict, the gold answer and whether the last number is it."""
    seconds: float


class Problems(NamedTuple):
    """A published table of problems."""

    ref: str
    golds: dict[str, str]

    @property
    def shards(self) -> range:
        """Its parts."""
        return range(-(-len(self.golds) // PER_SHARD))


class Study:
    """The two workers, and what is asked of them."""

    def __init__(self, queues: Queues, args: argparse.Namespace) -> None:
        self.queues, self.args = queues, args
        self.engine = EngineOptions(
            kind=args.engine, dtype=args.dtype, batch_size=args.batch,
            gpu_memory_utilization=args.memory, options=json.loads(args.options),
        )  # fmt: skip

    def publish(self, split: str, limit: int | None) -> Problems:
        """A split of GSM8K, or its first problems."""
        path = self.args.data / f"gsm8k_{split}.parquet"
        found = pq.read_table(path, columns=["id", "problem", "answer"]).to_pylist()[:limit]
        rows = [
            {"problem_id": one["id"], "group_id": one["id"], "problem": one["problem"], "answer": one["answer"],
             "alternatives": None, "solution": None, "level": None, "type": None, "source": f"{path.name}:{line}"}
            for line, one in enumerate(found, 1)
        ]  # fmt: skip
        ref = self.queues.publish(f"{path.name}:{limit}", rows, PER_SHARD)
        return Problems(ref, {one["id"]: one["answer"] for one in found})

    def sample(
        self, problems: Problems, model: str, role: Role, prompt: PromptOptions, how: Sampling, **more: Any
    ) -> Made:
        """Completions, then their grades."""
        spec = SampleSpec(
            problems=problems.ref, model=ModelRef(name=model, kind="folder", location=model), role=role, round=1,
            prompt=prompt, sampling=how, engine=self.engine, **more,
        )  # fmt: skip
        seconds = self.queues.make(spec, problems.shards)
        self.queues.close(spec, len(problems.shards), "completions")
        grades = GradeSpec(completions=spec.ref, problems=problems.ref, options=GradingOptions())
        self.queues.make(grades, problems.shards)
        self.queues.close(grades, len(problems.shards), "grades")
        graded = self.queues.rows(grades, GRADES, problems.shards)
        rows = [
            {**row, "verdict": grade["verdict"], "last": is_last_number(row["text"], problems.golds[row["problem_id"]])}
            for row, grade in zip(self.queues.rows(spec, COMPLETIONS, problems.shards), graded, strict=True)
        ]
        return Made(spec, grades, rows, seconds)

    def test(self, problems: Problems, model: str, prompt: str) -> dict[str, Any]:
        """Greedy, one completion per problem."""
        how = Sampling(samples=1, temperature=0, max_tokens=self.args.max_tokens)
        made = self.sample(problems, model, Role.BASE, PROMPTS[prompt], how)
        shares = np.array([row["verdict"] == Verdict.CORRECT for row in made.rows], dtype=float)
        last = np.array([row["last"] for row in made.rows], dtype=float)
        return {
            "split": "test", "model": model, "prompt": prompt, "problems": len(problems.golds), **figures([made]),
            "accuracy": interval(wilson(shares)), "accuracy_last_number": interval(wilson(last)),
        }  # fmt: skip

    def train(self, problems: Problems, model: str) -> dict[str, Any]:
        """Passes of four, at most eight, none for a problem with enough correct completions."""
        passes: list[Made] = []
        for first in range(0, MAX_SAMPLES, SAMPLES_PER_PASS):
            how = Sampling(
                samples=SAMPLES_PER_PASS, first_sample=first, temperature=0.7, max_tokens=self.args.max_tokens
            )
            more = {"graded": tuple(made.grades.ref for made in passes), "enough": self.args.enough if passes else None}
            passes.append(self.sample(problems, model, Role.TEACHER, PROMPTS["default prompt"], how, **more))
        return {
            "split": "train", "model": model, "prompt": "default prompt", "problems": len(problems.golds),
            "enough": self.args.enough, **figures(passes), **adaptive(passes),
        }  # fmt: skip


def is_last_number(text: str, gold: str) -> bool:
    """Whether the last number in the text is the gold answer."""
    found = NUMBER.findall(text)
    return bool(found) and float(found[-1].replace(",", "")) == float(gold.replace(",", ""))


def figures(passes: list[Made]) -> dict[str, Any]:
    """Counts over all completions of one row of the table."""
    rows = [row for made in passes for row in made.rows]
    tokens, seconds = [row["n_tokens"] for row in rows], sum(made.seconds for made in passes)
    return {
        "completions": len(rows), "tokens": sum(tokens), "tokens_per_completion": round(float(np.mean(tokens)), 1),
        "truncated": round(sum(row["finish_reason"] == "length" for row in rows) / len(rows), 4),
        "verdicts": dict(Counter(str(row["verdict"]) for row in rows)), "seconds_with_load": round(seconds, 1),
    }  # fmt: skip


def adaptive(passes: list[Made]) -> dict[str, Any]:
    """pass@k of the first pass, which every problem has; problems solved by all of them, and what a fixed number would cost."""
    correct, solved = Counter[str](), set[str]()
    for row in passes[0].rows:
        correct[row["problem_id"]] += row["verdict"] == Verdict.CORRECT
    for made in passes:
        solved |= {row["problem_id"] for row in made.rows if row["verdict"] == Verdict.CORRECT}
    counts = np.array(list(correct.values()), dtype=float)
    return {
        "accuracy": interval(wilson(counts / SAMPLES_PER_PASS)),
        "pass_at_k": {str(k): round(pass_at(k, counts), 4) for k in (1, 2, SAMPLES_PER_PASS)},
        "solved": round(len(solved) / len(correct), 4),
        "completions_if_fixed": MAX_SAMPLES * len(correct),
    }


def pass_at(k: int, correct: Iterable[float]) -> float:
    """Mean chance that one of k completions out of the pass is correct (Chen et al. 2021, the unbiased estimator)."""
    whole = math.comb(SAMPLES_PER_PASS, k)
    return float(np.mean([1 - math.comb(SAMPLES_PER_PASS - int(c), k) / whole for c in correct]))


def interval(estimate: Estimate) -> dict[str, float | int | None]:
    """For JSON."""
    return {name: value if value is None else round(value, 4) for name, value in estimate.json().items()}


def main() -> None:
    """Ask, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="MODELS")
    parser.add_argument("--models", nargs="+", default=["qwen", "smol"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("gsm8k.json"))
    parser.add_argument("--train-problems", type=int, default=1_000, help="0: no training problems")
    parser.add_argument("--test-problems", type=int, help="the first ones; default: all")
    parser.add_argument("--prompts", nargs="+", choices=PROMPTS, default=[*PROMPTS])
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--enough", type=int, default=2)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--memory", type=float, default=0.9)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--options", default="{}", help="further engine arguments, as JSON")
    parser.add_argument("--concurrency", type=int, default=8, help="shards in flight on the engine")
    parser.add_argument("--graders", type=int, default=8, help="shards that are graded at once")
    parser.add_argument("--metrics-port", type=int, default=9_812)
    args = parser.parse_args()
    run(args)


def run(args: argparse.Namespace) -> None:
    """Both workers, all rows; the result is written after each row, so that an end by force loses the rest only."""
    storage = args.out.parent / "storage"
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        print("RESULT", json.dumps(row), flush=True)
        args.out.write_text(json.dumps({"engine": args.engine, "max_tokens": args.max_tokens, "rows": rows}, indent=1))

    with Watch() as memory, server(6_398) as url:
        queues = Queues(storage, url)
        study = Study(queues, args)
        test, train = study.publish("test", args.test_problems), study.publish("train", args.train_problems)
        inference = [sys.executable, "-m", "overproof.inference"]
        settings = {"concurrency": args.concurrency, "model_root": args.folder, "metrics_port": args.metrics_port}
        grading = [sys.executable, "-m", "overproof.grading"]
        with (
            worker(grading, queues, concurrency=args.graders),
            worker(inference, queues, preload=args.engine, **settings),
        ):
            for model in args.models:
                memory.reset()
                for prompt in args.prompts:
                    keep(study.test(test, model, prompt) | {"lowest_gib": memory.lowest, "gib": memory.now()})
                if model == args.models[0] and args.train_problems:
                    keep(study.train(train, model))
            keep({"split": "metrics", "series": Scraper(args.metrics_port).names()})
        time.sleep(1)
        keep({"split": "after the worker's end", "gib": memory.now()})


if __name__ == "__main__":
    main()

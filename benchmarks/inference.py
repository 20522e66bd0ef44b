"""Tokens per second of the whole inference service (message in → parquet committed) against one plain `LLM.generate` call.

    python benchmarks/inference.py --models 1.5b 7b --out results.jsonl

For each model, with dummy weights: 2,048 random prompts of 256 tokens in 32 shards, once with 512 tokens each and once with
log-normal lengths, by
  plain     one `LLM.generate` over all prompts, given as token ids
  service   a Celery worker on a Redis-protocol server; all 32 messages are sent at once, the clock stops at the last receipt
  in turn   the same worker, each message sent when the receipt of the one before it is there (a few shards suffice)
All three have the same prompts, seeds, lengths and engine arguments; models are loaded and warm before the clock starts.
One worker serves the models one after the other; the GPU's memory is read before, between and after them.
The part `variants` times shorter plain calls of the first model without seeds, and with vLLM's own choice of CUDA graphs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from device_memory import Watch
from dummy_models import SHAPES, save
from inference_case import LENGTHS, PROMPT, options_of, report, sampling_of, texts_of, tokens_wanted
from plain_call import plain
from scrape import Scraper
from workers import Queues, server, worker

from overproof.inference import tasks
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Shelf
from overproof.shared import telemetry
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import ModelRef, SampleSpec, Sampling
from overproof.shared.tables import COMPLETIONS
from overproof.shared.topology import Role, Service
from overproof.shared.worker import Worker

PARTS = ("plain", "service", "variants")

# --- the worker: the service as it is, but for the lengths -----------------------------------------------------------


def serve(model_root: Path) -> None:
    """Serve the queue until SIGTERM."""
    from vllm import SamplingParams

    from overproof.inference.adapters.on_a_loop import Draw
    from overproof.inference.adapters.vllm_engine import VllmEngine

    class SetLengths(VllmEngine):
        def params(self, draw: Draw[list[int]], sampling: Sampling) -> SamplingParams:
            params = super().params(draw, sampling)
            params.ignore_eos, params.stop_token_ids = True, []
            params.max_tokens = tokens_wanted(sampling, draw.seed)
            return params

    def open_engine(folder: Path, options: EngineOptions, *_: Any, **__: Any) -> SetLengths:
        return SetLengths(folder, options)

    tasks.open_engine = open_engine  # type: ignore[attr-defined]
    settings = InferenceSettings(model_root=model_root)
    telemetry.configure(settings, Service.INFERENCE)
    own, shelf = Worker(Service.INFERENCE, settings), Shelf()
    tasks.register(own, shelf, settings)
    try:
        own.run()
    finally:
        shelf.close()


# --- the service -----------------------------------------------------------------------------------------------------


class Bench:
    """One model's rows of the service."""

    def __init__(self, model: str, problems: str, queues: Queues, args: argparse.Namespace, scraper: Scraper) -> None:
        self.model, self.problems, self.queues, self.args, self.scraper = model, problems, queues, args, scraper

    def spec(self, max_tokens: int, round_: int, seed: int = 0) -> SampleSpec:
        sampling = sampling_of(max_tokens, self.args)
        return SampleSpec(
            problems=self.problems, model=ModelRef(name=self.model, kind="folder", location=self.model),
            role=Role.TEACHER, round=round_, prompt=PROMPT, engine=options_of(self.args),
            sampling=sampling.model_copy(update={"seed": sampling.seed + seed}),
        )  # fmt: skip

    def load(self, memory: Watch) -> None:
        """One shard of a few tokens that is not measured: the model loads, the one before it goes."""
        spec = self.spec(128, 0, seed=98)
        memory.reset()
        seconds = self.queues.make(spec, range(1))
        load_seconds = self.queues.notes(spec, range(1))[0]["load_seconds"]
        report(
            self.args, model=self.model, way="service: load", seconds=round(seconds, 1),
            load_seconds=round(float(load_seconds), 1), lowest_gib=memory.lowest, gib=memory.now(),
        )  # fmt: skip

    def at_once(self, lengths: str, max_tokens: int) -> None:
        spec, shards = self.spec(max_tokens, 1), range(self.args.shards)
        with self.scraper.watching() as seen:
            seconds = self.queues.make(spec, shards)
        busy = sum(float(note["busy_seconds"]) for note in self.queues.notes(spec, shards))
        self.report("service", lengths, spec, shards, seconds, busy_share=round(busy / seconds, 3), seen=seen)

    def in_turn(self, lengths: str, max_tokens: int) -> None:
        spec, shards = self.spec(max_tokens, 2), range(self.args.in_turn)
        seconds = sum(self.queues.make(spec, [shard]) for shard in shards)
        self.report(f"in turn ({len(shards)} shards)", lengths, spec, shards, seconds)

    def report(self, way: str, lengths: str, spec: SampleSpec, shards: range, seconds: float, **more: Any) -> None:
        tokens = sum(int(row["n_tokens"]) for row in self.queues.rows(spec, COMPLETIONS, shards))
        report(self.args, model=self.model, way=way, lengths=lengths, tokens=tokens, seconds=seconds, **more)


@contextmanager
def waiting_worker(root: Path, args: argparse.Namespace) -> Iterator[Queues]:
    """One worker that has imported vLLM and waits for its first message, with as many shards in flight as there are."""
    settings = {"model_root": root, "concurrency": args.shards, "metrics_port": args.metrics_port}
    with server() as redis_url:
        queues = Queues(root / "storage", redis_url)
        with worker([sys.executable, __file__, "--worker", str(root)], queues, **settings):
            yield queues


def service(queues: Queues, memory: Watch, args: argparse.Namespace) -> None:
    """Lines of `service` and `in turn` for each model, one after the other in one worker."""
    rows = [row_of(i, text) for i, text in enumerate(texts_of(args))]
    published = queues.publish("random.jsonl", rows, len(rows) // args.shards)
    scraper = Scraper(args.metrics_port)
    report(args, model="none", way="service: start", seconds=0, gib=memory.now())
    for model in args.models:
        bench = Bench(model, published, queues, args, scraper)
        bench.load(memory)
        for lengths in args.lengths:
            bench.at_once(lengths, LENGTHS[lengths])
        for lengths in args.lengths:
            bench.in_turn(lengths, LENGTHS[lengths])
    report(args, model="none", way="metrics", seconds=0, series=scraper.names())


def row_of(number: int, text: str) -> dict[str, object]:
    """A row of PROBLEMS."""
    name = f"p{number}"
    return {"problem_id": name, "group_id": name, "problem": text, "answer": "1", "alternatives": None, "solution": None,
            "level": 1, "type": "words", "source": f"random:{number}"}  # fmt: skip


# --- all of it -------------------------------------------------------------------------------------------------------


def plain_process(root: Path, args: argparse.Namespace, *more: str, **environ: str) -> None:
    """`plain` in a process of its own, so that nothing of it stays on the device."""
    passed = [
        "--models", *args.models, "--lengths", *args.lengths, "--parts", *args.parts, "--out", args.out, "--problems", args.problems,
        "--sequences", args.sequences, "--prompt-tokens", args.prompt_tokens, "--seed", args.seed,
        *(["--small"] if args.small else ()), *(["--no-compile"] if args.no_compile else ()),
    ]  # fmt: skip
    command = [sys.executable, __file__, "--plain", root, *passed, *more]
    subprocess.run([str(word) for word in command], check=True, env=os.environ | environ)


def variants(root: Path, args: argparse.Namespace) -> None:
    """The plain call of the first model as vLLM runs it by itself: graphs up to 512 sequences; its older runner of models."""
    first = ("--models", args.models[0], "--own-graphs", "--only-short")
    plain_process(root, args, *first, "own graphs")
    plain_process(root, args, *first, "own graphs, runner 1", VLLM_USE_V2_MODEL_RUNNER="0")


@contextmanager
def folder_of(args: argparse.Namespace) -> Iterator[Path]:
    """The models without their weights, and storage."""
    with tempfile.TemporaryDirectory() as name:
        for model in args.models:
            save(Path(name) / model, SHAPES[model])
        yield Path(name)


def measure(root: Path, args: argparse.Namespace) -> None:
    """The parts asked for. The worker starts first: importing vLLM takes it a while, and no GPU."""
    with Watch() as memory:
        with waiting_worker(root, args) if "service" in args.parts else nullcontext() as queues:
            if "plain" in args.parts:
                plain_process(root, args)
            if queues:
                service(queues, memory, args)
        report(args, model="none", way="after the worker's end", seconds=0, gib=memory.now())
    if "variants" in args.parts:
        variants(root, args)


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(SHAPES), default=["1.5b", "7b"])
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=[*LENGTHS])
    parser.add_argument("--out", type=Path, default=Path("inference-results.jsonl"))
    parser.add_argument("--problems", type=int, default=2_048)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--sequences", type=int, default=1_024, help="max_num_seqs of both engines")
    parser.add_argument("--in-turn", type=int, default=3, help="shards that are made one after the other")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--metrics-port", type=int, default=9_811)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="short and in float32, to try the script on a CPU")
    parser.add_argument(
        "--no-compile", action="store_true", help="graphs of decoding, but no torch.compile: loads faster"
    )
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only-short", default="", help=argparse.SUPPRESS)
    parser.add_argument("--own-graphs", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        serve(args.worker)
    elif args.plain:
        plain(args.plain, args)
    else:
        with folder_of(args) as root:
            measure(root, args)
        table(args.out)


def table(path: Path) -> None:
    """Tokens per second, and each way against the plain call; then loads and memory."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [one for one in lines if "tokens" in one]
    base = {(one["model"], one["lengths"]): one["tokens_per_second"] for one in rows if one["way"] == "plain"}
    print(f"\n{'model':6} {'lengths':11} {'way':32} {'tokens':>9} {'seconds':>8} {'tokens/s':>9} {'of plain':>9}")
    for one in rows:
        plain = base.get((one["model"], one["lengths"]))
        share = f"{one['tokens_per_second'] / plain:9.3f}" if plain else " " * 9
        print(
            f"{one['model']:6} {one['lengths']:11} {one['way']:32} {one['tokens']:9,} {one['seconds']:8.1f} "
            f"{one['tokens_per_second']:9,} {share}"
        )
    for one in lines:
        if "tokens" not in one and "series" not in one:
            print(", ".join(f"{name} {value}" for name, value in one.items()))


if __name__ == "__main__":
    main()

"""Tokens per second of the inference service on one GPU, of a worker per GPU on one queue, and of one worker with tensor parallelism.

    python benchmarks/inference_scaling.py --model 1.5b --gpus 2 --out scaling.jsonl

Dummy weights and random prompts as in `inference.py`, 4,096 of them in 64 shards, temperature 1, a seed per sample. Every worker has
16 shards in flight, as many sequences as its engine runs at once. All messages are sent at once; the clock stops at the last
receipt. Models are loaded and warm before it starts. `shards` are those that each worker made.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from dummy_models import SHAPES, save
from inference import row_of
from inference_case import LENGTHS, PROMPT, options_of, report, sampling_of, texts_of
from workers import Queues, server, worker

from overproof.shared.specs import ModelRef, SampleSpec
from overproof.shared.tables import COMPLETIONS
from overproof.shared.topology import Role

SERVE = Path(__file__).with_name("inference.py")
WARM = 98
"""Added to the seed of the shards that only load the model."""


class Bench:
    """One table."""

    def __init__(self, root: Path, queues: Queues, problems: str, args: argparse.Namespace) -> None:
        self.root, self.queues, self.problems, self.args = root, queues, problems, args

    def copies(self, n: int) -> None:
        """A worker on each of n GPUs; then the first of them alone."""
        with self.worker("0", 0):
            with ExitStack() as others:
                for number in range(1, n):
                    others.enter_context(self.worker(str(number), number))
                self.measure(f"{n} workers, one queue", round_=1, workers=n)
            self.measure("one worker, one GPU", round_=2)

    def tensor(self, n: int) -> None:
        """One worker, whose engine has n GPUs."""
        with self.worker(",".join(map(str, range(n))), 0):
            self.measure(f"one worker, tensor parallel {n}", round_=3, parallel=n)

    def worker(self, gpus: str, number: int) -> AbstractContextManager[object]:
        """One that serves the queue on these GPUs."""
        command = [sys.executable, str(SERVE), "--worker", str(self.root)]
        settings = {"model_root": self.root, "concurrency": self.args.in_flight}
        return worker(command, self.queues, gpus=gpus, metrics_port=self.args.metrics_port + number, **settings)

    def measure(self, way: str, round_: int, workers: int = 1, parallel: int = 1) -> None:
        """The workers load the model, then all shards of each kind are sent."""
        self.load(self.spec(128, round_, parallel, seed=WARM), workers)
        for lengths in self.args.lengths:
            self.make(way, lengths, self.spec(LENGTHS[lengths], round_, parallel))

    def spec(self, max_tokens: int, round_: int, parallel: int, seed: int = 0) -> SampleSpec:
        """`round_` tells apart what would else be the same work, and not be done again."""
        sampling, model = sampling_of(max_tokens, self.args), self.args.model
        return SampleSpec(
            problems=self.problems, model=ModelRef(name=model, kind="folder", location=model), role=Role.TEACHER,
            round=round_, prompt=PROMPT, sampling=sampling.model_copy(update={"seed": sampling.seed + seed}),
            engine=options_of(self.args).model_copy(update={"tensor_parallel_size": parallel}),
        )  # fmt: skip

    def load(self, spec: SampleSpec, workers: int) -> None:
        """As many shards as all workers take at once, so that each of them loads the model."""
        shards = range(self.args.in_flight * workers)
        self.queues.make(spec, shards)
        if len(self.shares(spec, shards)) < workers:
            raise SystemExit("One worker made all shards before another was up: give each more --in-flight.")

    def make(self, way: str, lengths: str, spec: SampleSpec) -> None:
        """One line."""
        shards = range(self.args.shards)
        seconds = self.queues.make(spec, shards)
        tokens = sum(int(row["n_tokens"]) for row in self.queues.rows(spec, COMPLETIONS, shards))
        report(
            self.args, model=self.args.model, way=way, lengths=lengths, tokens=tokens, seconds=round(seconds, 2),
            shards=self.shares(spec, shards),
        )  # fmt: skip

    def shares(self, spec: SampleSpec, shards: Iterable[int]) -> list[int]:
        """Shards made by each worker; an owner is a worker's name and the number of one of its threads."""
        owners = [self.queues.artifacts.receipt(spec.ref, shard).owner for shard in shards]
        return [*Counter(owner.rpartition("-")[0] for owner in owners).values()]


def main() -> None:
    """Measure a worker per GPU, one of them alone, and one worker over all GPUs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SHAPES), default="1.5b")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=[*LENGTHS])
    parser.add_argument("--out", type=Path, default=Path("inference-scaling.jsonl"))
    parser.add_argument("--problems", type=int, default=4_096)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=16, help="shards that a worker makes at once")
    parser.add_argument("--sequences", type=int, default=1_024, help="max_num_seqs of every engine")
    parser.add_argument("--ways", nargs="+", choices=["copies", "tensor"], default=["copies", "tensor"])
    parser.add_argument("--metrics-port", type=int, default=9_811)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="short and in float32, to try the script on a CPU")
    parser.add_argument(
        "--no-compile", action="store_true", help="graphs of decoding, but no torch.compile: loads faster"
    )
    args = parser.parse_args()
    args.own_graphs = False
    with tempfile.TemporaryDirectory() as name, server() as redis_url:
        root = Path(name)
        save(root / args.model, SHAPES[args.model])
        queues = Queues(root / "storage", redis_url)
        rows = [row_of(i, text) for i, text in enumerate(texts_of(args))]
        bench = Bench(root, queues, queues.publish("random.jsonl", rows, len(rows) // args.shards), args)
        for way in args.ways:
            (bench.copies if way == "copies" else bench.tensor)(args.gpus)


if __name__ == "__main__":
    main()

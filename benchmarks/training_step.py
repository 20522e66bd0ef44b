"""Where the time of one optimizer step goes: forward, backward, DeepSpeed's step, and what the GPU does meanwhile.

python benchmarks/training_step.py [--shape 1.5b|7b] [--lora 16] [--selective] [--tokens 8192] [--passes 4] [--stage 1]
                                   [--deepspeed '{"zero_optimization": {"overlap_comm": true}}']
torchrun --nproc_per_node 2 benchmarks/training_step.py ...     # the same on two GPUs, as the first of them sees it

Needs a GPU (on a CPU a tiny model shows that it runs) and liger-kernel. The model has the shape of Qwen2.5-1.5B or 7B and
random weights, with `--lora` frozen beside adapters of that rank; rows as in `training.py`. "returned" is when Python got
control back, "whole" when the GPU was done: where they are alike, the GPU waits for Python.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, Qwen2Config

from overproof.shared.recipe import LoraOptions, TrainingOptions
from overproof.training.adapters import attention, exchange, lean, lora
from overproof.training.adapters.collate import collate_packed
from overproof.training.domain.batches import batch_of
from overproof.training.domain.deepspeed_config import deepspeed_config, exchanges_early

sys.path.insert(0, str(Path(__file__).parent))
from training import LONGEST, QWEN, QWEN_7B, TINY, rows_of

STEPS = 3
"""Of which the last is timed."""
SHOWN = 24
"""Kernels that are listed."""
ON_GPU = torch.cuda.is_available()
ALONE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
"""What torchrun tells a process of its group."""


def batches(tokens: int, n: int, words: int, longest: int, rank: int, processes: int) -> list[dict[str, Any]]:
    """`n` packs of rows, of at most `tokens` each; other ones in each process."""
    packs: list[list[dict[str, Any]]] = [[]]
    for row in rows_of(n * processes * tokens // 200, words, longest)[rank::processes]:
        if sum(len(one["ids"]) for one in packs[-1]) + len(row) > tokens:
            packs.append([])
        packs[-1].append({"ids": torch.tensor(row).numpy(), "n_prompt": len(row) // 4})
    device = "cuda" if ON_GPU else "cpu"
    packed = [collate_packed(pack) for pack in packs[:n]]
    return [{k: v.to(device) if torch.is_tensor(v) else v for k, v in one.items()} for one in packed]


def engine_of(shape: dict[str, Any], options: TrainingOptions, passes: int) -> Any:
    """The student as the service trains it."""
    if not ON_GPU:
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    with torch.device("cuda" if ON_GPU else "cpu"):
        dtype = getattr(torch, options.dtype)
        model = AutoModelForCausalLM.from_config(
            Qwen2Config(**shape), dtype=dtype, attn_implementation=attention.register()
        )
    if ON_GPU:
        lean.fuse_layers(model)
        if options.gradient_checkpointing:
            lean.keep_less(model, fused=True)
    lean.make_lean(model)
    model = lora.attach(model, options)
    model.train()
    trained = [one for one in model.parameters() if one.requires_grad]
    batch = batch_of(options)._replace(micro=1, accumulation=passes)
    config = deepspeed_config(options, batch, sum(one.numel() for one in trained))
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=ON_GPU)
    engine = deepspeed.initialize(model=model, config=config, optimizer=optimizer, model_parameters=trained)[0]
    if exchanges_early(options):
        exchange.attach(engine)
    return engine


class Watch:
    """Milliseconds of one part: until Python got control back, and until the GPU was done."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, float, float]] = []

    def time(self, name: str, call: Any) -> Any:
        began = time.perf_counter()
        value = call()
        returned = time.perf_counter()
        _wait()
        self.lines.append((name, 1e3 * (returned - began), 1e3 * (time.perf_counter() - began)))
        return value


def one_step(engine: Any, packs: list[dict[str, Any]], watch: Watch) -> None:
    """Forward and backward of every pack, and the step."""
    for i, pack in enumerate(packs):
        loss = watch.time(f"forward {i}", lambda pack=pack: engine(**pack).loss)
        watch.time(f"backward {i}", lambda loss=loss: engine.backward(loss))
        watch.time(f"step {i}", engine.step)


def kernels(engine: Any, packs: list[dict[str, Any]]) -> Counter[str]:
    """GPU milliseconds of a whole step by kernel, all its calls together."""
    with profile(activities=[ProfilerActivity.CUDA] if ON_GPU else [ProfilerActivity.CPU]) as found:
        one_step(engine, packs, Watch())
        _wait()
    counts: Counter[str] = Counter()
    for event in found.events() or []:
        if event.device_type == torch.autograd.DeviceType.CUDA:
            counts[event.name] += event.device_time_total / 1e3
    return counts


def _wait() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def show(watch: Watch, tokens: int, found: Counter[str]) -> None:
    """Parts, sum, kernels."""
    for name, returned, whole in watch.lines:
        print(f"{name:12} returned {returned:7.1f} ms, whole {whole:7.1f} ms")
    seconds = sum(line[2] for line in watch.lines) / 1e3
    print(f"{tokens} tokens in {1e3 * seconds:.0f} ms: {tokens / seconds:,.0f} tokens/s per process")
    if ON_GPU:
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    print(f"kernels of one step: {sum(found.values()):.0f} ms")
    for name, milliseconds in found.most_common(SHOWN):
        print(f"  {milliseconds:8.1f} ms  {name[:100]}")


def main() -> None:
    """Print the parts of a step, then its kernels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=["1.5b", "7b"], default="1.5b")
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument("--selective", action="store_true", help="gradient_checkpointing: selective")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--stage", type=int, choices=[0, 1, 2], default=1)
    parser.add_argument("--deepspeed", type=json.loads, default={})
    given = parser.parse_args()
    os.environ |= ALONE | os.environ
    rank, processes = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    if ON_GPU:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    shape, longest = (QWEN_7B if given.shape == "7b" else QWEN, LONGEST) if ON_GPU else (TINY, 64)
    options = TrainingOptions(
        max_length=longest, micro_batch_tokens=given.tokens, deepspeed=given.deepspeed, processes=processes, zero_stage=given.stage,
        dtype="bfloat16" if ON_GPU else "float32", gradient_checkpointing="selective" if given.selective else False,
        lora=LoraOptions(rank=given.lora, alpha=2 * given.lora) if given.lora else None,
    )  # fmt: skip
    engine = engine_of(shape, options, given.passes)
    packs = batches(given.tokens, given.passes, int(shape["vocab_size"]), longest, rank, processes)
    for _ in range(STEPS):
        watch = Watch()
        one_step(engine, packs, watch)
    found = kernels(engine, packs)
    if rank == 0:
        show(watch, sum(pack["input_ids"].numel() for pack in packs), found)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

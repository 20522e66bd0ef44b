"""Trained tokens per second, MFU and peak memory of one fine-tuning step after another: TRL's SFTTrainer and Overproof.

python benchmarks/training.py FOLDER [--shape 1.5b|7b] [--steps 12] [--rows 64] [--tiny] [--only NAME ...]

Needs a GPU (`--tiny` runs on a CPU), and trl, datasets and liger-kernel for the other trainers. The model has the shape of
Qwen2.5-1.5B (full fine-tuning) or Qwen2.5-7B (LoRA) and random weights; rows are random tokens, log-normal lengths of mean
about 450 cut at 4,096, a quarter of each is prompt. Each trainer runs in a process of its own on the same rows; the first
third of its steps is warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from overproof.shared.recipe import TrainingOptions
from overproof.training.domain.compute import Shape, peak_flops, step_flops
from overproof.training.job import Job

QWEN = {
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
    "vocab_size": 151936, "max_position_embeddings": 32768, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
}  # fmt: skip
QWEN_7B = QWEN | {
    "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
    "tie_word_embeddings": False,
}  # fmt: skip
TINY = QWEN | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 512,
}
RANK = 16
"""Of the adapters, on every linear layer of the body."""
LONGEST = 4096
MEAN = 450
STEPS_PLANNED = 200
"""Of Overproof's training, which is ended after the steps that are timed; all passes are planned before the first."""
FILLED = 0.98
"""Of a step's tokens: rows are whole, so they never fill every pass to the brim."""
FULL: dict[str, dict[str, Any]] = {
    "TRL, documented example": {},
    "TRL, packing + Liger": {"packing": True, "use_liger_kernel": True, "per_device_train_batch_size": 2},
    "TRL, packing + Liger, our attention, no checkpointing": {
        "packing": True, "use_liger_kernel": True, "per_device_train_batch_size": 1, "ours": True, "gradient_checkpointing": False,
    },
    "TRL, packing + Liger, 8-bit AdamW": {
        "packing": True, "use_liger_kernel": True, "per_device_train_batch_size": 2, "optim": "adamw_8bit",
    },
    "Overproof, 4,096 tokens per pass": {"micro_batch_tokens": 4096},
    "Overproof, 4,096 tokens per pass, selective": {"micro_batch_tokens": 4096, "gradient_checkpointing": "selective"},
    "Overproof, 8,192 tokens per pass": {"micro_batch_tokens": 8192},
    "Overproof, 8,192 tokens per pass, checkpointing": {"micro_batch_tokens": 8192, "gradient_checkpointing": True},
    "Overproof, 8,192 tokens per pass, selective": {"micro_batch_tokens": 8192, "gradient_checkpointing": "selective"},
    "Overproof, 8,192 tokens per pass, selective, 8-bit AdamW": {
        "micro_batch_tokens": 8192, "gradient_checkpointing": "selective", "optimizer": "adamw_8bit",
    },
    "Overproof, 9,216 tokens per pass, selective, 8-bit AdamW": {
        "micro_batch_tokens": 9216, "gradient_checkpointing": "selective", "optimizer": "adamw_8bit",
    },
    "Overproof, 10,240 tokens per pass, selective, 8-bit AdamW": {
        "micro_batch_tokens": 10240, "gradient_checkpointing": "selective", "optimizer": "adamw_8bit",
    },
    "Overproof, 16,384 tokens per pass": {"micro_batch_tokens": 16384},
    "Overproof, 16,384 tokens per pass, selective": {"micro_batch_tokens": 16384, "gradient_checkpointing": "selective"},
    "Overproof, 16,384 tokens per pass, checkpointing": {"micro_batch_tokens": 16384, "gradient_checkpointing": True},
}  # fmt: skip
LORA: dict[str, dict[str, Any]] = {
    "TRL, LoRA, documented example": {"lora": True},
    "TRL, LoRA, packing + Liger": {"packing": True, "use_liger_kernel": True, "per_device_train_batch_size": 2, "lora": True},
    "TRL, LoRA, packing + Liger, our attention": {
        "packing": True, "use_liger_kernel": True, "per_device_train_batch_size": 2, "lora": True, "ours": True,
    },
    "Overproof, LoRA, 4,096 tokens per pass": {"micro_batch_tokens": 4096, "lora": {"rank": RANK, "alpha": 2 * RANK}},
    "Overproof, LoRA, 8,192 tokens per pass": {"micro_batch_tokens": 8192, "lora": {"rank": RANK, "alpha": 2 * RANK}},
    "Overproof, LoRA, 8,192 tokens per pass, selective": {
        "micro_batch_tokens": 8192, "gradient_checkpointing": "selective", "lora": {"rank": RANK, "alpha": 2 * RANK},
    },
    "Overproof, LoRA, 7,168 tokens per pass, selective": {
        "micro_batch_tokens": 7168, "gradient_checkpointing": "selective", "lora": {"rank": RANK, "alpha": 2 * RANK},
    },
    "Overproof, LoRA, 6,144 tokens per pass, selective": {
        "micro_batch_tokens": 6144, "gradient_checkpointing": "selective", "lora": {"rank": RANK, "alpha": 2 * RANK},
    },
    "Overproof, LoRA, 8,192 tokens per pass, checkpointing": {
        "micro_batch_tokens": 8192, "gradient_checkpointing": True, "lora": {"rank": RANK, "alpha": 2 * RANK},
    },
}  # fmt: skip
TRAINERS = FULL | LORA


def rows_of(n: int, words: int, longest: int) -> list[list[int]]:
    """Random rows; the mean of the log-normal is 450 before the cut."""
    rng = random.Random(0)
    lengths = [min(longest, max(32, round(rng.lognormvariate(5.83, 0.75)))) for _ in range(n)]
    return [[rng.randrange(100, words) for _ in range(n_tokens)] for n_tokens in lengths]


def tokens_of(rows: int, longest: int) -> int:
    """Tokens of a packed step: those of so many mean rows, in pairs of packs of the longest row's length."""
    return 2 * longest * max(1, round(rows * MEAN / longest / 2))


def whole_passes(tokens: int, per_pass: int) -> int:
    """About so many tokens, in full passes."""
    return per_pass * max(1, round(tokens / per_pass))


def shape_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The model's config."""
    if arguments.tiny:
        return TINY
    return QWEN_7B if arguments.shape == "7b" else QWEN


def make_model(folder: Path, shape: dict[str, Any]) -> None:
    """Random weights and a tokenizer that only has to load."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

    torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
    config = Qwen2Config(**shape, eos_token_id=0, pad_token_id=1)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    raw = Tokenizer(models.WordLevel({"<e>": 0, "<p>": 1}, unk_token="<p>"))  # noqa: S106
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<e>", pad_token="<p>")  # noqa: S106
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    tokenizer.save_pretrained(folder)


def run_overproof(
    folder: Path, options: dict[str, Any], rows: list[list[int]], steps: int, batch: int, longest: int
) -> list[dict[str, Any]]:
    """As the service does: the same child processes, followed until they have made their steps."""
    from overproof.training import launcher

    job = job_of(folder, options, rows, batch, longest)
    command = launcher.torchrun(job.options.processes, "overproof.training.fit", str(job.save()))
    with (folder / "overproof.log").open("ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=launcher.environment(1))
        while child.poll() is None and _n_lines(job.metrics) < steps:
            time.sleep(0.5)
        child.terminate()
        child.wait()
    return [json.loads(line) for line in job.metrics.read_text().splitlines()[:steps]]


def job_of(folder: Path, options: dict[str, Any], rows: list[list[int]], batch: int, longest: int) -> Job:
    """A training of the service's, its rows prepared, in a new folder beside the model."""
    from overproof.training.adapters.tokens import TokenWriter
    from overproof.training.domain.preflight import Encoded

    scratch = folder / f"scratch-{len(list(folder.glob('scratch-*')))}"
    scratch.mkdir()
    for split, some in (("train", rows), ("val", [])):
        with TokenWriter(scratch, split) as writer:
            for row in some:
                writer.add(Encoded(row[: len(row) // 4], row[len(row) // 4 :]))
    dtype = "bfloat16" if longest == LONGEST else "float32"
    tokens = whole_passes(tokens_of(batch, longest), options["micro_batch_tokens"] * options.get("processes", 1))
    recipe = TrainingOptions(
        max_steps=STEPS_PLANNED, global_batch_tokens=round(FILLED * tokens), max_length=longest, save_every_steps=100_000,
        dtype=dtype, **options,
    )  # fmt: skip
    model = folder / "model"
    config = json.loads((model / "config.json").read_text())
    return Job(
        scratch=scratch, storage="", selected="train/0", student=model, context=None, vocab_size=config["vocab_size"],
        n_parameters=sum(file.stat().st_size for file in model.glob("*.safetensors")) // 2, options=recipe, threads=1,
    )  # fmt: skip


def _n_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def run_trl(
    folder: Path, options: dict[str, Any], rows: list[list[int]], steps: int, batch: int, longest: int
) -> list[dict[str, Any]]:
    """TRL's trainer, called as its documentation calls it, on the same tokens and as many rows per step."""
    import datasets
    import torch
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found, import-untyped, unused-ignore]

    lines: list[dict[str, Any]] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        last = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.monotonic()
            memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
            lines.append({"seconds": now - self.last, "memory_bytes": memory})
            self.last = now

    masks = [[0] * (len(row) // 4) + [1] * (len(row) - len(row) // 4) for row in rows]
    data = datasets.Dataset.from_dict({"input_ids": rows, "completion_mask": masks})
    kernels: dict[str, Any] = {}
    given = dict(options)
    if given.pop("ours", False):
        kernels = _our_attention()
    adapters = None
    if given.pop("lora", False):
        from peft import LoraConfig

        adapters = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    micro = given.setdefault("per_device_train_batch_size", 8)
    per_step = tokens_of(batch, longest) // longest if given.get("packing") else batch
    arguments = SFTConfig(
        output_dir=str(folder / "trl"), max_length=longest, max_steps=steps, save_strategy="no", report_to=[], logging_steps=1,
        gradient_accumulation_steps=per_step // micro, model_init_kwargs=kernels or None,
        bf16=longest == LONGEST, use_cpu=longest != LONGEST, **given,
    )  # fmt: skip
    trainer = SFTTrainer(
        str(folder / "model"), args=arguments, train_dataset=data, callbacks=[Clock()], peft_config=adapters
    )
    print("weights:", next(trainer.model.parameters()).dtype, file=sys.stderr)
    trainer.train()
    seen = [one["num_tokens"] for one in trainer.state.log_history if "num_tokens" in one]
    return [line | {"tokens": tokens} for line, tokens in zip(lines, seen, strict=False)]


def _our_attention() -> dict[str, Any]:
    """TRL with the attention of Overproof, where the host has no flash-attn: row ends follow from the positions."""
    import torch
    from transformers import AttentionInterface

    from overproof.training.adapters.attention import packed_attention

    def attend(*tensors: Any, position_ids: Any = None, **more: Any) -> Any:
        flat = position_ids.flatten()
        n = torch.tensor([len(flat)], dtype=torch.int32, device=flat.device)
        ends = torch.cat([(flat == 0).nonzero().flatten().int(), n])
        query, key, value = (one.transpose(0, 1).flatten(1, 2)[None] if len(one) > 1 else one for one in tensors[1:4])
        output, _ = packed_attention(tensors[0], query, key, value, None, row_ends=ends, longest=LONGEST, **more)
        return output.view(len(tensors[1]), -1, *output.shape[2:]), None

    AttentionInterface.register("overproof_from_positions", attend)
    return {"attn_implementation": "overproof_from_positions"}


def figures(
    name: str, lines: list[dict[str, Any]], rows: list[list[int]], config: dict[str, Any], device: str
) -> dict[str, Any]:
    """Tokens per second over the steps after the warm-up; MFU by one formula for all, from the mean row."""
    first = len(lines) // 3
    seconds = (
        lines[-1]["seconds"] - lines[first - 1]["seconds"]
        if "loss" in lines[0]
        else sum(line["seconds"] for line in lines[first:])
    )
    tokens = lines[-1]["tokens"] - lines[first - 1]["tokens"]
    width = config["hidden_size"]
    head = config["vocab_size"] * width
    layer = width * (
        2 * width
        + 2 * width * config["num_key_value_heads"] // config["num_attention_heads"]
        + 3 * config["intermediate_size"]
    )
    trained = 0.0 if name in LORA else 1.0
    shape = Shape(layer * config["num_hidden_layers"], head, config["num_hidden_layers"] * width, trained)
    totals = [len(row) for row in rows]
    flops_per_token = step_flops(shape, totals, [n // 4 for n in totals]) / sum(totals)
    rate, peak = tokens / seconds, peak_flops(device)
    return {
        "trainer": name, "tokens_per_second": round(rate), "mfu": round(rate * flops_per_token / peak, 4) if peak else None,
        "memory_gib": round(max(line.get("memory_bytes", 0) for line in lines) / 2**30, 1), "steps": len(lines) - first,
        "tokens_per_step": round(tokens / (len(lines) - first)), "ms_per_step": round(1000 * statistics.mean([seconds / (len(lines) - first)])),
    }  # fmt: skip


def one(folder: Path, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one trainer in this process (or its child) and count."""
    import torch

    config, longest = shape_of(arguments), 512 if arguments.tiny else LONGEST
    rows = rows_of(2000, int(config["vocab_size"]), longest)
    run = run_overproof if name.startswith("Overproof") else run_trl
    lines = run(folder, TRAINERS[name], rows, arguments.steps, arguments.rows, longest)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return figures(name, lines, rows, config, device)


def main() -> None:
    """Run every trainer in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--shape", choices=["1.5b", "7b"], default="1.5b")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.folder, arguments.one, arguments)))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.folder / "model").exists():
        make_model(arguments.folder / "model", shape_of(arguments))
    for name in arguments.only or (LORA if arguments.shape == "7b" else FULL):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
        with (arguments.folder / "log.txt").open("ab") as log:
            found = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=log, check=False, env=os.environ, timeout=240
            )
        print(
            found.stdout.decode().strip().splitlines()[-1] if found.returncode == 0 else f"{name}: failed", flush=True
        )


if __name__ == "__main__":
    main()

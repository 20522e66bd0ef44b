"""Make the demo's teacher and base student from nothing: `python -m overproof.demo.pretrain`.

Train split only; the val split is for watching. The test split is never generated here.
"""

import argparse
import json
import logging
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
import transformers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from overproof.demo.card import model_card
from overproof.demo.lessons import IGNORED, Batch, drill_batches, solution_batches
from overproof.demo.measure import Measurement, measure
from overproof.demo.muon import Muon
from overproof.demo.problems import generate
from overproof.demo.recipe import HEAD_SIZE, HEADS, KEY_VALUE_HEADS, POSITIONS, RECIPES, Recipe
from overproof.demo.tokenizer import CORPUS_SEED, INSTRUCTION, save_tokenizer, train_tokenizer

MODELS = Path(__file__).parents[2] / "models"
VAL_PROBLEMS = 350  # ten for each subject and level
VAL_SEED = 5
CLIP_NORM = 1.0

logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """The state of a training run right after a measurement; `model` goes on changing when the run goes on."""

    step: int
    model: Any
    measurement: Measurement
    loss: float
    """Mean over the steps since the last checkpoint."""
    taught_tokens: int
    """Tokens that carried loss so far."""
    seconds: float


def main(arguments: list[str] | None = None) -> None:
    """Train the chosen models and write each to its folder."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tokenizer = train_tokenizer()
    for role in [options.only] if options.only else list(RECIPES):
        changes = {name: value for name in ("steps", "seed") if (value := getattr(options, name)) is not None}
        recipe = replace(RECIPES[role], **changes)
        logger.info("%s: %d steps", role, recipe.steps)
        checkpoints = []
        for checkpoint in train(recipe, tokenizer, options.every):
            checkpoints.append(checkpoint)
            logger.info("step %d  loss %.3f  val %.1f%%  %.0f tokens  %.0f s", *_row(checkpoint))
        save(checkpoints, recipe, tokenizer, options.out / role)
        logger.info("written to %s", options.out / role)


def train(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, every: int) -> Iterator[Checkpoint]:
    """Train a fresh model, on a GPU when there is one; yields after every `every` steps and at the end."""
    torch.manual_seed(recipe.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = new_model(recipe, tokenizer).to(device)
    optimizers = _optimizers(model, recipe)
    batches = _curriculum(recipe, tokenizer)
    val = list(generate("val", VAL_PROBLEMS, VAL_SEED))
    losses: list[torch.Tensor] = []
    taught, started = 0, time.monotonic()
    for step in range(1, recipe.steps + 1):
        batch = next(batches)
        losses.append(_update(model, batch, optimizers, recipe.rate_factor(step - 1)))
        taught += int((batch.labels != IGNORED).sum())
        if step % every == 0 or step == recipe.steps:
            measurement = measure(model, tokenizer, val)
            loss = float(torch.stack(losses).mean())
            yield Checkpoint(step, model, measurement, loss, taught, time.monotonic() - started)
            losses.clear()


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Any:
    """A freshly initialised Llama of the recipe's size, in float32."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HEADS * HEAD_SIZE,
        head_dim=HEAD_SIZE,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        num_hidden_layers=recipe.layers,
        intermediate_size=recipe.feed_forward,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    return LlamaForCausalLM(config).float()


def save(checkpoints: list[Checkpoint], recipe: Recipe, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the last checkpoint as a folder that Transformers and vLLM load, with its log and its model card."""
    model = checkpoints[-1].model
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    log = training_log(checkpoints, recipe, len(tokenizer))
    (folder / "training_log.json").write_text(json.dumps(log, indent=2) + "\n")
    (folder / "README.md").write_text(model_card(log, INSTRUCTION))


def training_log(checkpoints: list[Checkpoint], recipe: Recipe, vocabulary: int) -> dict[str, Any]:
    """Recipe, seeds, versions and measurements; greedy accuracy on the val split."""
    model = checkpoints[-1].model
    return {
        "recipe": asdict(recipe),
        "seeds": {
            "weights": recipe.seed,
            "solutions": recipe.seed,
            "drills": _drill_seed(recipe),
            "val": VAL_SEED,
            "tokenizer": CORPUS_SEED,
        },
        "splits": {"trained_on": "train", "measured_on": "val"},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": vocabulary,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "measurements": [
            {
                "step": checkpoint.step,
                "loss": round(checkpoint.loss, 4),
                "accuracy": round(checkpoint.measurement.accuracy, 4),
                "interval": [round(end, 4) for end in checkpoint.measurement.interval],
                "n": checkpoint.measurement.n,
                "mean_tokens": round(checkpoint.measurement.mean_tokens, 1),
                "taught_tokens": checkpoint.taught_tokens,
                "seconds": round(checkpoint.seconds, 1),
            }
            for checkpoint in checkpoints
        ],
    }


def _curriculum(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    """Drills first, whole solutions more and more."""
    rng = Random(f"curriculum {recipe.seed}")
    solutions = solution_batches(tokenizer, recipe.styles, recipe.rows, recipe.seed)
    drills = drill_batches(tokenizer, recipe.rows, _drill_seed(recipe))
    for step in range(recipe.steps):
        yield next(drills if rng.random() < recipe.drill_share(step) else solutions)


def _drill_seed(recipe: Recipe) -> int:
    return recipe.seed + 1


def _optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "layers" not in name]
    optimizers = [
        Muon(matrices, lr=recipe.muon_rate),
        torch.optim.AdamW(others, lr=recipe.adamw_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return optimizers


def _update(model: Any, batch: Batch, optimizers: list[torch.optim.Optimizer], rate_factor: float) -> torch.Tensor:
    """One step; the loss is the mean over the tokens that carry it, and only those get logits."""
    ids, labels = (part.to(model.device, non_blocking=True) for part in batch)
    model.train()
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    taught = targets != IGNORED
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[taught]), targets[taught])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * rate_factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _row(checkpoint: Checkpoint) -> tuple[int, float, float, float, float]:
    measured = checkpoint.measurement
    return checkpoint.step, checkpoint.loss, 100 * measured.accuracy, measured.mean_tokens, checkpoint.seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m overproof.demo.pretrain", description=__doc__)
    parser.add_argument("--only", choices=tuple(RECIPES), help="train this model only")
    parser.add_argument(
        "--out", type=Path, default=MODELS, help="folder for teacher/ and student/ (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="train for another number of steps than the recipe says")
    parser.add_argument("--seed", type=int, help="use another seed than the recipe says")
    parser.add_argument("--every", type=int, default=100, help="measure on the val split every so many steps")
    return parser


if __name__ == "__main__":
    main()

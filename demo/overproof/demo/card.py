"""The README.md beside a demo model's weights."""

from collections.abc import Mapping
from typing import Any

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: en
tags: [overproof, demo]
---

# Overproof demo {role}

A Llama-architecture model with {parameters:,} parameters, trained from nothing on generated school mathematics. It is
there so that distillation can be shown offline within minutes; it knows the templates of its generator and nothing else.

| | |
|---|---|
| training data | `overproof.demo.problems`, train split only: solutions with seed {solutions_seed}, drills with seed {drills_seed} |
| solution styles | {styles} |
| steps | {steps} batches of {rows} rows, {taught:,} tokens with loss |
| greedy accuracy, val split | {accuracy:.1%} [{low:.1%}, {high:.1%}] of {n} problems |
| tokens per answer, val split | {mean_tokens:.1f} |
| tokenizer | byte-level BPE with {vocabulary} pieces, ChatML template, trained on the train split with seed {corpus_seed} |
| made with | {versions} |

{note}

Prompt: the statement, a blank line, then `{instruction}`

`training_log.json` has the whole recipe, the seeds and every measurement. `python -m overproof.demo.pretrain` makes the
model anew; on another processor sums are rounded in another order, so the result is alike but not the same weights.
"""

_NOTES = {
    "teacher": "It mixes short and long solutions about evenly, so that a choice among several samples can save tokens.",
    "student": "Its training stops before the learning rate falls: a long-winded base with room to learn.",
}


def model_card(log: Mapping[str, Any], instruction: str) -> str:
    """The model card for a training log as `overproof.demo.pretrain` writes it."""
    recipe, seeds, final = log["recipe"], log["seeds"], log["measurements"][-1]
    return _CARD.format(
        role=recipe["role"],
        parameters=log["parameters"],
        solutions_seed=seeds["solutions"],
        drills_seed=seeds["drills"],
        corpus_seed=seeds["tokenizer"],
        styles=", ".join(f"{share:.0%} {style}" for style, share in recipe["styles"].items()),
        steps=recipe["steps"],
        rows=recipe["rows"],
        taught=final["taught_tokens"],
        accuracy=final["accuracy"],
        low=final["interval"][0],
        high=final["interval"][1],
        n=final["n"],
        mean_tokens=final["mean_tokens"],
        vocabulary=log["vocabulary"],
        versions=", ".join(f"{name} {version}" for name, version in log["versions"].items()),
        note=_NOTES[recipe["role"]],
        instruction=instruction.replace("`", ""),
    )

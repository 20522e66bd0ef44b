"""The model card of a student: what it is, what it was taught, how, and under which licences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from overproof.shared.recipe import LoraOptions, TrainingOptions
from overproof.shared.specs import TrainSpec

FRONT = """---
library_name: transformers
pipeline_tag: text-generation
base_model: {base}
{license}tags:
- overproof
- distillation
- math
---
"""

SOLUTIONS = {
    "gold": "correct solutions",
    "majority": "solutions that agree with the gold answer or, where it is missing or contradicted, with the teacher's own clear majority "
    "(self-consistency, arXiv:2203.11171; an error that it makes again and again is taught as right)",
}
"""By what the selected solutions agree with."""

BODY = """
# {base}, taught by {teacher}

A student of {teacher}: {base} fine-tuned on the teacher's {solutions} (policy `{policy}`, round {round}). Made with Overproof.

Prompt it with its own chat template; the solution ends with the answer in `\\boxed{{}}`.

## Training data

| | rows | supervised tokens per row |
|---|---|---|
| train | {n_train} | {train_tokens} |
| validation | {n_val} | {val_tokens} |

Selected rows: `{selected}`. Left out: {dropped}. Problems of the test set, and near-duplicates of them, are never selected.

## Training

{steps} steps of {about}{batch_rows} rows{early}; the weights are those of step {step}{chosen}. Loss {train_loss:.4f} in training{val_loss}.
The loss is the mean over the tokens of the solution and the token that ends it (`{end_token}`). Weights: {dtype}.{lora}

| option | value |
|---|---|
{options}

Ran on {device} with {versions}.

## Results

Accuracy and tokens per solution, with intervals, against the base and the teacher stand in the report of each run that evaluates
this student, and in the card that the report makes of this one (`cards/`). `training.json` and `metrics.jsonl` hold every loss.

## Licences

{licenses}
"""


def model_card(spec: TrainSpec, preflight: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """README.md of the checkpoint. `preflight` and `result` as in the files of that name."""
    license_line = f"license: {json.dumps(spec.student.license)}\n" if spec.student.license else ""
    train, val = preflight["train"], preflight["val"]
    options = _flat(spec.options.model_dump(mode="json", exclude=_replaced(spec.options)))
    best = result["val_loss"]
    body = BODY.format(
        base=spec.student.name, teacher=spec.teacher, solutions=SOLUTIONS[spec.labels], policy=spec.policy, round=spec.round, selected=spec.selected,
        n_train=train["rows"], train_tokens=train["supervised_tokens_per_row"],
        n_val=val["rows"], val_tokens=val["supervised_tokens_per_row"], dropped=_dropped(train, val),
        steps=result["steps"], batch_rows=preflight["batch"]["rows"], about="about " if spec.options.global_batch_tokens else "", step=result["step"],
        early=" (stopped early)" if result["stopped_early"] else "",
        chosen=f", {result['chosen_for']}" if result["chosen_for"] else "",
        train_loss=result["train_loss"], val_loss=f", {best:.4f} in validation" if best is not None else "",
        lora=_lora(spec.options.lora), end_token=preflight["end_token"], dtype=spec.options.dtype, device=result["device"],
        options="\n".join(f"| {name} | {value} |" for name, value in options.items()),
        versions=", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        licenses="\n".join(f"- {what}: {licence}" for what, licence in spec.licenses) or "None were recorded.",
    )  # fmt: skip
    return FRONT.format(base=json.dumps(spec.student.name), license=license_line) + body


def _replaced(options: TrainingOptions) -> set[str]:
    """Sizes in rows that sizes in tokens stand in for."""
    sizes = {"global_batch_size": options.global_batch_tokens, "micro_batch_size": options.micro_batch_tokens}
    return {name for name, tokens in sizes.items() if tokens is not None}


def _flat(options: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Every option that is set, those of a part by `part.option`."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{within}{name}.")
        elif value is not None:
            found[within + name] = value
    return found


def _lora(lora: LoraOptions | None) -> str:
    if lora is None:
        return ""
    four_bits = (
        " held in four bits (nf4), and merged into what those stand for"
        if lora.quantize == "nf4"
        else ", and merged into them"
    )
    return f" Trained were low-rank adapters (rank {lora.rank}, alpha {lora.alpha:g}) beside frozen weights{four_bits}."


def _dropped(train: Mapping[str, Any], val: Mapping[str, Any]) -> str:
    counts = [f"{n} {reason.replace('_', ' ')}" for split in (train, val) for reason, n in split["dropped"].items()]
    return ", ".join(counts) or "none"

"""From a training's scratch folder to an ordinary checkpoint folder: safetensors and text files only."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from overproof.shared.checkpoints import TOKENIZERS, generation_config
from overproof.shared.errors import ModelError
from overproof.shared.specs import TrainSpec
from overproof.training.domain.card import model_card
from overproof.training.job import Job, Result

TAKEN_OVER = (
    *TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt",
    "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja", "processor_config.json", "preprocessor_config.json",
    "LICENSE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
"""Files of the base that training does not change: taken as they are, so that the student reads exactly as its base does, and
carries what its base's terms ask to be passed on."""


def assemble(job: Job, spec: TrainSpec, result: Result) -> Path:
    """Lay out the artifact's files in `scratch/output`: `checkpoint/...` and the records beside it. The scratch stays whole.

    Raises ModelError when the training left no weights.
    """
    output = job.scratch / "output"
    shutil.rmtree(output, ignore_errors=True)
    folder = output / "checkpoint"
    folder.mkdir(parents=True)
    trained = job.merged if job.options.lora else job.checkpoints / result.checkpoint
    weights = sorted(trained.glob("model*.safetensors*"))  # with the index of several
    if not any(path.suffix == ".safetensors" for path in weights):
        raise ModelError(
            f"{trained.name} of the training of {spec.student.name} holds no weights (model*.safetensors), so there is no student.",
            "Leave out what keeps DeepSpeed from saving them in training.deepspeed, and submit the run again.",
        )
    for path in weights:
        _link(path, folder / path.name)
    if job.options.lora:
        _adapter(job.checkpoints / result.checkpoint, output / "adapter", spec.student.name)
    _take_over(job.student, folder)
    preflight = json.loads(job.preflight.read_text())
    _write_json(folder / "config.json", _config(job))
    _write_json(folder / "generation_config.json", _generation_config(job.student, preflight["end_token_id"]))
    figures = result.model_dump(mode="json")
    (folder / "README.md").write_text(model_card(spec, preflight, figures), encoding="utf-8")
    _write_json(
        folder / "training.json", {"spec": spec.model_dump(mode="json"), "preflight": preflight, "result": figures}
    )
    shutil.copytree(job.event_files, output / "tensorboard")
    for record in (job.metrics, job.preflight, job.samples, job.solutions):
        if record.is_file():  # solutions only with a probe
            shutil.copyfile(record, output / record.name)
    return output


def _take_over(base: Path, folder: Path) -> None:
    found = (path for pattern in TAKEN_OVER for path in base.glob(pattern))
    for path in found:
        if path.is_file():
            target = folder / path.relative_to(base)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)


def _adapter(trained: Path, folder: Path, base: str) -> None:
    """The adapter by itself, small and for any use of its own; it names its base as the recipe does, not by a path of this machine."""
    folder.mkdir()
    _link(trained / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    config: dict[str, Any] = json.loads((trained / "adapter_config.json").read_text())
    _write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": base})


def _config(job: Job) -> dict[str, Any]:
    """The base's own config with the dtype of the new weights: nothing else of the architecture changes in training."""
    config: dict[str, Any] = json.loads((job.student / "config.json").read_text())
    return config | {"torch_dtype" if "torch_dtype" in config else "dtype": job.options.dtype}


def _generation_config(student: Path, end: int) -> dict[str, Any]:
    """The base's, sure to stop at the token that the student was taught to end with."""
    config = generation_config(student)
    stops = config.get("eos_token_id")
    stops = stops if isinstance(stops, list) else [stop for stop in (stops,) if stop is not None]
    if end not in stops:
        config["eos_token_id"] = [end, *stops] if stops else end
    return config


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    """A second name for a file of the scratch folder: gigabytes are not copied."""
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)

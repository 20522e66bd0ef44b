"""What of a training and of its base becomes the student's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from overproof.shared.errors import ModelError
from overproof.shared.specs import TrainSpec
from overproof.training import student
from overproof.training.job import Job, Result

RESULT = Result(
    checkpoint="checkpoint-3", step=3, steps=3, stopped_early=False, train_loss=0.5, val_loss=None, validations=(), tokens=10,
    device="cpu", versions={}, deepspeed={},
)  # fmt: skip
OF_THE_BASE = (
    "LICENSE", "LICENSE.md", "LICENSE-MODEL", "NOTICE.txt", "USE_POLICY.md", "spiece.model", "tokenizer.model",
    "additional_chat_templates/tools.jinja",
)  # fmt: skip


@pytest.fixture
def ended(models: Path, tmp_path: Path, train_spec: Callable[..., TrainSpec]) -> tuple[Job, TrainSpec]:
    """A training that is over, of a base with licences and a tokenizer in more files; its checkpoint holds no weights yet."""
    base = Path(shutil.copytree(models / "tiny", tmp_path / "base"))
    (base / "additional_chat_templates").mkdir()
    for name in OF_THE_BASE:
        (base / name).write_text(name)
    (base / "pytorch_model.bin").write_text("pickle")
    spec = train_spec(f"prepare/{0:032x}")
    job = Job(
        scratch=tmp_path / "scratch", storage="", selected=spec.selected, student=base, context=256, vocab_size=384, n_parameters=1,
        options=spec.options, threads=1,
    )  # fmt: skip
    (job.checkpoints / RESULT.checkpoint).mkdir(parents=True)
    job.event_files.mkdir()
    half = {"rows": 4, "supervised_tokens_per_row": 9, "dropped": {}}
    found = {"train": half, "val": half, "batch": {"rows": 2}, "end_token": "<|im_end|>", "end_token_id": 2}
    job.preflight.write_text(json.dumps(found))
    return job, spec


def test_licences_and_tokenizer_go_with_the_weights(ended: tuple[Job, TrainSpec]) -> None:
    job, spec = ended
    (job.checkpoints / RESULT.checkpoint / "model.safetensors").write_text("weights")
    folder = student.assemble(job, spec, RESULT) / "checkpoint"
    assert {name: (folder / name).read_text() for name in OF_THE_BASE} == {name: name for name in OF_THE_BASE}
    assert (folder / "model.safetensors").read_text() == "weights"
    assert not (folder / "pytorch_model.bin").exists()


@pytest.mark.parametrize("left", [(), ("model.safetensors.index.json",)])
def test_training_without_weights_makes_no_student(ended: tuple[Job, TrainSpec], left: tuple[str, ...]) -> None:
    job, spec = ended
    for name in left:
        (job.checkpoints / RESULT.checkpoint / name).write_text("{}")
    with pytest.raises(ModelError, match="checkpoint-3 of the training of tiny holds no weights") as caught:
        student.assemble(job, spec, RESULT)
    assert "training.deepspeed" in caught.value.remedy

"""A student that is too large for one file comes in several, with an index, and is the same student."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.shared import checkpoints
from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files
from overproof.shared.recipe import LoraOptions
from overproof.shared.specs import TrainSpec
from overproof.shared.worker import Worker
from overproof.training.settings import TrainingSettings

SMALL_SHARDS = "from overproof.training import checkpointing\ncheckpointing.SHARD = '100KB'\n"


def loaded(folder: Path) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    return dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"zero_stage": 3}, {"lora": LoraOptions(rank=4)}], ids=["all weights", "adapter"])
def test_shards_hold_what_one_file_holds(
    options: dict[str, Any],
    deliver: Callable[[TrainSpec, TrainingSettings], Worker],
    settings: TrainingSettings,
    rows: Callable[..., Any],
    select: Callable[..., str],
    train_spec: Callable[..., TrainSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    (tmp_path / "sitecustomize.py").write_text(SMALL_SHARDS)
    folders = []
    for way, path in (("whole", ""), ("shards", str(tmp_path))):
        monkeypatch.setenv("PYTHONPATH", path)
        here = settings.model_copy(update={"storage": str(tmp_path / way)})
        artifacts = Artifacts(Files(here.storage))
        spec = train_spec(select(artifacts, rows()), max_steps=2, save_every_steps=1, **options)
        deliver(spec, here)
        folders.append(artifacts.files.local(artifacts.folder(spec.ref)) / "checkpoint")
    whole, shards = folders
    assert [file.name for file in whole.glob("model*")] == ["model.safetensors"]
    index = json.loads((shards / "model.safetensors.index.json").read_text())
    assert {file.name for file in shards.glob("*.safetensors")} == set(index["weight_map"].values())
    assert len(set(index["weight_map"].values())) > 1
    assert checkpoints.inspect(shards).bytes == sum(file.stat().st_size for file in shards.glob("*.safetensors"))
    expected = loaded(whole)
    for name, one in loaded(shards).items():
        assert torch.equal(one, expected[name]), name

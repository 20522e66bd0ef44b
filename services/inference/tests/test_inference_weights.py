"""A checkpoint that lacks weights is refused by name before an engine makes them up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="Transformers is not installed")

from overproof.inference.adapters.engines import open_engine
from overproof.inference.adapters.weights import require_all
from overproof.inference.settings import InferenceSettings
from overproof.shared.errors import ModelError
from overproof.shared.recipe import EngineOptions

GONE = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def rewrite(folder: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def test_whole_checkpoint_passes(checkpoint: Path) -> None:
    require_all(checkpoint)


def test_missing_weight_is_named(copy: Path) -> None:
    rewrite(copy, lambda weights: {name: weight for name, weight in weights.items() if name != GONE})
    with pytest.raises(ModelError, match=rf"copy lacks 1 of \d+ weights: {GONE}") as caught:
        open_engine(copy, EngineOptions(kind="transformers", dtype="float32"), InferenceSettings())
    assert caught.value.remedy == "Restore the checkpoint's files."


def test_many_missing_weights_are_counted(copy: Path) -> None:
    rewrite(copy, lambda weights: {name: weight for name, weight in weights.items() if "layers.1" not in name})
    with pytest.raises(ModelError, match=r"lacks 9 of 21 weights: model\.layers\.1\..* and 6 more"):
        require_all(copy)


def test_shared_weight_may_stand_under_either_name(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    rewrite(copy, lambda weights: {name: weight for name, weight in weights.items() if name != "lm_head.weight"})
    require_all(copy)


def test_names_that_are_not_the_library_s_are_left_to_the_engine(copy: Path) -> None:
    rewrite(copy, lambda weights: {name.replace("weight", "qweight"): weight for name, weight in weights.items()})
    require_all(copy)


def test_model_that_the_library_does_not_know_is_left_to_the_engine(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "unheard"}))
    require_all(copy)


def test_file_that_is_cut_off_is_named(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"copy/model\.safetensors cannot be read: .*incomplete"):
        require_all(copy)

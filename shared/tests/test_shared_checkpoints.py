"""Checkpoint folders: found, identified, and refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overproof.shared import checkpoints
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import ArtifactMissing, CorruptShard, ModelError
from overproof.shared.records import Receipt
from overproof.shared.settings import Settings
from overproof.shared.specs import ModelRef, TrainSpec

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64, "vocab_size": 9}
FILES = {
    "config.json": json.dumps(CONFIG),
    "model.safetensors": "12345678",
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
    "chat_template.jinja": "{{ messages }}",
    "README.md": "---\nlicense: apache-2.0\ntags:\n- x\n---\nA model.",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(storage=str(tmp_path / "storage"), model_root=tmp_path / "models")


@pytest.fixture
def model(settings: Settings) -> Path:
    return write(settings.model_root / "tiny", FILES)


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def folder_ref(location: str, fingerprint: str | None = None) -> ModelRef:
    return ModelRef(name="m", kind="folder", location=location, fingerprint=fingerprint)


def test_inspect_says_what_the_files_say(model: Path) -> None:
    found = checkpoints.inspect(model)
    assert (found.model_type, found.context, found.vocab_size, found.bytes) == ("llama", 64, 9, 8)
    assert found.license == "apache-2.0"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config.json": None}, "no config.json"),
        ({"config.json": "{"}, "is not JSON"),
        ({"config.json": json.dumps(CONFIG | {"auto_map": {"AutoModel": "x.py"}})}, "own code"),
        ({"tokenizer_config.json": '{"auto_map": {"AutoTokenizer": "x.py"}}'}, "own code"),
        ({"tokenizer.json": None}, "no tokenizer"),
        ({"generation_config.json": '{"eos_token_id": 2'}, "generation_config.json is not JSON"),
        ({"chat_template.jinja": None}, "no chat template"),
        ({"model.safetensors": None, "pytorch_model.bin": "pickle"}, "no model.safetensors"),
        ({"model.safetensors.index.json": '{"weight_map": {"a": "model-1.safetensors"}}'}, "lacks model-1.safetensors"),
    ],
)
def test_checkpoint_that_cannot_be_used_is_refused(model: Path, changed: dict[str, str | None], message: str) -> None:
    for name, text in changed.items():
        (model / name).unlink() if text is None else (model / name).write_text(text)
    with pytest.raises(ModelError, match=message):
        checkpoints.inspect(model)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
        ({"text_config": {"quantization_config": {"quant_method": "gptq", "bits": 4}}}, "gptq"),
        ({"quantization_config": {"bits": 4}}, "unknown"),
        ({"quantization_config": None}, None),
        ({}, None),
    ],
)
def test_quantised_weights_may_write_but_are_not_trained(
    model: Path, more: dict[str, object], told: str | None
) -> None:
    (model / "config.json").write_text(json.dumps(CONFIG | more))
    found = checkpoints.inspect(model)
    assert found.quantization == told
    if told is None:
        checkpoints.check_trainable(found)
        return
    with pytest.raises(ModelError, match=rf"weights of tiny are quantised \({told}\)") as caught:
        checkpoints.check_trainable(found)
    assert "the checkpoint that they were made from" in caught.value.remedy


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": "old"},
        {"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "old"}]},
    ],
)
def test_older_places_of_the_chat_template_are_known(model: Path, config: dict[str, object]) -> None:
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert checkpoints.chat_template(model) == "old"


def test_folder_is_resolved_below_the_model_root_only(model: Path, settings: Settings, artifacts: Artifacts) -> None:
    assert checkpoints.resolve(folder_ref("tiny"), settings, artifacts) == model
    write(settings.model_root.parent / "outside", FILES)
    for location, message in (("../outside", "outside the model root"), ("absent", "no model folder")):
        with pytest.raises(ModelError, match=message):
            checkpoints.resolve(folder_ref(location), settings, artifacts)


def test_changed_folder_is_noticed(model: Path, settings: Settings, artifacts: Artifacts) -> None:
    mark = checkpoints.fingerprint(model)
    assert checkpoints.resolve(folder_ref("tiny", mark), settings, artifacts) == model
    (model / ".hidden").write_text("left out")
    assert checkpoints.fingerprint(model) == mark
    (model / "model.safetensors").write_text("87654321")
    with pytest.raises(ModelError, match="changed after the run was submitted"):
        checkpoints.resolve(folder_ref("tiny", mark), settings, artifacts)


def test_hub_needs_leave(settings: Settings, artifacts: Artifacts) -> None:
    with pytest.raises(ModelError, match="may not use"):
        checkpoints.resolve(ModelRef(name="a/b", kind="hub", location="a/b"), settings, artifacts)


def test_trained_student_is_resolved_when_whole(settings: Settings, artifacts: Artifacts, tmp_path: Path) -> None:
    spec = TrainSpec.model_validate(
        {
            "selected": "select/" + "0" * 32, "student": folder_ref("tiny"), "options": {}, "policy": "all", "round": 1, "teacher": "t",
        }
    )  # fmt: skip
    ref = ModelRef(name="round 1", kind="artifact", location=spec.ref)
    artifacts.declare(spec)
    with pytest.raises(ArtifactMissing):
        checkpoints.resolve(ref, settings, artifacts)
    made = write(tmp_path / "made", FILES)
    parts = [artifacts.write_file(spec.ref, made / name, f"checkpoint/{name}") for name in FILES]
    artifacts.publish(spec.ref, Receipt(shard=0, parts=tuple(parts), owner="test", started_at=0, finished_at=0))
    artifacts.close(spec.ref, 1, None)
    path = checkpoints.resolve(ref, settings, artifacts)
    assert checkpoints.inspect(path).model_type == "llama"
    (path / "model.safetensors").write_text("damaged!")
    with pytest.raises(CorruptShard):
        checkpoints.resolve(ref, settings, Artifacts(artifacts.files))

"""Students that cannot be trained are refused before a GPU is taken, each in a sentence that names file and remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import ModelError
from overproof.training.job import Job
from overproof.training.prepare import prepare

NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


def config_with(**values: Any) -> Callable[[Path], None]:
    def change(student: Path) -> None:
        config = json.loads((student / "config.json").read_text())
        (student / "config.json").write_text(json.dumps(config | values))

    return change


def file_of(name: str, text: str) -> Callable[[Path], None]:
    return lambda student: (student / name).write_text(text) and None


def halved(name: str) -> Callable[[Path], None]:
    def change(student: Path) -> None:
        content = (student / name).read_bytes()
        (student / name).write_bytes(content[: len(content) // 2])

    return change


def in_shards(student: Path) -> None:
    """Two files and an index, of which the one without the embedding is cut short."""
    from safetensors.torch import load_file, save_file

    weights = load_file(student / "model.safetensors")
    (student / "model.safetensors").unlink()
    files = {name: f"model-{1 + ('layers' in name)}.safetensors" for name in weights}
    for file in set(files.values()):
        save_file({name: one for name, one in weights.items() if files[name] == file}, student / file)
    (student / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    halved("model-2.safetensors")(student)


def without(name: str) -> Callable[[Path], None]:
    """The weights, but for one."""

    def change(student: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(student / "model.safetensors")
        del weights[name]
        save_file(weights, student / "model.safetensors")

    return change


@pytest.fixture
def job_of(
    models: Path, tmp_path: Path, artifacts: Artifacts, rows: Any, select: Any, train_spec: Any
) -> Callable[..., Job]:
    """`job_of(change, system, **options)`: a training of a copy of the student, changed, on rows with that system turn."""

    def make(change: Callable[[Path], None], system: str | None = None, **options: Any) -> Job:
        student = Path(shutil.copytree(models / "tiny", tmp_path / "broken"))
        change(student)
        spec = train_spec(select(artifacts, [row | {"system": system} for row in rows(8, 2)]), **options)
        (tmp_path / "scratch").mkdir()
        return Job(
            scratch=tmp_path / "scratch", storage=artifacts.files.root, selected=spec.selected, student=student, context=256,
            vocab_size=384, n_parameters=60_000, options=spec.options, threads=1,
        )  # fmt: skip

    return make


def of_text_and_images(student: Path) -> None:
    """Gemma 3's kind: the sizes of the decoder lie one level down in its config."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma3Config

    text = {
        "vocab_size": 384, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    images = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    torch.manual_seed(0)
    config = Gemma3Config(text_config=text, vision_config=images, boi_token_index=3, eoi_token_index=4, image_token_index=5)  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(student)


def test_student_of_text_and_images_is_trained_on_text(job_of: Callable[..., Job], run_job: Callable[..., Job]) -> None:
    job = job_of(of_text_and_images, max_steps=2, gradient_checkpointing="selective")
    job.save()
    prepare(job)
    (warning,) = json.loads(job.preflight.read_text())["warnings"]
    assert warning.startswith("training.gradient_checkpointing: selective finds no norms in broken (gemma3)")
    run_job(job)
    assert json.loads(job.result.read_text())["steps"] == 2


@pytest.mark.parametrize(
    ("change", "message", "remedy"),
    [
        (
            file_of("chat_template.jinja", NO_SYSTEM),
            "chat template of broken cannot render the turns system, user: TemplateError: System role not supported.",
            "leave prompt.system out",
        ),
        (
            file_of("chat_template.jinja", "{% for m in messages %}{{ m.content "),
            "chat template of broken cannot render the turns user, assistant: TemplateSyntaxError",
            "Mend its chat_template.jinja",
        ),
        (file_of("generation_config.json", '{"eos_token_id": 2'), "broken/generation_config.json is not JSON", "Restore"),
        (file_of("generation_config.json", '{"eos_token_id": "no"}'), "generation_config.json is no token", "a number"),
        (halved("model.safetensors"), "broken/model.safetensors is damaged or cut short", "Copy the file again"),
        (in_shards, "broken/model-2.safetensors is damaged or cut short", "Copy the file again"),
        (
            without("model.layers.1.mlp.up_proj.weight"),
            "weights of broken are not those of its config.json (llama): missing: model.layers.1.mlp.up_proj.weight.",
            "Export the student again",
        ),
        (config_with(num_hidden_layers=3), "missing: model.layers.2.input_layernorm.weight, model.layers.2.mlp.down_proj.weight, "
            "model.layers.2.mlp.gate_proj.weight and 6 more.", "Export the student again"),
        (
            config_with(intermediate_size=96),
            "of another shape: model.layers.0.mlp.down_proj.weight [64, 128] instead of [64, 96]",
            "Export the student again",
        ),
        (file_of("tokenizer.json", "{}"), "The tokenizer of broken cannot be read: KeyError", "tokenizer.json"),
        (file_of("tokenizer.json", "{"), "The tokenizer of broken cannot be read", "tokenizer.json"),
        (
            config_with(model_type="supermodel"),
            "cannot build broken from its config.json: ValueError: The checkpoint you are trying to load has model type `supermodel`",
            "update transformers",
        ),
        (config_with(model_type="t5"), "cannot build broken from its config.json: ValueError", "causal language model"),
        (config_with(num_attention_heads=0), "cannot build broken from its config.json", "Mend the config"),
        (config_with(quantization_config={"quant_method": "fp8"}), "are quantised (fp8)", "made from"),
    ],
)  # fmt: skip
def test_student_that_cannot_be_trained_is_refused(
    job_of: Callable[..., Job], change: Callable[[Path], None], message: str, remedy: str
) -> None:
    with pytest.raises(ModelError) as caught:
        prepare(job_of(change, system="Be brief."))
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert "\n" not in caught.value.message

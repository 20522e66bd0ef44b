"""Adapters: what is trained, what is written, and that the merged student is the adapted one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import RecipeError
from overproof.shared.recipe import LoraOptions, TrainingOptions
from overproof.shared.specs import TrainSpec
from overproof.shared.worker import Worker
from overproof.training.checkpointing import read_lines
from overproof.training.job import Job
from overproof.training.settings import TrainingSettings

Deliver = Callable[[TrainSpec, TrainingSettings], Worker]
LORA = LoraOptions(rank=8, alpha=16, dropout=0.1)
IDS = [[1, 20, 21, 22, 2, 30, 31, 32, 33, 34]]


@pytest.fixture
def trained(
    deliver: Deliver,
    settings: TrainingSettings,
    rows: Callable[..., list[dict[str, Any]]],
    select: Callable[..., str],
    train_spec: Callable[..., TrainSpec],
    artifacts: Artifacts,
) -> Callable[..., tuple[TrainSpec, Path]]:
    """`trained(**options)`: the spec and the artifact's folder."""

    def make(**options: Any) -> tuple[TrainSpec, Path]:
        spec = train_spec(select(artifacts, rows()), **{"lora": LORA, "learning_rate": 1e-2, **options})
        deliver(spec, settings)
        return spec, artifacts.files.local(artifacts.folder(spec.ref))

    return make


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_recipe_without_adapters_keeps_its_key() -> None:
    plain = TrainingOptions()
    assert not {"lora", "neftune_alpha", "offload"} & set(plain.model_dump())
    assert (
        TrainingOptions(lora={}, neftune_alpha=5, offload="optimizer").model_dump().keys() > plain.model_dump().keys()
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"lora": {"targets": ["q_proj", "lm_head"]}}, "lm_head"),
        ({"lora": {"targets": []}}, "no layer"),
        ({"lora": {"quantize": "nf4"}, "zero_stage": 3}, "zero_stage 0, 1 or 2"),
        ({"lora": {"quantize": "nf4"}, "dtype": "float32"}, "dtype bfloat16"),
        ({"offload": "parameters", "zero_stage": 2}, "zero_stage 3"),
        ({"offload": "optimizer", "zero_stage": 0}, "zero_stage 1, 2 or 3"),
    ],
)
def test_what_cannot_work_is_refused_with_the_recipe(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TrainingOptions(**values)


def test_targets_are_found_in_the_student(models: Path) -> None:
    from overproof.training.adapters.architecture import built
    from overproof.training.adapters.lora import matched

    tiny = built(models / "tiny")
    assert len(matched(tiny, LoraOptions())) == 2 * 7
    assert len(matched(tiny, LoraOptions(targets=("q_proj", "mlp.down_proj")))) == 2 * 2
    with pytest.raises(RecipeError, match="no linear layer w_q"):
        matched(tiny, LoraOptions(targets=("w_q",)))


def gpt2(**sizes: int) -> Any:
    """Of Conv1D layers throughout, whose weights lie the other way round."""
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config

    torch.manual_seed(0)
    small = {"vocab_size": 384, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    model = AutoModelForCausalLM.from_config(GPT2Config(**small | sizes, bos_token_id=None, eos_token_id=None)).eval()
    model.config.name_or_path = "models/gpt2"
    return model


def test_layers_of_another_kind_are_adapted_too_and_a_student_without_any_is_refused() -> None:
    import torch

    from overproof.training.adapters import lora

    assert len(lora.matched(gpt2(), LoraOptions())) == 2 * 4
    assert len(lora.matched(gpt2(), LoraOptions(targets=("c_attn",)))) == 2
    with pytest.raises(RecipeError, match="gpt2 has no linear layer q_proj") as caught:
        lora.matched(gpt2(), LoraOptions(targets=("q_proj",)))
    assert caught.value.remedy == "It has c_attn, c_fc, c_proj."
    with pytest.raises(RecipeError, match="gpt2 has no linear layer beside which"):
        lora.matched(gpt2(n_layer=0), LoraOptions())

    adapted = lora.attach(gpt2(), TrainingOptions(lora=LoraOptions(rank=4))).eval()
    logits = adapted(torch.tensor(IDS)).logits
    logits.sum().backward()
    torch.testing.assert_close(logits, gpt2()(torch.tensor(IDS)).logits)  # the other half begins at zero
    assert len([one for one in adapted.parameters() if one.grad is not None]) == 2 * 2 * 4


def test_merged_student_answers_as_base_and_adapter_do(
    trained: Callable[..., tuple[TrainSpec, Path]], models: Path
) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    _, folder = trained(epochs=4)
    found = losses(folder)
    assert found[-1] < found[0] - 0.5
    base = AutoModelForCausalLM.from_pretrained(models / "tiny").eval()
    merged = AutoModelForCausalLM.from_pretrained(folder / "checkpoint").eval()
    with torch.no_grad():
        before = base(torch.tensor(IDS)).logits
        expected = PeftModel.from_pretrained(base, folder / "adapter").eval()(torch.tensor(IDS)).logits
        torch.testing.assert_close(merged(torch.tensor(IDS)).logits, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)
    new, old = load_file(folder / "checkpoint" / "model.safetensors"), load_file(models / "tiny" / "model.safetensors")
    assert new.keys() == old.keys()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {name for name in old if "_proj" in name}
    assert "peft" in json.loads((folder / "checkpoint" / "training.json").read_text())["result"]["versions"]


def test_layer_and_adapter_in_one_operation_are_the_librarys_sum(models: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from overproof.training.adapters import lora

    def outcome(stage: int) -> tuple[Any, dict[str, Any], int]:
        """Logits, gradients, and how many layers are one operation with their adapter."""
        options = TrainingOptions(lora=LoraOptions(rank=4, alpha=12), zero_stage=stage)  # type: ignore[arg-type]
        model = lora.attach(AutoModelForCausalLM.from_pretrained(models / "tiny"), options).double()
        chance = torch.Generator().manual_seed(0)
        for name, one in model.named_parameters():
            if "lora_B" in name:
                one.data = torch.randn(one.shape, generator=chance, dtype=one.dtype)
        logits = model(torch.tensor(IDS)).logits
        logits.square().sum().backward()
        gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
        return logits, gradients, sum("forward" in vars(layer) for layer in model.modules() if hasattr(layer, "lora_A"))

    (found, gradients, fused), (expected, references, plain) = outcome(1), outcome(3)
    assert (fused, plain) == (2 * 7, 0)
    torch.testing.assert_close(found, expected)
    assert gradients.keys() == references.keys()
    for name, one in gradients.items():
        torch.testing.assert_close(one, references[name])


def weights(checkpoint: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(checkpoint / "adapter_model.safetensors"))


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_adapters_alone_are_kept_and_resumed_from_bit_by_bit(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]
) -> None:
    import torch

    # dropout and noise are drawn anew in every step: the draws too must go on where they stopped
    more = {"micro_batch_tokens": 256, "neftune_alpha": 5.0, "gradient_checkpointing": True}
    job = run_job(make_job(rows(), max_steps=10, lora=LORA, **more))
    half, end = job.checkpoints / "checkpoint-5", job.checkpoints / "checkpoint-10"
    assert all("lora_" in name for name in weights(end))
    held = torch.load(end / "global_step10" / "mp_rank_00_model_states.pt", weights_only=False)["module"]
    assert held
    assert all("lora_" in name for name in held)
    assert not list(end.glob("model*.safetensors"))
    expected = weights(end)
    assert not equal(expected, weights(half))
    shutil.rmtree(end)
    job.result.unlink()
    run_job(job, half)
    assert equal(weights(end), expected)


@pytest.mark.slow
def test_two_processes_adapt_alike_at_every_stage(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]
) -> None:
    def curve(**options: Any) -> list[float]:
        job = run_job(make_job(rows(), max_steps=4, lora=LoraOptions(rank=4), micro_batch_tokens=256, **options))
        return [line["loss"] for line in read_lines(job.metrics) if "loss" in line]

    expected = pytest.approx(curve(zero_stage=0), rel=1e-4)
    for stage, offload in ((1, "none"), (2, "optimizer"), (3, "parameters")):
        assert curve(processes=2, zero_stage=stage, offload=offload) == expected, f"ZeRO {stage}"


def test_weights_in_four_bits_are_trained_beside_and_merged_as_they_were(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="an extra: overproof-training[bitsandbytes]")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from overproof.training.adapters import lora, machine

    monkeypatch.setattr(machine, "check_quantization", lambda *_: None)  # slow without a GPU, but the same
    four_bits = LoraOptions(rank=8, alpha=16, quantize="nf4")
    options = {"lora": four_bits, "dtype": "bfloat16", "learning_rate": 1e-2, "micro_batch_tokens": 256}
    job = run_job(make_job(rows(), max_steps=12, gradient_checkpointing=True, **options))
    found = [line["loss"] for line in read_lines(job.metrics) if "loss" in line]
    assert found[-1] < found[0] - 0.3
    adapter = job.checkpoints / "checkpoint-12"
    lora.merge(job.student, adapter, job.merged, job.options)
    quantized = AutoModelForCausalLM.from_pretrained(
        job.student, dtype=torch.bfloat16, **lora.quantization(job.options)
    )
    merged = AutoModelForCausalLM.from_pretrained(job.merged).eval()
    with torch.no_grad():
        ids = torch.tensor(IDS, device=quantized.device)
        expected = PeftModel.from_pretrained(quantized, adapter).eval()(ids).logits.cpu()
        off = (merged(torch.tensor(IDS)).logits - expected).abs().mean()
    assert merged.dtype == torch.bfloat16
    assert not hasattr(merged.config, "quantization_config")
    assert float(off) < 0.02 * float(expected.abs().mean())


@pytest.mark.slow
def test_adapters_go_on_with_another_number_of_processes(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]
) -> None:
    from overproof.training import universal

    options = {"max_steps": 9, "save_every_steps": 5, "lora": LoraOptions(rank=4), "micro_batch_tokens": 256}
    job = run_job(make_job(rows(), processes=2, zero_stage=1, **options))
    expected = [line["loss"] for line in read_lines(job.metrics) if "loss" in line][5:]
    shutil.rmtree(job.checkpoints / "checkpoint-9")
    job.result.unlink()
    job.metrics.unlink()
    alone = job.model_copy(update={"options": job.options.model_copy(update={"processes": 1})})
    alone.save()
    run_job(alone, universal.convert(alone, job.checkpoints / "checkpoint-5"))
    assert [line["loss"] for line in read_lines(job.metrics) if "loss" in line] == pytest.approx(expected, rel=1e-4)

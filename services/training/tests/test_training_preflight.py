"""What is known before a GPU is taken: the estimate, and what cannot work is refused with the field's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from overproof.shared.errors import RecipeError
from overproof.shared.recipe import TrainingOptions
from overproof.training.adapters import machine
from overproof.training.adapters.machine import Gpu
from overproof.training.domain import estimate
from overproof.training.domain.deepspeed_config import bucket_of
from overproof.training.domain.estimate import GIB, Memory, Sizes
from overproof.training.domain.preflight import doubled_openings, warnings_of
from overproof.training.foretelling import tell_unused
from overproof.training.job import Job

QWEN_1B = Sizes(28, 1536, 1536, 256, 8960, 151_936)
N_1B = 1_543_714_304
H100 = Gpu("NVIDIA H100 80GB HBM3", 80 * GIB)


def memory(tokens: int = 4096, fused: bool = True, **values: Any) -> Memory:
    options = TrainingOptions(**{"micro_batch_tokens": 4096, **values})
    return estimate.memory_of(QWEN_1B, N_1B, options, tokens, 200_000_000, fused=fused)


def test_sizes_count_the_weights_of_a_real_architecture() -> None:
    # Qwen2.5-1.5B: the rest are norms and biases
    found = QWEN_1B.layers * QWEN_1B.layer + QWEN_1B.head
    assert N_1B - found == 28 * (2 * 1536 + 1536 + 2 * 256) + 1536
    config = {"num_hidden_layers": 28, "hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 2,
              "intermediate_size": 8960, "vocab_size": 151_936}  # fmt: skip
    assert Sizes.of(config) == QWEN_1B
    assert Sizes.of({"text_config": config}) == QWEN_1B
    assert Sizes.of(config | {"num_experts": 8}) is None
    assert Sizes.of({"n_embd": 768}) is None


def test_states_are_sixteen_bytes_per_weight_and_are_cut_by_stage() -> None:
    whole = memory(zero_stage=1)
    assert whole.weights + whole.gradients + whole.optimizer == 16 * N_1B
    cut = {stage: memory(zero_stage=stage, processes=4) for stage in (0, 1, 2, 3)}
    assert cut[0].optimizer == 12 * N_1B
    assert [cut[stage].optimizer for stage in (1, 2, 3)] == [3 * N_1B] * 3
    assert [cut[stage].gradients for stage in (1, 2, 3)] == [2 * N_1B, N_1B / 2, N_1B / 2]
    assert [cut[stage].weights for stage in (2, 3)] == [2 * N_1B, N_1B / 2]


EIGHT, ADAPTERS = {"optimizer": "adamw_8bit"}, {"lora": {"rank": 16}}
SEVEN, N_7B = Sizes(28, 3584, 3584, 512, 18_944, 152_064), 7_615_616_512


@pytest.mark.parametrize(
    ("how", "tokens", "checkpointing", "measured"),
    [
        ({}, 8192, True, 25.4), ({}, 16_384, True, 26.3), ({}, 32_768, True, 28.9), ({}, 8192, False, 40.2), ({}, 16_384, False, 55.6),
        ({}, 4096, "selective", 29.7), ({}, 16_384, "selective", 45.5),
        (EIGHT, 8192, "selective", 26.5), (EIGHT, 9216, "selective", 27.9), (EIGHT, 10_240, "selective", 29.1),
        (ADAPTERS, 8192, True, 17.9), (ADAPTERS, 6144, "selective", 33.0), (ADAPTERS, 7168, "selective", 35.8),
        (ADAPTERS, 8192, "selective", 38.6), (ADAPTERS, 8192, False, 49.5),
    ],
)  # fmt: skip
def test_measured_peaks_are_met_within_a_sixth(
    how: dict[str, Any], tokens: int, checkpointing: Any, measured: float
) -> None:
    # docs/benchmarks.md, one H200, Liger installed: 1.5B, and 7B with adapters; GiB as torch counts
    sizes, n = (SEVEN, N_7B) if how == ADAPTERS else (QWEN_1B, N_1B)
    options = TrainingOptions(micro_batch_tokens=tokens, gradient_checkpointing=checkpointing, **how)
    bucket = bucket_of(estimate.trained_weights(sizes, n, options))
    counted = estimate.memory_of(sizes, n, options, tokens, bucket, fused=True).device - estimate.OUTSIDE
    assert measured < counted / GIB < 7 / 6 * measured


@pytest.mark.parametrize(
    ("stage", "tokens", "measured"),
    [(1, 8192, 16.8), (1, 16_384, 17.6), (1, 32_768, 17.6), (2, 16_384, 16.9), (3, 16_384, 17.0), (3, 32_768, 19.7)],
)
def test_measured_peaks_of_two_processes_are_met_within_a_third(stage: int, tokens: int, measured: float) -> None:
    # docs/benchmarks.md, two H200s, 1.5B: activations and gradients are never all there at once
    options = TrainingOptions(micro_batch_tokens=tokens, gradient_checkpointing=True, zero_stage=stage, processes=2)
    bucket = bucket_of(estimate.trained_weights(QWEN_1B, N_1B, options))
    counted = estimate.memory_of(QWEN_1B, N_1B, options, tokens, bucket, fused=True).device - estimate.OUTSIDE
    assert measured < counted / GIB < 4 / 3 * measured


def test_adapters_checkpointing_and_offload_save_what_they_save() -> None:
    plain, adapted, four_bits = memory(), memory(lora={"rank": 16}), memory(lora={"rank": 16, "quantize": "nf4"})
    assert adapted.gradients + adapted.optimizer < 0.02 * (plain.gradients + plain.optimizer)
    assert four_bits.weights < 0.5 * adapted.weights
    # by hand: rank x (inputs + outputs) of q, k, v, o, gate, up, down
    ends = 2 * (1536 + 1536) + 2 * (1536 + 256) + 3 * (1536 + 8960)
    assert QWEN_1B.adapters(16) == 16 * 28 * ends
    assert memory(8192, gradient_checkpointing=True).activations < memory(8192).activations
    off = memory(zero_stage=2, offload="optimizer")
    assert (off.optimizer, off.host) == (0, 12 * N_1B)
    assert memory(zero_stage=3, offload="parameters").weights == 0


def test_time_follows_from_arithmetic() -> None:
    options = TrainingOptions(processes=2)
    assert estimate.seconds_of(989e12, 1, 28, options, 989e12) == pytest.approx(1 / (2 * estimate.ASSUMED_MFU))
    again = options.model_copy(update={"gradient_checkpointing": True})
    assert estimate.seconds_of(3.0, 0, 1, again, 1.0) == pytest.approx(
        4 / 3 * estimate.seconds_of(3.0, 0, 1, options, 1.0)
    )


def test_small_student_takes_as_long_as_its_kernels_are_launched() -> None:
    options = TrainingOptions(processes=2)
    assert estimate.seconds_of(1.0, 280, 30, options, 989e12) == pytest.approx(280 * 30 * estimate.LAUNCH_SECONDS)


def test_estimate_is_kept_and_what_cannot_fit_by_far_is_refused(
    make_job: Callable[..., Job], rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "visible_gpus", lambda: [H100, H100])
    job = make_job(rows(), dtype="bfloat16", max_steps=10)
    found = json.loads(job.preflight.read_text())["estimate"]
    assert (found["gpu"], found["visible_gpus"]) == (H100.name, 2)
    assert found["seconds"] >= 0
    assert found["total_flops"] > 0
    assert 1 < found["device_gib"] < 2
    from overproof.training.domain.batches import schedule_of
    from overproof.training.feasible import reckon

    within = job.model_copy(update={"n_parameters": 5_500_000_000})
    (warning,) = reckon(within, schedule_of(job.options, 40, 8))["warnings"]
    assert "GiB per GPU, and NVIDIA H100 80GB HBM3 has 80" in warning
    large = job.model_copy(update={"n_parameters": 70_000_000_000})
    with pytest.raises(RecipeError, match=r"about 1\d\d\d GiB per GPU, and NVIDIA H100") as caught:
        reckon(large, schedule_of(job.options, 40, 8))
    assert "smaller student" in caught.value.remedy or "fit with" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "rows_of_a_pass"),
    [
        ({"micro_batch_size": 8}, 8),
        ({"micro_batch_size": 8, "processes": 8, "global_batch_size": 32}, 4),  # a process' share is less
        ({"micro_batch_size": 7, "global_batch_size": 32}, 4),  # seven leave a rest
    ],
)
def test_memory_is_reckoned_for_the_rows_that_a_pass_holds(
    make_job: Callable[..., Job], rows: Callable[..., Any], options: dict[str, int], rows_of_a_pass: int
) -> None:
    found = json.loads(make_job(rows(), **options).preflight.read_text())
    assert found["batch"]["micro"] == rows_of_a_pass
    assert found["estimate"]["tokens_per_pass"] == rows_of_a_pass * found["train"]["longest_row_tokens"]


@pytest.mark.parametrize(
    ("options", "smaller"),
    [
        ({"micro_batch_tokens": 8192, "max_length": 4096}, "training.micro_batch_tokens: 4096"),
        ({"micro_batch_tokens": 4096, "max_length": 4096}, None),  # a row must fit
        ({"micro_batch_size": 8, "processes": 8, "global_batch_size": 32}, "training.micro_batch_size: 2"),
        ({"micro_batch_size": 1}, None),
    ],
)
def test_smaller_pass_is_a_remedy_where_there_is_one(options: dict[str, Any], smaller: str | None) -> None:
    found = estimate.remedies(QWEN_1B, N_1B, TrainingOptions(**options), 8192, 200_000_000, 2 * H100.bytes, fused=True)
    assert [one for one in found if one.startswith("training.micro")] == ([smaller] if smaller else [])


def test_remedies_are_those_that_fit() -> None:
    options = TrainingOptions(micro_batch_tokens=8192, zero_stage=1)
    found = estimate.remedies(SEVEN, N_7B, options, 8192, 200_000_000, H100.bytes, fused=True)
    assert "training.lora: {rank: 16}" in found
    assert "training.gradient_checkpointing: true" not in found


@pytest.mark.parametrize(
    ("options", "gpus", "says"),
    [
        ({"deepspeed": {"zero_optimization": {"overlap_com": True}}}, [], "zero_optimization.overlap_com"),
        (
            {"deepspeed": {"zero_optimization": {"reduce_bucket_size": "wide"}}},
            [],
            "zero_optimization.reduce_bucket_size",
        ),
        ({"deepspeed": {"compile": {"deep": True}}}, [], r"deepspeed\.compile\.deep"),
        ({"deepspeed": {"timers": {"throughput": {"on": True}}}}, [], r"deepspeed\.timers\.throughput\.on"),
        ({"lora": {"targets": ["w_q"]}}, [], "no linear layer w_q"),
        ({"lora": {"quantize": "nf4"}, "dtype": "bfloat16"}, [], "needs a GPU"),
        (
            {"processes": 2},
            [H100],
            r"processes is 2, but this worker sees 1 GPU\. Set it to 1 .*OVERPROOF_TRAINING_PROCESSES",
        ),
    ],
)
def test_what_this_machine_cannot_do_is_refused_before_rows_are_read(
    make_job: Callable[..., Job], rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any], gpus: list[Gpu], says: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(machine, "visible_gpus", lambda: gpus)
    checked = TrainingOptions(**{"dtype": "float32", "max_length": 128, **options})
    with pytest.raises(RecipeError, match=says):
        make_job(rows(), **{name: getattr(checked, name) for name in options})


def test_gpus_that_a_training_leaves_alone_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for n_visible, processes in ((4, 2), (2, 2), (0, 1)):
        job = SimpleNamespace(options=TrainingOptions(processes=processes))
        tell_unused(job, {"visible_gpus": n_visible})  # type: ignore[arg-type]
        tell_unused(job, None)  # type: ignore[arg-type]
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("the training uses 2 of the 4 GPUs that this worker sees; training.processes, or OVERPROOF_")


def test_values_left_to_the_library_pass() -> None:
    machine.check_deepspeed({"zero_optimization": {"stage3_prefetch_bucket_size": "auto", "overlap_comm": False}})


def test_end_token_that_was_never_trained_is_told(models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from overproof.training.adapters.embedding import is_untrained

    weights = load_file(models / "tiny" / "model.safetensors")
    assert not is_untrained(models / "tiny", 2)
    weights["model.embed_tokens.weight"][2] *= 1e-4
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert is_untrained(tmp_path, 2)
    assert not is_untrained(tmp_path, 3)
    (said,) = warnings_of("<|im_end|>", untrained_end=True, frozen=True, doubled=0, rows=3)
    assert "training.lora leaves it so" in said


def test_reasoning_opened_twice_is_told() -> None:
    pairs = [
        ("<|im_start|>assistant\n<think>\n", "<think>\nWe add"),
        ("assistant\n", "<think>\nWe add"),
        ("assistant\n<think>\n", "We"),
    ]
    assert doubled_openings(pairs) == 1
    assert "opens it again" in warnings_of("</s>", untrained_end=False, frozen=False, doubled=1, rows=3)[0]

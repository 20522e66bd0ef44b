"""What vLLM prints when it does not start → one sentence and the remedy. The texts are those of vLLM's, torch's and safetensors' sources."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from overproof.inference.adapters.vllm_failures import explained, failure, listening, reason_of
from overproof.shared.errors import EngineUnavailable, ModelError

LAST = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
BEFORE = "(EngineCore pid=2522) ERROR 11-24 08:23:01 [core.py:1120] "
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.98 GiB. GPU 0 has a total capacity of 79.18 GiB of "
    "which 1.21 GiB is free."
)
FREE = (
    "ValueError: Free memory on device cuda:0 (4.5/79.18 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 71.26 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)
NO_BLOCKS = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine."
NO_ROOM = (
    "ValueError: To serve at least one request with the model's max seq len (32768), (1.75 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (0.5 GiB). Based on the available memory, the estimated maximum model length is 9362."
)
TOO_LONG = (
    "ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=32768 "
    "or model_max_length=None in model's config.json)."
)
NO_WEIGHTS = "RuntimeError: Cannot find any model weights with `/models/qwen`"
NOT_ALL = "ValueError: Following weights were not initialized from checkpoint: {'model.layers.3.mlp.down_proj.weight'}"
CUT = "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered"
ARCHITECTURE = "ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: dict_keys(['AquilaModel'])"
UNKNOWN_TYPE = "ValueError: The checkpoint you are trying to load has model type `foo` but Transformers does not recognize this architecture."


@pytest.mark.parametrize(
    ("printed", "said", "remedy"),
    [
        (OOM, "CUDA out of memory", "Lower engine.gpu_memory_utilization"),
        (NO_BLOCKS, "No available memory for the cache blocks", "Raise engine.gpu_memory_utilization"),
        (NO_ROOM, "max seq len (32768)", "lower engine.max_model_len"),
        (TOO_LONG, "max_model_len (65536)", "Lower engine.max_model_len to what the model was made for"),
        (NO_WEIGHTS, "Cannot find any model weights", "Restore the checkpoint's files."),
        (NOT_ALL, "weights were not initialized", "Restore the checkpoint's files."),
        (CUT, "file not fully covered", "Restore the checkpoint's files."),
        (ARCHITECTURE, "['FooForCausalLM'] are not supported", "Name a model that this version of vLLM serves"),
        (UNKNOWN_TYPE, "model type `foo`", "Name a model that this version of vLLM serves"),
    ],
)
def test_engine_process_that_prints_its_reason(printed: str, said: str, remedy: str) -> None:
    found = failure("qwen", LAST, ["INFO loading", BEFORE + printed, BEFORE + f"RuntimeError: {LAST}", "bye"])
    assert isinstance(found, ModelError)
    assert said in found.message
    assert "vLLM does not load qwen: " in found.message
    assert "\n" not in found.message
    assert remedy in found.remedy


def test_memory_that_another_program_took_first_is_waited_for_again() -> None:
    found = failure("qwen", LAST, [BEFORE + FREE])
    assert isinstance(found, EngineUnavailable)
    assert "Free memory on device cuda:0 (4.5/79.18 GiB)" in found.message
    assert "end what else uses the device" in found.remedy


def test_reason_that_may_pass_is_tried_again() -> None:
    found = failure("qwen", LAST, [BEFORE + "RuntimeError: NCCL error: unhandled system error"])
    assert isinstance(found, EngineUnavailable)
    assert "NCCL error" in found.message
    assert found.retryable


def test_last_words_that_are_no_error_leave_the_error_itself() -> None:
    assert (
        reason_of(ValueError("bad\nsecond line"), ["INFO all is well", "Traceback (most recent call last):"]) == "bad"
    )


def test_colours_and_long_lists_are_cut_away() -> None:
    reason = reason_of(LAST, [f"\x1b[0;36m(EngineCore pid=1)\x1b[0;0m ValueError: {'x' * 1_000}"])
    assert reason == "x" * 300


def test_reason_of_a_refused_argument_is_its_own_sentence() -> None:
    from pydantic import BaseModel, ValidationError, field_validator

    class Config(BaseModel):
        heads: int

        @field_validator("heads")
        @classmethod
        def _check(cls, value: int) -> int:
            raise ValueError(
                f"Total number of attention heads ({value}) must be divisible by tensor parallel size (4)."
            )

    with pytest.raises(ValidationError) as caught:
        Config(heads=14)
    assert (
        explained(caught.value) == "Total number of attention heads (14) must be divisible by tensor parallel size (4)."
    )


def test_listening_hears_children_after_it_has_ended(capfd: pytest.CaptureFixture[str]) -> None:
    with listening() as heard:
        os.write(1, b"during\n")
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read(); print('after', flush=True)"], stdin=subprocess.PIPE
        )
    os.write(1, b"not heard\n")
    child.communicate(b"")
    deadline = time.monotonic() + 10
    while "after" not in heard and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(heard) == ["during", "after"]
    written = capfd.readouterr()
    assert "not heard" in written.out
    assert "after" in written.err

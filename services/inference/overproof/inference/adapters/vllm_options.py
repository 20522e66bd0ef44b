"""Which arguments of vLLM a recipe may set, and what they become."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import types
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import vllm
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from vllm.config import VllmConfig
from vllm.engine import arg_utils
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

from overproof.inference.adapters.vllm_failures import explained
from overproof.shared.errors import ModelError
from overproof.shared.recipe import EngineOptions

SAFE_LOAD_FORMATS = {"auto", "safetensors", "dummy"}
"""A checkpoint has safetensors (that is checked before), so `auto` never reaches for pickles; `dummy` is for benchmarks."""
OURS = {"model", "tokenizer", "dtype", "max_model_len", "tensor_parallel_size", "gpu_memory_utilization", "seed"}
"""Engine arguments that follow from the recipe's other fields."""
UNSAFE = {
    "trust_remote_code", "code_revision", "logits_processors", "hf_overrides", "hf_config_path", "tokenizer_mode",
    "tokenizer_revision", "download_dir", "generation_config", "override_generation_config", "kv_transfer_config",
}  # fmt: skip
"""Arguments that load code, or other files than the checkpoint's."""
MORE_GPUS = {
    "data_parallel": "Remove it, and start one inference worker per GPU instead (CUDA_VISIBLE_DEVICES): they share the queue.",
    "pipeline_parallel": "Remove it, and spread the model with engine.tensor_parallel_size.",
    "prefill_context_parallel": "Remove it, and spread the model with engine.tensor_parallel_size.",
    "nnodes": "Remove it, and start inference workers on each node instead: they share the queue.",
}
"""Beginnings of arguments that take more GPUs than `tensor_parallel_size`, and the remedy: a worker waits for room on so many, and no others."""
AS_JSON = {"speculative_config", "compilation_config", "limit_mm_per_prompt"}
"""Arguments that are objects; a recipe writes them as one line of JSON."""
UNSAFE_KEYS = {
    "model",
    "tokenizer",
    "code_revision",
    "custom_ops_path",
    "backend",
    "inductor_passes",
    "debug_dump_path",
}
"""Of such an object: what would load other files, or code. Speculation is by n-grams, which need no second model."""

GRAPH_STEP = 64
"""Sequences between two recorded batch sizes above vLLM's own: a batch in between is padded to the next one."""


def validate(options: EngineOptions) -> None:
    """Raises ModelError that names an argument vLLM does not have, or that a recipe may not set."""
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    for name, value in options.options.items():
        if name in OURS:
            raise ModelError(f"engine.options.{name} is a field of its own.", _own_field(name))
        if name in UNSAFE or name.endswith("_cls"):
            raise ModelError(f"engine.options.{name} could run code or read other files.", "Remove it.")
        if remedy := next((MORE_GPUS[one] for one in MORE_GPUS if name.startswith(one)), None):
            raise ModelError(f"engine.options.{name} takes other GPUs than engine.tensor_parallel_size says.", remedy)
        if name not in known:
            raise ModelError(f"vLLM has no engine argument {name}.", "Mend engine.options, or remove it.")
        if name == "load_format" and value not in SAFE_LOAD_FORMATS:
            raise ModelError(
                f"load_format {value} is not allowed.", f"Use one of {', '.join(sorted(SAFE_LOAD_FORMATS))}."
            )
        _check_type(name, _object(name, value) if name in AS_JSON else value)


def arguments(folder: Path, options: EngineOptions) -> AsyncEngineArgs:
    """vLLM's arguments for one checkpoint. Raises ModelError as `validate` does."""
    ours = {"enable_prefix_caching": True, "enable_log_requests": False} | further_arguments(options)
    return AsyncEngineArgs(
        model=str(folder),
        served_model_name=folder.name,
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        tensor_parallel_size=options.tensor_parallel_size,
        gpu_memory_utilization=options.gpu_memory_utilization,
        trust_remote_code=False,
        seed=0,
        **ours,
    )


def further_arguments(options: EngineOptions) -> dict[str, Any]:
    """`engine.options` as vLLM takes them: objects out of their JSON."""
    return {name: _object(name, value) if name in AS_JSON else value for name, value in options.options.items()}


def configuration(folder: Path, options: EngineOptions) -> VllmConfig:
    """vLLM's own configuration of one engine, with the sizes of batches that it takes for offline work; nothing is loaded.

    Raises ModelError with vLLM's sentence for arguments that do not go with the checkpoint or this machine.
    """
    asked = arguments(folder, options)
    try:
        sizes = graph_sizes(folder, options)
        if sizes is not None:
            asked.cudagraph_capture_sizes = sizes
        return asked.create_engine_config(UsageContext.LLM_CLASS)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise ModelError(
            f"vLLM does not take {folder.name}: {explained(error)}", "Mend engine, or name another model."
        ) from error


def said_of(config: Any) -> str:
    """One line for the log: which of vLLM's two model runners draws, and whether it speculates. The first one calls a random generator
    per sample that has a seed, which is slow for many; it is taken where the second cannot do what is asked (suffix speculation,
    say) or is switched off."""
    switch = os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1"  # older releases know the variable alone
    runner = "second" if getattr(config, "use_v2_model_runner", switch) else "first (seeds per sample are slow in it)"
    speculation = getattr(config, "speculative_config", None)
    return f"vLLM {vllm.__version__}, its {runner} model runner, speculation: {speculation.method if speculation else 'none'}"


def graph_sizes(folder: Path, options: EngineOptions) -> list[int] | None:
    """Batch sizes to record CUDA graphs for, up to `max_num_seqs`; None: vLLM's own reach that far, or the recipe chose.

    vLLM records graphs for 512 sequences at most unless told otherwise, and launches the kernels of a larger batch one by
    one: where launching is the slower part, that costs more than the larger batch gains (docs/benchmarks.md).
    """
    asked = arguments(folder, options)
    theirs = asked.compilation_config
    chosen = (
        asked.cudagraph_capture_sizes, asked.max_cudagraph_capture_size,
        theirs.cudagraph_capture_sizes, theirs.max_cudagraph_capture_size,
    )  # fmt: skip
    if asked.speculative_config or any(chosen):  # with speculation a batch has several tokens per sequence
        return None
    config = asked.create_engine_config(UsageContext.LLM_CLASS)
    return wider(config.compilation_config.cudagraph_capture_sizes or [], config.scheduler_config.max_num_seqs)


def wider(sizes: list[int], most: int) -> list[int] | None:
    """Sizes of batches in ascending order, gone on with up to `most`; None: there are none (no graphs at all), or enough."""
    if not sizes or sizes[-1] >= most:
        return None
    return [*sizes, *range(sizes[-1] + GRAPH_STEP, most, GRAPH_STEP), most]


def _check_type(name: str, value: object) -> None:
    """Against vLLM's own annotation. What it checks only together with a model and a device is left to it."""
    kind = _annotations().get(name)
    if kind is None:
        return
    try:
        kind.validate_python(value, strict=not isinstance(value, dict))
    except ValidationError as error:
        found = error.errors()[0]
        if found["type"] == "is_instance_of":  # an enum of vLLM's, which it reads from text
            return
        where = ".".join(str(part) for part in (name, *found["loc"]) if "[" not in str(part))
        raise ModelError(
            f"engine.options.{where} is {value!r}: {_sentence(found['msg'])}", "Mend engine.options, or remove it."
        ) from None


@cache
def _annotations() -> dict[str, TypeAdapter[Any]]:
    """A check for each of vLLM's arguments, but for the few whose type names only its own modules know."""
    found: dict[str, TypeAdapter[Any]] = {}
    for field in dataclasses.fields(AsyncEngineArgs):
        with contextlib.suppress(NameError, PydanticUserError):
            alone = types.SimpleNamespace(__annotations__={field.name: field.type})
            hints = get_type_hints(alone, globalns=vars(arg_utils), include_extras=True)
            found[field.name] = TypeAdapter(hints[field.name])
    return found


def _sentence(message: str) -> str:
    """Pydantic's `Input should be a valid integer`, as a part of ours."""
    return message.removeprefix("Value error, ").replace("Input should be", "it should be", 1).rstrip(".") + "."


def _object(name: str, value: object) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"engine.options.{name} is no JSON object.", """Write e.g. '{"method": "ngram"}'.""")
    for key in sorted(UNSAFE_KEYS & found.keys()):
        raise ModelError(f"engine.options.{name} sets {key}, which could run code or read other files.", "Remove it.")
    return found


def _own_field(name: str) -> str:
    return (
        "The seed stands in sampling.seed." if name == "seed" else f"Set it in engine.{name}, or by naming the model."
    )

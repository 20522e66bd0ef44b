"""Which adapter an engine block of a recipe means. The heavy library of an adapter is imported only when it is used."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import NamedTuple

from overproof.inference.ports import Engine
from overproof.inference.settings import InferenceSettings
from overproof.shared.errors import ModelError
from overproof.shared.recipe import EngineOptions


def open_engine(folder: Path, options: EngineOptions, settings: InferenceSettings, *, served: str = "") -> Engine:
    """Load the checkpoint, or reach the model that a server knows as `served`.

    Raises ModelError or EngineUnavailable, as the adapter does.
    """
    validate(options)
    if options.kind == "openai":
        from overproof.inference.adapters.openai_engine import OpenaiEngine

        return OpenaiEngine(served, options, settings)
    if options.kind == "canned":
        from overproof.inference.adapters.canned_engine import CannedEngine

        return CannedEngine()
    if options.kind == "vllm":
        from overproof.inference.adapters.vllm_engine import VllmEngine

        return VllmEngine(folder, options)
    from overproof.inference.adapters.transformers_engine import TransformersEngine

    return TransformersEngine(folder, options, torch_threads=settings.torch_threads, cache_share=settings.cache_share)


class Listed(NamedTuple):
    """What a server says of a model before it is asked anything."""

    listed: bool
    """False: it does not tell which models it has."""
    context: int | None


def look_at_server(model: str, settings: InferenceSettings) -> Listed:
    """Raises ModelError when the server does not answer, refuses the key, or does not have the model."""
    from overproof.inference.adapters.openai_server import Server

    found = Server(settings).look(model)
    return Listed(found is not None, found.context if found else None)


LIBRARIES = {
    "transformers": ("overproof.inference.adapters.transformers_engine", "transformers.modeling_utils"),
    "vllm": ("overproof.inference.adapters.vllm_engine", "vllm.v1.engine.async_llm"),
}
"""What an engine imports on its first load, by kind."""


def preload(kind: str) -> None:
    """Import an engine's library. One that is not installed is told of when a shard asks for it, not here."""
    with contextlib.suppress(ImportError):
        for name in LIBRARIES[kind]:
            importlib.import_module(name)


def validate(options: EngineOptions) -> None:
    """Raises ModelError when the engine is not installed or does not know an option; loads no model."""
    try:
        if options.kind == "vllm":
            from overproof.inference.adapters import vllm_engine

            vllm_engine.validate(options)
        elif options.kind == "transformers":
            from overproof.inference.adapters import transformers_engine

            transformers_engine.validate(options)
        elif options.kind == "openai":
            from overproof.inference.adapters import openai_engine

            openai_engine.validate(options)
    except ImportError as error:
        raise ModelError(
            f"The {options.kind} engine is not installed on this worker ({error.name} is missing).",
            f"Install overproof-inference[{options.kind}], or choose another engine.kind.",
        ) from None


def takes_gpu_at_once(options: EngineOptions) -> bool:
    """Whether the engine wants `gpu_memory_utilization` of its GPUs free before it starts. Raises ModelError as `validate` does."""
    if options.kind != "vllm":
        return False
    validate(options)
    from vllm.platforms import current_platform

    return not current_platform.is_cpu()


def rehearse(folder: Path, options: EngineOptions) -> None:
    """Raises ModelError when the engine would refuse this checkpoint with these options on this machine (a tensor parallel size that does
    not divide the heads, or more GPUs than there are; an architecture or quantisation that it does not have); loads no weight."""
    if options.kind == "vllm":
        from overproof.inference.adapters.vllm_options import configuration

        configuration(folder, options)

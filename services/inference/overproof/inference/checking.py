"""Can this model be sampled with this prompt? Looks at files and prompts only; no weights are read, no GPU is touched."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from overproof.inference.adapters.chat import Chat, PromptError
from overproof.inference.adapters.engines import look_at_server, rehearse, validate
from overproof.inference.settings import InferenceSettings
from overproof.shared import gpu_memory
from overproof.shared.errors import ArtifactMissing, ModelError
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import CheckModelSpec
from overproof.shared.tables import PROBLEMS, rows_of
from overproof.shared.work import Work

ALL_UP_TO = 20_000
"""Of more problems than this, every n-th is encoded (about 0.2 ms each), and the ones with most characters."""
LONGEST = 200
"""How many of those."""


class Prompts(NamedTuple):
    """Lengths of the prompts looked at, in tokens."""

    n: int
    longest: int
    longest_source: str
    mean: float


def check(work: Work[CheckModelSpec], folder: Path | None, settings: InferenceSettings) -> dict[str, Any]:
    """What `check.json` says. `folder`: the model's, None for an engine that reads none.

    Raises ModelError when the model or an option cannot be used, the worker has too few GPUs for it, the template fails, the longest
    prompt leaves no room, or the model's server does not have it.
    """
    spec = work.spec
    validate(spec.engine)
    _require_gpus(spec.engine)
    if spec.engine.kind == "openai":
        return _served(spec, settings)
    if folder is None:
        return {"model": spec.model.name, "engine": spec.engine.kind, "fits": True}
    chat = Chat(folder, spec.engine.max_model_len)
    prompts = _measured(work, chat)
    _require_room(spec, chat, prompts)
    rehearse(folder, spec.engine)
    return {
        "model": spec.model.name,
        "engine": spec.engine.kind,
        "problems": prompts.n,
        "max_prompt_tokens": prompts.longest,
        "mean_prompt_tokens": prompts.mean,
        "longest_prompt": prompts.longest_source,
        "max_tokens": spec.max_tokens,
        "context": chat.context,
        "has_pad_token": chat.tokenizer.pad_token_id is not None,
        "fits": True,
    }


def _require_gpus(engine: EngineOptions) -> None:
    """Of the worker that checks: the others of its machine have as many. Where none can be counted vLLM says it when it starts."""
    n_visible = len(gpu_memory.visible(os.environ.get("CUDA_VISIBLE_DEVICES")))
    if engine.kind == "vllm" and 0 < n_visible < engine.tensor_parallel_size:
        raise ModelError(
            f"engine.tensor_parallel_size is {engine.tensor_parallel_size}, and this inference worker has {n_visible} "
            f"GPU{'s'[: n_visible > 1]}.",
            'Lower it, or give workers more GPUs each: OVERPROOF_INFERENCE_GPUS="0,1;2,3" is two workers of two '
            "(INFERENCE_GPUS of compose).",
        )


def _served(spec: CheckModelSpec, settings: InferenceSettings) -> dict[str, Any]:
    """The server alone knows the template and the tokens of a prompt: one that is too long becomes a row with the reason."""
    listed, context = look_at_server(spec.model.location, settings)
    if context is not None and context <= spec.max_tokens:
        raise ModelError(
            f"{spec.model.name} is served with a context of {context} tokens, too few for max_tokens {spec.max_tokens} and a prompt.",
            "Lower max_tokens, or start the server with a longer context.",
        )
    return {
        "model": spec.model.name,
        "engine": spec.engine.kind,
        "listed": listed,
        "max_tokens": spec.max_tokens,
        "context": context,
        "fits": True,
    }


def _measured(work: Work[CheckModelSpec], chat: Chat) -> Prompts:
    lengths: list[int] = []
    longest, longest_source = 0, ""
    for row in _looked_at(work):
        n_tokens = _length(work.spec, chat, row)
        lengths.append(n_tokens)
        if n_tokens > longest:
            longest, longest_source = n_tokens, str(row["source"])
    if not lengths:
        raise ModelError(f"{work.spec.problems} holds no problems.", "Give the data set some rows.")
    return Prompts(len(lengths), longest, longest_source, sum(lengths) / len(lengths))


def _length(spec: CheckModelSpec, chat: Chat, row: dict[str, object]) -> int:
    try:
        return len(chat.encode(spec.prompt.messages(str(row["problem"]))))
    except PromptError as error:
        raise ModelError(
            f"{spec.model.name} cannot be asked {row['source']}: {error}",
            "Change prompt.system or prompt.few_shot, or mend the model's chat template.",
        ) from error


def _require_room(spec: CheckModelSpec, chat: Chat, prompts: Prompts) -> None:
    room = chat.room(prompts.longest)
    if room is None or room >= spec.max_tokens:
        return
    remedy = "Leave that problem out, or name a model with a longer context."
    if room > 0:
        remedy = f"Set max_tokens to {room} or less, leave that problem out, or name a model with a longer context."
    raise ModelError(
        f"{spec.model.name} has a context of {chat.context} tokens: the prompt of {prompts.longest_source} takes "
        f"{prompts.longest} and leaves no room for max_tokens {spec.max_tokens}.",
        remedy,
    )


def _looked_at(work: Work[CheckModelSpec]) -> Iterator[dict[str, object]]:
    """Every problem, or every n-th and the longest."""
    manifest = work.artifacts.manifest(work.spec.problems)
    if manifest is None:
        raise ArtifactMissing(f"{work.spec.problems} is not complete.", "It will be made again.")
    every = -(-manifest.rows // ALL_UP_TO) or 1
    rows = rows_of(work.read(work.spec.problems, PROBLEMS, columns=["problem", "source"]))
    if every == 1:
        return rows
    return _thinned(rows, every)


def _thinned(rows: Iterable[dict[str, object]], every: int) -> Iterator[dict[str, object]]:
    longest: list[tuple[int, int, dict[str, object]]] = []
    for number, row in enumerate(rows):
        entry = (len(str(row["problem"])), -number, row)
        if len(longest) < LONGEST:
            heapq.heappush(longest, entry)
        else:
            heapq.heappushpop(longest, entry)
        if number % every == 0:
            yield row
    yield from chain(row for _, _, row in longest)

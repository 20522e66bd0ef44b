"""Lets the student under training write: greedily, in batches, with the weights as they are at this step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from overproof.training.adapters import attention

TOKENS_AT_ONCE = 65_536
"""Prompt + completion tokens of a batch: some 4 GB of keys and values in a model of seven billion weights."""


def write(
    model: Any, prompts: Sequence[Sequence[int]], stops: Sequence[int], max_tokens: int, device: torch.device
) -> list[list[int]]:
    """The likeliest completion of each prompt, as tokens up to and with the one that ends it, at most `max_tokens`.

    Draws nothing at random and leaves the model as it found it. With ZeRO 3 every process must call this equally often.
    """
    if not prompts:
        return []
    longest = max(len(prompt) for prompt in prompts)
    at_once = max(1, TOKENS_AT_ONCE // (longest + max_tokens))
    found: list[list[int]] = []
    with _as_loaded(model) as plain:
        for start in range(0, len(prompts), at_once):
            found += _batch(plain, prompts[start : start + at_once], stops, max_tokens, device)
    return found


def _batch(
    model: Any, prompts: Sequence[Sequence[int]], stops: Sequence[int], max_tokens: int, device: torch.device
) -> list[list[int]]:
    width = max(len(prompt) for prompt in prompts)
    padding = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor([[stops[0]] * n + list(prompt) for n, prompt in zip(padding, prompts, strict=True)])
    mask = torch.tensor([[0] * n + [1] * (width - n) for n in padding])
    config = GenerationConfig(
        do_sample=False, max_new_tokens=max_tokens, eos_token_id=list(stops), pad_token_id=stops[0], use_cache=True
    )
    output = model.generate(
        input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config
    )  # with ZeRO 3 it goes on until every process is done, since each layer's weights come from all of them
    return [_until_stop(tokens, stops) for tokens in output[:, width:].tolist()]


def _until_stop(tokens: list[int], stops: Sequence[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in stops), None)
    return tokens if end is None else tokens[: end + 1]


@contextmanager
def _as_loaded(model: Any) -> Iterator[Any]:
    """The model as the library made it: logits instead of a loss, attention that knows padding, no generation habits of its own.

    What training put in their place (`lean`, `attention`) lies in the instances, and comes back afterwards.
    """
    inner = (
        model.get_base_model() if hasattr(model, "get_base_model") else model
    )  # below adapters, which stay in its layers
    replaced = [
        (one, one.__dict__.pop("forward")) for one in (inner, inner.get_output_embeddings()) if "forward" in vars(one)
    ]
    packed = inner.config._attn_implementation == attention.NAME
    was_training, habits = model.training, inner.generation_config
    if packed:
        inner.set_attn_implementation("sdpa")
    inner.generation_config = GenerationConfig()  # a repetition penalty of the base would be taken over from there
    model.eval()
    try:
        yield inner
    finally:
        model.train(was_training)
        inner.generation_config = habits
        if packed:
            inner.set_attn_implementation(attention.NAME)
        for one, forward in replaced:
            one.forward = forward

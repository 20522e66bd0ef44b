"""Sequences that a Transformers model extends together, one token at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch

from overproof.inference.adapters.slots import Chosen, empty_cache, joined
from overproof.shared.topology import FinishReason


@dataclasses.dataclass(slots=True)
class Row:
    """One completion under way."""

    number: int
    draw: int
    seed: int
    prompt: list[int]
    limit: int
    """Most tokens to generate."""
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprob: float = 0.0
    finish_reason: FinishReason | None = None

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are in the cache: all but the last generated one."""
        return len(self.prompt) + max(0, len(self.tokens) - 1)

    def restart(self) -> None:
        """Forget what was generated."""
        self.tokens, self.logprob = [], 0.0


class Batch:
    """Rows, and their keys and values aligned at the last token. Finished rows keep their place until the next rebuilding."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.n_layers: int = model.config.get_text_config().num_hidden_layers
        self.rows: list[Row] = []
        self._cache = empty_cache(self.n_layers)
        self._starts = torch.zeros(0, 1, dtype=torch.long, device=device)

    def running(self) -> list[int]:
        """Indices of the rows that are not finished."""
        return [index for index, row in enumerate(self.rows) if row.finish_reason is None]

    def clear(self) -> None:
        """Drop all rows and the memory."""
        self.rows, self._cache = [], empty_cache(self.n_layers)

    def admit(self, fresh: list[Row]) -> torch.Tensor:
        """Put new rows in place of finished ones; returns their next logits (new rows, vocabulary).

        Neighbours with the same prompt share one reading of it.
        """
        prompts = {row.number: row.prompt for row in fresh}
        places = {number: place for place, number in enumerate(prompts)}
        cache = empty_cache(self.n_layers)
        logits = self._read(list(prompts.values()), cache)
        read = Chosen(cache, [places[row.number] for row in fresh])
        free = [place for place, row in enumerate(self.rows) if row.finish_reason]
        if len(fresh) <= len(free) and cache.get_seq_length() <= self._cache.get_seq_length():
            self._replace(free[: len(fresh)], fresh, read)
        else:
            self._rebuild(fresh, read)
        return logits[torch.tensor(read.rows, device=self.device)]

    def compact(self) -> None:
        """Give up the places of finished rows and the columns that no row needs any more."""
        if self.running():
            self._rebuild([], Chosen(self._cache, []))
        else:
            self.clear()

    def step(self) -> torch.Tensor:
        """Read each row's last token; returns the next logits (rows, vocabulary). Those of finished rows mean nothing."""
        if not self._cache.layers[0].spare:
            self._rebuild([], Chosen(self._cache, []))
        columns = torch.arange(self._cache.get_seq_length() + 1, device=self.device)
        return self._forward(
            input_ids=self._column(row.tokens[-1] for row in self.rows),
            attention_mask=(columns >= self._starts).long(),
            position_ids=self._column(row.cached for row in self.rows),
            past_key_values=self._cache,
        )

    def _replace(self, places: list[int], fresh: list[Row], read: Chosen) -> None:
        where = torch.tensor(places, device=self.device)
        rows = torch.tensor(read.rows, device=self.device)
        for layer, source in zip(self._cache.layers, read.cache.layers, strict=True):
            layer.put(where, source, rows)
        columns = self._cache.get_seq_length()
        for place, row in zip(places, fresh, strict=True):
            self.rows[place] = row
            self._starts[place] = columns - row.cached

    def _read(self, prompts: list[list[int]], cache: Any) -> torch.Tensor:
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=self.device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return self._forward(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        )

    def _forward(self, **inputs: Any) -> torch.Tensor:
        logits: torch.Tensor = self.model(**inputs, use_cache=True).logits
        return logits[:, -1]

    def _rebuild(self, fresh: list[Row], read: Chosen) -> None:
        kept = self.running()
        rows = [*(self.rows[index] for index in kept), *fresh]
        columns = max(row.cached for row in rows)
        self._cache = joined([Chosen(self._cache, kept), read], columns)
        self._starts = self._column(columns - row.cached for row in rows)
        self.rows = rows

    def _column(self, values: Iterable[int]) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=self.device)[:, None]

"""A key-value cache whose rows come and go: sequences of different age in one batch, aligned at their last token.

Keys carry their positions (rotary embeddings are applied before they are stored), so a row may be moved sideways freely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicLayer

SPARE_COLUMNS = 64
"""Tokens that are appended in place; `DynamicLayer` itself copies the whole cache for each token."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """A cache layer with spare columns behind its last token."""

    def __init__(self) -> None:
        super().__init__()
        self._wide: tuple[torch.Tensor, ...] = ()

    @property
    def spare(self) -> int:
        """Columns that are still free."""
        return self._wide[0].shape[-2] - self.get_seq_length() if self._wide else 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, tokens, size) and return all keys and values. Only the first call may bring what does not fit."""
        if not self.is_initialized:
            self.adopt(key_states, value_states, key_states.shape[-2])
            return key_states, value_states
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        for wide, new in zip(self._wide, (key_states, value_states), strict=True):
            wide[:, :, begin:end] = new
        self._show(end)
        return self.keys, self.values

    def adopt(self, keys: torch.Tensor, values: torch.Tensor, columns: int) -> None:
        """Take tensors of which the first `columns` are filled and the others spare."""
        self.lazy_initialization(keys, values)
        self._wide = (keys, values)
        self._show(columns)

    def put(self, places: torch.Tensor, source: RoomyLayer, rows: torch.Tensor) -> None:
        """Overwrite the ends of the rows `places` with rows of another layer that is no longer than this one."""
        width = source.get_seq_length()
        self.keys[places, :, -width:] = source.keys[rows]
        self.values[places, :, -width:] = source.values[rows]

    def _show(self, columns: int) -> None:
        self.keys, self.values = (wide[:, :, :columns] for wide in self._wide)


def empty_cache(n_layers: int) -> Cache:
    """A cache without rows."""
    return Cache(layers=[RoomyLayer() for _ in range(n_layers)])


class Chosen(NamedTuple):
    """Rows of a cache, by index and possibly repeated."""

    cache: Cache
    rows: Sequence[int]


def joined(parts: Sequence[Chosen], columns: int) -> Cache:
    """A new cache of the chosen rows, in order, each with its last `columns` tokens (fewer: empty columns before them)."""
    parts = [part for part in parts if part.rows]
    new = empty_cache(len(parts[0].cache.layers))
    for index, layer in enumerate(new.layers):
        keys = [(part.cache.layers[index].keys, part.rows) for part in parts]
        values = [(part.cache.layers[index].values, part.rows) for part in parts]
        layer.adopt(_stacked(keys, columns), _stacked(values, columns), columns)
    return new


def _stacked(parts: list[tuple[torch.Tensor, Sequence[int]]], columns: int) -> torch.Tensor:
    first = parts[0][0]
    total = sum(len(rows) for _, rows in parts)
    whole = first.new_zeros(total, first.shape[1], columns + SPARE_COLUMNS, first.shape[3])
    begin = 0
    for states, rows in parts:
        kept = states[:, :, -columns:]
        place = whole[begin : begin + len(rows), :, columns - kept.shape[2] : columns]
        place.copy_(kept[torch.tensor(rows, device=kept.device)])
        begin += len(rows)
    return whole

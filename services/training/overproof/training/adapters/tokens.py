"""Tokenised rows on disk: written once in a stream, mapped into memory by every rank."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from overproof.training.domain.preflight import Encoded


class TokenWriter:
    """`<name>.tokens` (int32 ids, row after row) and `<name>.rows.npy` (prompt and total tokens of each row)."""

    def __init__(self, folder: Path, name: str) -> None:
        self._rows_path = folder / f"{name}.rows.npy"
        self._file = (folder / f"{name}.tokens").open("wb")
        self._rows = array("i")

    def __enter__(self) -> Self:
        return self

    def add(self, row: Encoded) -> None:
        self._file.write(array("i", row.prompt + row.completion).tobytes())
        self._rows.extend((len(row.prompt), row.n_tokens))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file as tokens, self._rows_path.open("wb") as rows:
            np.save(rows, np.array(self._rows, dtype=np.int32).reshape(-1, 2), allow_pickle=False)
            for file in (tokens, rows):  # on the disk before the marker that says so
                file.flush()
                os.fsync(file.fileno())


class TokenRows:
    """A data set: row i is {"ids": int32 array, "n_prompt": tokens that are not in the loss}."""

    def __init__(self, folder: Path, name: str) -> None:
        rows: Any = np.load(folder / f"{name}.rows.npy", allow_pickle=False)
        self._n_prompt = rows[:, 0]
        self.prompts: list[int] = rows[:, 0].tolist()
        self.lengths: list[int] = rows[:, 1].tolist()
        self._starts = np.concatenate([[0], np.cumsum(rows[:, 1], dtype=np.int64)])
        self._tokens: Any = (
            np.memmap(folder / f"{name}.tokens", dtype=np.int32, mode="r") if self.lengths else np.empty(0, np.int32)
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {
            "ids": self._tokens[self._starts[row] : self._starts[row + 1]],
            "n_prompt": int(self._n_prompt[row]),
        }

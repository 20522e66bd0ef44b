"""Completions as rows of the table, in the problems' order, and what is counted on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from overproof.inference.ports import Completion
from overproof.shared.errors import ModelError
from overproof.shared.topology import FinishReason


class Sampled(NamedTuple):
    """A completion and what was asked."""

    problem_id: str
    sample: int
    seed: int
    completion: Completion


@dataclasses.dataclass
class Tally:
    """Figures of one shard, for its receipt."""

    completions: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    """Counted once per completion, as an engine without a prefix cache would read them."""
    think_tokens: int = 0
    truncated: int = 0
    errors: int = 0
    problems: int = 0
    skipped: int = 0
    """Problems that already had enough correct completions."""
    first_error: str = ""

    def add(self, completion: Completion) -> None:
        """Count one completion."""
        self.completions += 1
        self.tokens += completion.n_tokens
        self.prompt_tokens += completion.prompt_tokens
        self.think_tokens += completion.think_tokens
        self.truncated += completion.finish_reason == FinishReason.LENGTH
        if completion.finish_reason == FinishReason.ERROR:
            self.errors += 1
            self.first_error = self.first_error or completion.text

    def notes(self) -> dict[str, int]:
        """The summable figures, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if isinstance(value, int)}

    def require(self, min_success_ratio: float) -> None:
        """Raises ModelError when a smaller share of the completions than this succeeded."""
        answered = self.completions - self.errors
        if answered < min_success_ratio * self.completions:
            raise ModelError(
                f"{self.errors} of {self.completions} completions of this shard failed; the first: {self.first_error}",
                f"Mend the prompts or the model, or lower engine.min_success_ratio ({min_success_ratio:g}).",
            )


def in_order(completions: Iterable[Completion], draws: Callable[[int], int]) -> Iterator[Completion]:
    """Completions by request and draw, each held back only until those before it are there.

    Expects `draws(number)` completions for each of the requests 0, 1, 2, ...; it is asked of a request that has one.
    """
    waiting: dict[tuple[int, int], Completion] = {}
    number = draw = 0
    for completion in completions:
        waiting[completion.number, completion.draw] = completion
        while (number, draw) in waiting:
            following = (number, draw + 1) if draw + 1 < draws(number) else (number + 1, 0)
            yield waiting.pop((number, draw))
            number, draw = following


def columns(rows: list[Sampled], constants: Mapping[str, object]) -> dict[str, list[object]]:
    """The columns of COMPLETIONS; `constants` gives round, role, model and spec."""
    found: dict[str, list[object]] = {
        "problem_id": [row.problem_id for row in rows],
        "sample": [row.sample for row in rows],
        "text": [row.completion.text for row in rows],
        "n_tokens": [row.completion.n_tokens for row in rows],
        "finish_reason": [str(row.completion.finish_reason) for row in rows],
        "prompt_tokens": [row.completion.prompt_tokens for row in rows],
        "mean_logprob": [row.completion.mean_logprob for row in rows],
        "seed": [row.seed for row in rows],
    }
    return found | {name: [value] * len(rows) for name, value in constants.items()}

"""What the service needs from an engine. Adapters: Transformers (any machine), vLLM (GPUs), canned (no model)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason


class Request(NamedTuple):
    """One prompt and the seeds of the completions wanted for it."""

    number: int
    """The caller's number for the prompt; comes back with each completion."""
    turns: Sequence[Mapping[str, str]]
    """Chat turns (`role`, `content`) up to the model's answer."""
    seeds: tuple[int, ...]
    """One completion each, 0 <= seed < 2**63."""


class Completion(NamedTuple):
    """One finished completion; `finish_reason` error: the prompt could not be answered and `text` says why."""

    number: int
    """Of the request."""
    draw: int
    """Which of the request's seeds, from 0."""
    text: str
    n_tokens: int
    """Generated tokens with the end-of-sequence token, as the engine counted them."""
    prompt_tokens: int
    finish_reason: FinishReason
    mean_logprob: float | None = None
    """Mean natural log-probability of the generated tokens at temperature 1, where the engine has it for free."""
    think_tokens: int = 0
    """Of `n_tokens`: up to and with the last `</think>`, for models that mark their reasoning."""


class Engine(Protocol):
    """A loaded model. Every method may be called from several threads at once: an engine queues or interleaves them."""

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, check: Callable[[], None]
    ) -> Iterator[Completion]:
        """Completions as they finish, in any order; `requests` is read lazily, a bounded number ahead.

        `check` is called at least every second or so and ends the generation by raising. `samples`, `first_sample` and `seed` of `sampling` are
        not looked at: the seeds stand in the requests. Raises EngineUnavailable when the engine died.
        """
        ...

    @property
    def places(self) -> int:
        """Sequences that it runs at once; further ones wait in its own queue."""
        ...

    @property
    def holds_gpu(self) -> bool:
        """Whether it keeps memory of a GPU, which somebody else may want while it is idle."""
        ...

    def close(self) -> None:
        """Give the memory back; the engine is not used again."""
        ...

"""No model at all: answers for measuring everything around one. Deterministic from prompt and seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from overproof.inference.ports import Completion, Request
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

SUM = re.compile(r"(\d+)\s*\+\s*(\d+)")
STEPS = "We add the two numbers digit by digit and carry where a column passes nine. " * 8
CHARS_PER_TOKEN = 4
FEWEST_TOKENS = 20
TOKENS_SPREAD = 100


class CannedEngine:
    """Adds the last `a + b` of the user's turn: right for three seeds of four, off by 1 to 9 for the fourth."""

    places = 1
    holds_gpu = False

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, check: Callable[[], None]
    ) -> Iterator[Completion]:
        """See `Engine.generate`; lengths are spread evenly over FEWEST_TOKENS + TOKENS_SPREAD."""
        for request in requests:
            check()
            text = request.turns[-1]["content"]
            found = SUM.findall(text)
            total = sum(map(int, found[-1])) if found else 0
            prompt_tokens = len(text) // CHARS_PER_TOKEN
            for draw, seed in enumerate(request.seeds):
                yield _completion(request.number, draw, seed, total, prompt_tokens, sampling.max_tokens)

    def close(self) -> None:
        """Nothing to give back."""


def _completion(number: int, draw: int, seed: int, total: int, prompt_tokens: int, max_tokens: int) -> Completion:
    wrong_by = 0 if seed % 4 else 1 + seed // 4 % 9
    n_tokens = FEWEST_TOKENS + seed // 64 % TOKENS_SPREAD
    if n_tokens > max_tokens:
        return Completion(
            number, draw, STEPS[: max_tokens * CHARS_PER_TOKEN], max_tokens, prompt_tokens, FinishReason.LENGTH
        )
    text = f"{STEPS[: n_tokens * CHARS_PER_TOKEN]}\\boxed{{{total + wrong_by}}}"
    return Completion(number, draw, text, n_tokens, prompt_tokens, FinishReason.STOP)

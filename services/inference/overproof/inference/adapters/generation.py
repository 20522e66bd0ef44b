"""One call of the Transformers engine's `generate`: rows wait, run together, and finish one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch

from overproof.inference.adapters.batch import Batch, Row
from overproof.inference.adapters.chat import Chat, PromptError, refused
from overproof.inference.adapters.drawing import draw
from overproof.inference.ports import Completion, Request
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

LOOK_AHEAD = 1_024
"""Requests that are read, encoded and sorted by length before they run: neighbours in a batch need little padding."""
PREFILL_TOKENS = 16_384
"""Prompt tokens read in one pass: bounds the activations, whatever the batch size."""
REFILL_SHARE = 1 / 8
"""Finished rows are replaced when they are this share of the batch: each time the cache is copied once."""
COMPACT_SHARE = 1 / 4
"""With nothing left to fill in, finished rows are dropped at this share."""


class Generation:
    """Continuous batching: a finished row's place goes to the next one, so that no row waits for the longest."""

    def __init__(
        self,
        batch: Batch,
        chat: Chat,
        sampling: Sampling,
        requests: Iterable[Request],
        places: Callable[[int], int],
        check: Callable[[], None],
    ) -> None:
        """`places` says how many sequences of a given length fit into memory."""
        self.batch = batch
        self.chat = chat
        self.sampling = sampling
        self.check = check
        self._requests = iter(requests)
        self._places = places
        self._waiting: deque[Row] = deque()
        self._fresh: list[Row] = []  # no longer waiting, not yet in the batch
        self._done: list[Completion] = []
        self._halvings = 0

    def run(self) -> Iterator[Completion]:
        """Completions as they finish."""
        while self._has_more():
            self.check()
            with torch.inference_mode():
                try:
                    self._advance()
                except torch.OutOfMemoryError:
                    self._shrink()
            yield from self._take_done()
        yield from self._take_done()

    def _take_done(self) -> list[Completion]:
        done, self._done = self._done, []
        return done

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _has_more(self) -> bool:
        if not self._waiting:
            rows = [row for request in islice(self._requests, LOOK_AHEAD) for row in self._rows(request)]
            self._waiting.extend(sorted(rows, key=lambda row: -len(row.prompt)))
        return bool(self._waiting or self.batch.rows)

    def _rows(self, request: Request) -> list[Row]:
        try:
            prompt = self.chat.prompt(request.turns)
        except PromptError as error:
            self._done += refused(request, error)
            return []
        limit = min(self.sampling.max_tokens, self.chat.room(len(prompt)) or self.sampling.max_tokens)
        return [Row(request.number, number, seed, prompt, limit) for number, seed in enumerate(request.seeds)]

    def _next_rows(self) -> list[Row]:
        """Waiting rows for the free places, as many as one pass over their prompts may hold."""
        n_running = len(self.batch.running())
        most = self._most(self._waiting[0]) if self._waiting else 0
        free = most - n_running
        if free < max(1, most * REFILL_SHARE):
            return []
        fresh: list[Row] = []
        prompts: set[int] = set()
        while self._waiting and len(fresh) < free:
            prompts.add(self._waiting[0].number)
            if fresh and len(prompts) * len(fresh[0].prompt) > PREFILL_TOKENS:
                break
            fresh.append(self._waiting.popleft())
        return fresh

    def _most(self, row: Row) -> int:
        return max(1, self._places(len(row.prompt) + row.limit) >> self._halvings)

    # --- running ------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Replace finished rows when that is worth it, then one token for each running row."""
        self._fresh = fresh = self._next_rows()
        if fresh:
            self._append(fresh, self.batch.admit(fresh))
            self._fresh = []
        elif len(self.batch.running()) < (1 - COMPACT_SHARE) * len(self.batch.rows):
            self.batch.compact()
        if self.batch.running():
            logits = self.batch.step()  # may drop finished rows
            self._append(self.batch.rows, logits)
        else:
            self.batch.clear()

    def _append(self, rows: list[Row], logits: torch.Tensor) -> None:
        drawn = draw(logits, self.sampling, [row.seed for row in rows], [len(row.tokens) for row in rows])
        for row, token, logprob in zip(rows, drawn.tokens, drawn.logprobs, strict=True):
            if row.finish_reason is None:
                row.tokens.append(token)
                row.logprob += logprob
                row.finish_reason = self._ended(row, token)
                if row.finish_reason:
                    self._done.append(self._completion(row, row.finish_reason))

    def _ended(self, row: Row, token: int) -> FinishReason | None:
        if token in self.chat.eos or (self.sampling.stop and self._has_stop(row)):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(row.tokens) >= row.limit else None

    def _has_stop(self, row: Row) -> bool:
        """Whether a stop string ends within the last tokens; each token has one character at least, but for split ones."""
        tail = self.chat.decode(row.tokens[-2 * max(map(len, self.sampling.stop)) - 4 :])
        return any(stop in tail for stop in self.sampling.stop)

    def _completion(self, row: Row, reason: FinishReason) -> Completion:
        return Completion(
            number=row.number,
            draw=row.draw,
            text=self.chat.text(row.tokens, self.sampling.stop),
            n_tokens=len(row.tokens),
            prompt_tokens=len(row.prompt),
            finish_reason=reason,
            mean_logprob=row.logprob / len(row.tokens),
            think_tokens=self.chat.think_tokens(row.tokens),
        )

    def _shrink(self) -> None:
        """After running out of memory: the running rows begin again (their seeds make them the same), half as many at once."""
        running = [self.batch.rows[index] for index in self.batch.running()]
        rows = list({id(row): row for row in running + self._fresh}.values())
        self._fresh = []
        self.batch.clear()
        self._halvings += 1
        if len(rows) == 1:
            row = rows.pop()
            reason = f"The device ran out of memory on this prompt of {len(row.prompt)} tokens alone."
            self._done.append(Completion(row.number, row.draw, reason, 0, len(row.prompt), FinishReason.ERROR))
        for row in rows:
            row.restart()
        self._waiting.extendleft(reversed(rows))

"""The probe as part of the training loop: at its steps every process writes its share, process 0 keeps the solutions."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from overproof.shared.recipe import ProbeOptions
from overproof.shared.topology import FinishReason
from overproof.training.adapters.chat import Chat
from overproof.training.adapters.journal import Journal
from overproof.training.adapters.writing import write
from overproof.training.domain.batches import Schedule
from overproof.training.domain.probing import Solution, is_due, writing_of
from overproof.training.job import Job, write_whole

NOTHING = -1
"""Fills the token rows that processes send each other."""


class Probe(TrainerCallback):  # type: ignore[misc]
    """Writes `probes/step-<step>.json` and a line of `metrics.jsonl`; the worker has the solutions judged."""

    def __init__(
        self,
        job: Job,
        options: ProbeOptions,
        schedule: Schedule,
        journal: Journal,
        boards: Sequence[TrainerCallback] = (),
    ) -> None:
        self._options = options
        self._job = job
        self._schedule = schedule
        self._journal = journal
        self._boards = boards
        asked = json.loads(job.probe.read_text())
        self._problems: list[dict[str, Any]] = asked["problems"]
        self._stops: list[int] = asked["stops"]
        longest = max((len(one["prompt"]) for one in self._problems), default=0)
        room = options.max_tokens if job.context is None else job.context - longest
        self._max_tokens = max(1, min(options.max_tokens, room))
        self._last: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        if state.global_step == 0:
            self._probe(args, state, model)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        if is_due(state.global_step, self._schedule.steps, self._options):
            self._probe(args, state, model, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        if control.should_training_stop and self._last != state.global_step:  # patience ran out
            self._probe(args, state, model, control)

    def _probe(
        self, args: TrainingArguments, state: TrainerState, model: Any, control: TrainerControl | None = None
    ) -> None:
        started, step = time.monotonic(), state.global_step
        self._last = step
        written = self._written(args, model)
        if control and self._job.options.choose_by == "accuracy":
            control.should_save = True  # these weights may become the student
        if state.is_world_process_zero:
            solutions = self._keep(step, written)
            figures = writing_of(solutions).line() | {"probe_seconds": round(time.monotonic() - started, 3)}
            self._journal.append(state, figures)
            for board in self._boards:  # Trainer does not know of these figures: they are not in its state
                board.on_log(args, state, control, logs=dict(figures))
        self._journal.skip(time.monotonic() - started)

    def _written(self, args: TrainingArguments, model: Any) -> list[list[int]]:
        """Completion tokens of every problem, in their order; each process writes each n-th of them."""
        rank, processes = args.process_index, args.world_size
        share = -(-len(self._problems) // processes)
        mine = self._problems[rank::processes] or self._problems[:1]
        # as many as the others, so that all take part in every gathering of weights
        prompts = [one["prompt"] for one in mine + mine[:1] * (share - len(mine))]
        tokens = write(model, prompts, self._stops, self._max_tokens, args.device)
        if processes == 1:
            return tokens
        rows = torch.full((share, self._max_tokens), NOTHING, dtype=torch.long)
        for row, ids in zip(rows, tokens, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        shares = [torch.empty_like(rows, device=args.device) for _ in range(processes)]
        distributed.all_gather(shares, rows.to(args.device))
        columns = [[[token for token in row if token != NOTHING] for row in one.tolist()] for one in shares]
        return [columns[i % processes][i // processes] for i in range(len(self._problems))]

    def _keep(self, step: int, written: list[list[int]]) -> list[Solution]:
        solutions = [self._solution(one["problem_id"], ids) for one, ids in zip(self._problems, written, strict=True)]
        path = self._job.probe_of(step)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(solutions, ensure_ascii=False))
        return solutions

    @cached_property
    def _chat(self) -> Chat:
        return Chat(self._job.student, self._job.vocab_size)

    def _solution(self, problem_id: str, ids: list[int]) -> Solution:
        stopped = bool(ids) and ids[-1] in self._stops
        return {
            "problem_id": problem_id,
            "text": self._chat.text(ids[:-1] if stopped else ids),
            "n_tokens": len(ids),
            "finish_reason": str(FinishReason.STOP if stopped else FinishReason.LENGTH),
        }

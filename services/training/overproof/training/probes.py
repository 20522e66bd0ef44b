"""The worker's side of the probe: has what the student wrote judged, shows it, and chooses the weights."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from overproof.shared.errors import ArtifactMissing, EngineUnavailable, OverproofError
from overproof.shared.recipe import GradingOptions
from overproof.shared.specs import TrainSpec
from overproof.shared.work import Work
from overproof.training import checkpointing
from overproof.training.domain import probing, validation
from overproof.training.domain.probing import Judged, Solution
from overproof.training.domain.validation import Validation
from overproof.training.job import Job, Result, write_whole
from overproof.training.metrics import PROBE_ACCURACY
from overproof.training.verdicts import Asker, Question

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 20.0
"""Grading takes a second; where its workers must be started first, the shard is handed back meanwhile."""
SECONDS_BETWEEN_LOOKS = 0.1


class Probes:
    """All probes of one training. Without gold answers (`spec.problems`) nothing is asked: tokens are all there is to tell."""

    def __init__(self, job: Job, work: Work[TrainSpec], asker: Asker, show: Callable[..., None]) -> None:
        self._job = job
        self._work = work
        self._asker = asker
        self._show = show
        self._asked: dict[int, int] = {}  # step → when its file was written
        self._waiting: dict[int, Question] = {}
        self._judged: dict[int, Judged] = {}
        self._given_up: dict[int, EngineUnavailable] = {}
        self._verdicts: dict[int, list[str]] = {}
        self._golds: dict[str, list[str]] = {}

    def look(self) -> bool:
        """Ask for what is new, take what has come; returns whether anything has. Never ends a training: `settle` raises."""
        try:
            return self._look()
        except (OverproofError, FileNotFoundError) as error:  # a file may be taken back while nodes start again
            log.warning("the probes wait: %s", error)
            return False

    def _look(self) -> bool:
        if self._work.spec.problems is None or self._job.options.probe is None:
            return False
        for step in self._steps():
            written = self._job.probe_of(step).stat().st_mtime_ns
            if self._asked.get(step) != written:  # new, or made again after a restart of the nodes
                self._judged.pop(step, None)
                self._given_up.pop(step, None)
                self._waiting[step] = self._ask(step)
                self._asked[step] = written
        answers = {step: self._answer(step, question) for step, question in self._waiting.items()}
        self._waiting = {step: question for step, question in self._waiting.items() if answers[step] is None}
        for step, verdicts in answers.items():
            if verdicts:
                self._take(step, verdicts)
        return any(answers.values())

    def _answer(self, step: int, question: Question) -> list[str] | None:
        """The verdicts; None: not yet; empty: there will be none, as grading has given the probe up."""
        try:
            return question.answer()
        except EngineUnavailable as error:
            log.warning("the probe of step %d has no accuracy: %s", step, error)
            self._given_up[step] = error
            return []

    def settle(self) -> None:
        """Wait for the last verdicts, and write all of them into `metrics.jsonl` and `probes.jsonl`.

        Raises ArtifactMissing when they do not come in time: the shard is handed back and tried again, without a GPU. A probe that
        grading has given up has no accuracy; with `choose_by: accuracy` that raises EngineUnavailable, as its weights may be the best.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._look()
        while self._waiting:
            self._work.check()
            if time.monotonic() > deadline:
                raise ArtifactMissing(
                    f"{len(self._waiting)} probes of the student have no verdicts yet.", "Start a grading worker."
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)
            self._look()
        if self._given_up and self._job.options.choose_by == "accuracy":
            raise next(iter(self._given_up.values()))
        self._write()

    def choose(self, result: Result) -> Result:
        """The result with the probes in it and, with `choose_by: accuracy`, with the weights that they speak for."""
        history = [self._judged[step] for step in sorted(self._judged)]
        result = result.model_copy(update={"probes": tuple({"step": one.step, **one.line()} for one in history)})
        found = probing.best(history) if self._job.options.choose_by == "accuracy" else None
        if found is None:
            return result
        return result.model_copy(
            update={
                "checkpoint": checkpointing.weights_name(found.step),
                "step": found.step,
                "val_loss": validation.at([Validation(*one) for one in result.validations], found.step),
                "chosen_for": f"most correct solutions of {found.n} validation problems ({found.correct})",
            }
        )

    # --- asking -------------------------------------------------------------------------------------------------------

    def _steps(self) -> Iterator[int]:
        for path in sorted(self._job.probes.glob("step-*.json")):
            yield int(path.stem.removeprefix("step-"))

    def _ask(self, step: int) -> Question:
        if not self._golds:
            asked = json.loads(self._job.probe.read_text())["problems"]
            self._golds = {one["problem_id"]: one["gold"] for one in asked}
        options = self._work.spec.grading or GradingOptions()
        return self._asker.ask(self._solutions(step), self._golds, options, self._work.run_id)

    def _take(self, step: int, verdicts: list[str]) -> None:
        self._verdicts[step] = verdicts
        found = self._judged[step] = probing.judged(step, self._solutions(step), verdicts)
        if step == max(self._judged):  # they may come out of order
            if found.accuracy is not None:
                PROBE_ACCURACY.set(found.accuracy)
            self._show(probe_step=step, **found.line())
        self._forget_worse()

    def _forget_worse(self) -> None:
        """Weights of probed steps that are not the best cannot become the student any more, once the best ones are safe: they have a
        checkpoint of their step, behind which no restart goes back. Where no gold answer can be read no weights are chosen. Those that
        nobody has judged stay, however many: each may be the best."""
        for step, one in self._judged.items():
            if not one.n:
                checkpointing.drop_weights(self._job.checkpoints, step)
        found = probing.best(self._judged.values())
        if found is None or not (self._job.checkpoints / checkpointing.weights_name(found.step)).is_dir():
            return
        for step in self._judged:
            if step != found.step:
                checkpointing.drop_weights(self._job.checkpoints, step)

    def _solutions(self, step: int) -> list[Solution]:
        solutions: list[Solution] = json.loads(self._job.probe_of(step).read_text())
        return solutions

    # --- telling ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        lines = [self._with_verdicts(line) for line in checkpointing.read_lines(self._job.metrics)]
        _write_lines(self._job.metrics, lines)
        _write_lines(self._job.solutions, [row for step in self._steps() for row in self._rows(step)])

    def _with_verdicts(self, line: dict[str, Any]) -> dict[str, Any]:
        found = self._judged.get(line["step"]) if "probe_n" in line else None
        return line | found.line() if found else line

    def _rows(self, step: int) -> Iterator[dict[str, Any]]:
        solutions = self._solutions(step)
        verdicts: list[str | None] = [*self._verdicts.get(step, [None] * len(solutions))]
        for one, verdict in zip(solutions, verdicts, strict=True):
            yield {"step": step, **one, "verdict": verdict}


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

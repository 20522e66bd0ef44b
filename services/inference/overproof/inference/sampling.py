"""One shard of completions: problems stream in, requests to the engine, rows out, in the problems' order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from overproof.inference import metrics, spending
from overproof.inference.busy import BusyClock, Turn
from overproof.inference.domain.quotas import Drawn, drawn_so_far
from overproof.inference.domain.requests import Problem, request_for, samples_of
from overproof.inference.domain.rows import Sampled, Tally, columns, in_order
from overproof.inference.ports import Completion, Engine, Request
from overproof.inference.shelf import Lent
from overproof.inference.under_way import Asker, UnderWay
from overproof.shared.specs import SampleSpec
from overproof.shared.tables import COMPLETIONS, GRADES, PROBLEMS, rows_of
from overproof.shared.work import Work

ROWS_PER_TABLE = 1_000
"""Completions that are written at once."""
SECONDS_PER_REPORT = 1.0


class ShardOfCompletions:
    """What is under way of one shard; memory does not grow with the shard."""

    def __init__(self, work: Work[SampleSpec]) -> None:
        self.work = work
        self.spec = work.spec
        self.tally = Tally()
        self._asker = Asker(str(work.spec.role), str(work.spec.stage))
        self._turn, self._busy_seconds = Turn(BusyClock()), 0.0
        self._under_way, self._sequences = UnderWay(1), 0
        self._asked: deque[tuple[str, range, tuple[int, ...]]] = deque()
        self._started = self._reported = time.monotonic()

    def tables(self, lent: Lent) -> Iterator[pa.Table]:
        """Rows of COMPLETIONS as they are made: by problem in the order of the part, then by sample."""
        self._turn, self._under_way = Turn(lent.clock), lent.under_way
        spec = self.spec
        constants = {"round": spec.round, "role": str(spec.role), "model": spec.model.name, "spec": spec.likeness}
        rows = self._rows(lent.engine)
        while batch := list(islice(rows, ROWS_PER_TABLE)):
            yield pa.table(columns(batch, constants), schema=COMPLETIONS)

    def _rows(self, engine: Engine) -> Iterator[Sampled]:
        for completion in in_order(self._made(engine), lambda _: len(self._asked[0][1])):
            problem_id, samples, seeds = self._asked[0]
            if completion.draw == len(samples) - 1:
                self._asked.popleft()
            yield Sampled(problem_id, samples[completion.draw], seeds[completion.draw], completion)

    def _made(self, engine: Engine) -> Iterator[Completion]:
        """The engine's completions as they finish, counted."""
        requests = self._turn.resting(self._requests())
        try:
            for completion in self._turn.working(engine.generate(requests, self.spec.sampling, self.work.check)):
                self._move(-1)
                self.tally.add(completion)
                metrics.count(*self._asker, completion)
                spending.count(self.spec, completion)
                self._report()
                yield completion
        finally:
            self._move(-self._sequences)
            self._count_busy()

    def _requests(self) -> Iterator[Request]:
        for index, (problem, samples) in enumerate(self._unfinished()):
            request = request_for(index, problem, self.spec.prompt, self.spec.sampling, samples)
            self._asked.append((problem.problem_id, samples, request.seeds))
            self._move(len(request.seeds))
            yield request

    def _unfinished(self) -> Iterator[tuple[Problem, range]]:
        """The problems that have not enough correct completions yet, with the samples that each gets."""
        drawn = self._drawn()
        for row in rows_of(self._read(self.spec.problems, PROBLEMS, ["problem_id", "problem"])):
            problem = Problem(str(row["problem_id"]), str(row["problem"]))
            self.tally.problems += 1
            samples = samples_of(self.spec, drawn.get(problem.problem_id, Drawn()))
            if samples:
                yield problem, samples
            else:
                self.tally.skipped += 1

    def _drawn(self) -> dict[str, Drawn]:
        """Completions by problem over the earlier passes' grades of this part."""
        if self.spec.enough is None:
            return {}
        graded = (self._read(ref, GRADES, ["problem_id", "verdict"]) for ref in self.spec.graded)
        return drawn_so_far(row for batches in graded for row in rows_of(batches))

    def _read(self, ref: str, schema: pa.Schema, names: list[str]) -> Iterator[pa.RecordBatch]:
        return self.work.read(ref, schema, part=self.work.shard, columns=names)

    def _move(self, by: int) -> None:
        self._sequences += by
        self._under_way.change(self._asker, by)

    def _count_busy(self) -> None:
        """The seconds since the last time: counted as they pass, so that their rate means something."""
        metrics.BUSY_SECONDS.labels(*self._asker).inc(self._turn.seconds - self._busy_seconds)
        self._busy_seconds = self._turn.seconds

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported >= SECONDS_PER_REPORT:
            self._reported = now
            self._count_busy()
            self.work.progress(completions=self.tally.completions, tokens=self.tally.tokens)

    def finish(self, load_seconds: float) -> None:
        """Notes for the receipt, and the metrics. Raises ModelError when too many completions failed."""
        tally = self.tally
        self.work.note(
            **tally.notes(),
            **spending.notes(self.spec, self.work.run_id, tally),
            busy_seconds=self._turn.seconds,
            load_seconds=load_seconds,
            wall_seconds=time.monotonic() - self._started,
        )
        tally.require(self.spec.engine.min_success_ratio)

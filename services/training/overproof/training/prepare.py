"""Child process: selected rows → tokens on disk, after every check that needs no GPU.

python -m overproof.training.prepare JOB.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files
from overproof.shared.tables import SELECTED
from overproof.training import feasible
from overproof.training.adapters.chat import Chat
from overproof.training.adapters.embedding import is_untrained
from overproof.training.adapters.tokens import TokenRows, TokenWriter
from overproof.training.domain import packing
from overproof.training.domain.batches import batch_of, schedule_of
from overproof.training.domain.preflight import (
    ROUND_TRIPS,
    SHOWN,
    Encoded,
    Tally,
    check_round_trips,
    check_rows,
    doubled_openings,
    probe_warnings,
    rows_warnings,
    schedule_warnings,
    warnings_of,
)
from overproof.training.failures import reported
from overproof.training.job import Job, write_whole
from overproof.training.probe_set import write_probe_set

COLUMNS = ["problem_id", "sample", "prompt", "system", "completion", "split"]
SPLITS = ("train", "val")
LAST_PROMPT_TOKENS = 16
"""Enough to see how the template ends a prompt."""


@dataclass
class Found:
    """What the rows showed while they became tokens."""

    tallies: dict[str, Tally] = field(default_factory=lambda: {split: Tally() for split in SPLITS})
    trips: list[tuple[str, str]] = field(default_factory=list)
    """(completion, the same back from its tokens) of the first rows."""
    openings: list[tuple[str, str]] = field(default_factory=list)
    """(end of the rendered prompt, completion) of the same rows."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    held_out: dict[str, list[int]] = field(default_factory=dict)
    """Validation problem → the tokens of its prompt, for the probe."""


def prepare(job: Job) -> None:
    """Write the tokens, `preflight.json` and `rendered_samples.json`; where the tokens are there, and only the number of processes is
    another one, the report alone.

    Raises DatasetError or ModelError when there would be nothing to learn, or not what the teacher wrote; RecipeError when
    the training cannot run here.
    """
    warnings = feasible.check_machine(job)
    if not job.has_tokens():
        _read_rows(job)
    rows = json.loads(job.rows.read_text(encoding="utf-8"))
    write_whole(job.preflight, json.dumps(_report(job, rows, warnings), indent=1))
    write_whole(job.prepared, job.preparation)


def _read_rows(job: Job) -> None:
    chat = Chat(job.student, job.vocab_size)
    found = _tokenise(job, chat)
    write_whole(job.samples, json.dumps(found.samples, indent=1, ensure_ascii=False))
    write_whole(job.rows, json.dumps(_shown(job, chat, found), indent=1))


def _tokenise(job: Job, chat: Chat) -> Found:
    found = Found()
    with ExitStack() as stack:
        writers = {split: stack.enter_context(TokenWriter(job.scratch, split)) for split in SPLITS}
        for row, encoded in _encoded(job, chat):
            split = row["split"]
            if not found.tallies[split].add(encoded, job.limit):
                continue
            writers[split].add(encoded)
            if split == "val" and job.options.probe:
                found.held_out[row["problem_id"]] = encoded.prompt
            if len(found.trips) < ROUND_TRIPS:
                found.openings.append((chat.decode(encoded.prompt[-LAST_PROMPT_TOKENS:]), row["completion"]))
                found.trips.append((row["completion"], chat.decode(encoded.completion[:-1])))
            if len(found.samples) < SHOWN:
                found.samples.append(_sample(row, encoded, chat))
    return found


def _shown(job: Job, chat: Chat, found: Found) -> dict[str, Any]:
    """The content of `rows.json`: what depends on rows and student alone; raises where it speaks against the training."""
    train, val = (found.tallies[split] for split in SPLITS)
    check_rows(train, job.limit, job.limited_by)
    shown: dict[str, Any] = {
        "train": train.as_dict(),
        "val": val.as_dict(),
        "limit_tokens": job.limit,
        "limited_by": job.limited_by,
        "end_token": chat.end_token,
        "end_token_id": chat.end,
        "changed_by_the_tokenizer": check_round_trips(found.trips),
        "warnings": rows_warnings(train),
    }
    if job.options.probe:
        n = write_probe_set(job, job.options.probe, found.held_out, chat.stops)
        shown["probe_problems"] = n
        shown["warnings"] += probe_warnings(job.options.probe.problems, n)
    shown["warnings"] += warnings_of(
        chat.end_token,
        untrained_end=is_untrained(job.student, chat.end),
        frozen=job.options.lora is not None,
        doubled=doubled_openings(found.openings),
        rows=len(found.openings),
    )
    return shown


def _report(job: Job, rows: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    """The content of `preflight.json`: `rows.json` with batch, schedule and estimate. `warnings`: those of the options."""
    n_train, n_val = rows["train"]["rows"], rows["val"]["rows"]
    lengths, batch = TokenRows(job.scratch, "train").lengths, batch_of(job.options)
    schedule = schedule_of(job.options, n_train, n_val, packing.rows_per_step(lengths, job.options))
    more: dict[str, Any] = {}
    if job.options.micro_batch_tokens:
        packed = packing.PackedBatches(lengths, job.options, schedule.steps, rank=0)
        more["packing"], batch = packed.fill._asdict(), batch._replace(accumulation=packed.fill.passes)
        warnings = [*warnings, *packing.beyond_budget(packed.steps(), lengths, job.options)]
    reckoned = feasible.reckon(job, schedule)
    return {
        **rows,
        "batch": {**batch._asdict(), "rows": round(n_train / schedule.steps_per_epoch)},  # packed by tokens: on average
        "schedule": schedule._asdict(),
        **more,
        **reckoned,
        "warnings": [*rows["warnings"], *schedule_warnings(rows, schedule), *warnings, *reckoned["warnings"]],
    }


def _encoded(job: Job, chat: Chat) -> Iterator[tuple[dict[str, Any], Encoded]]:
    for rows in _batches(job):
        yield from zip(rows, chat.encode(rows), strict=True)


def _batches(job: Job) -> Iterator[list[dict[str, Any]]]:
    batches: Iterator[pa.RecordBatch] = Artifacts(Files(job.storage)).read(job.selected, SELECTED, columns=COLUMNS)
    for batch in batches:
        if batch.num_rows:
            yield batch.to_pylist()


def _sample(row: dict[str, Any], encoded: Encoded, chat: Chat) -> dict[str, Any]:
    """One row as the model sees it: what it reads, what it is taught to write."""
    return {
        "problem_id": row["problem_id"],
        "sample": row["sample"],
        "prompt": chat.decode(encoded.prompt),
        "supervised": chat.decode(encoded.completion),
        "n_prompt_tokens": len(encoded.prompt),
        "n_supervised_tokens": len(encoded.completion),
        "prompt_ids": encoded.prompt,
        "supervised_ids": encoded.completion,
    }


if __name__ == "__main__":
    the_job = Job.load(Path(sys.argv[1]))
    with reported(the_job.scratch, 0):
        prepare(the_job)

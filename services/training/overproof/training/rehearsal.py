"""Child process: what would end a training, found with the data set's own solutions before the teacher has written any.

python -m overproof.training.rehearsal JOB.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import ArtifactMissing, DatasetError
from overproof.shared.files import Files
from overproof.shared.tables import PROBLEMS, rows_of
from overproof.training import feasible
from overproof.training.adapters.chat import Chat
from overproof.training.adapters.embedding import is_untrained
from overproof.training.domain.preflight import ROUND_TRIPS, Reason, Tally, check_round_trips, check_rows, warnings_of
from overproof.training.failures import reported
from overproof.training.job import Job, write_whole

ALL_UP_TO = 2_000
"""Of more problems than this, every n-th is looked at."""
TOO_MANY = 0.05
"""Share of problems that do not fit, from which on a warning is due."""


def rehearse(job: Job) -> None:
    """Write `check.json`.

    Raises RecipeError when the training cannot run here, ModelError for a student that cannot be used, DatasetError when no
    solution could be trained on: every prompt is too long, or the tokenizer loses the data set's text.
    """
    warnings = feasible.check_machine(job)
    chat = Chat(job.student, job.vocab_size)
    problems = list(_looked_at(job))
    tally = _measured(job, chat, problems)
    _check_room(job, tally)
    found: dict[str, Any] = {
        "student": job.student.name,
        "problems": len(problems),
        "too_long": tally.dropped[Reason.TOO_LONG],
        "limit_tokens": job.limit,
        "limited_by": job.limited_by,
        "end_token": chat.end_token,
        "changed_by_the_tokenizer": check_round_trips(_round_trips(job, chat, problems[:ROUND_TRIPS])),
        **feasible.reckon_memory(job, tally.longest),
    }
    found["warnings"] += [
        *warnings,
        *_room_warnings(job, tally, len(problems)),
        *warnings_of(
            chat.end_token,
            untrained_end=is_untrained(job.student, chat.end),
            frozen=job.options.lora is not None,
            doubled=0,
            rows=0,
        ),
    ]
    write_whole(job.check, json.dumps(found, indent=1, ensure_ascii=False))


def _looked_at(job: Job) -> Iterator[dict[str, Any]]:
    artifacts = Artifacts(Files(job.storage))
    manifest = artifacts.manifest(job.selected)
    if manifest is None:
        raise ArtifactMissing(f"{job.selected} is not complete.", "It will be made again.")
    every = -(-manifest.rows // ALL_UP_TO) or 1
    columns = ["problem", "answer", "solution"]
    rows = rows_of(artifacts.read(job.selected, PROBLEMS, columns=columns))
    yield from (row for number, row in enumerate(rows) if number % every == 0)


def _measured(job: Job, chat: Chat, problems: Sequence[dict[str, Any]]) -> Tally:
    """Prompts with the shortest solution there can be: the answer alone. What does not fit so will not fit at all."""
    tally = Tally()
    for row in chat.encode([_row(job, one, f"\\boxed{{{one['answer']}}}") for one in problems]):
        tally.add(row, job.limit)
    return tally


def _row(job: Job, problem: dict[str, Any], completion: str) -> dict[str, Any]:
    if job.prompt is None:
        raise ValueError("the job of a check has a prompt")
    return {"prompt": job.prompt.render(problem["problem"]), "system": job.prompt.system, "completion": completion}


def _check_room(job: Job, tally: Tally) -> None:
    if not tally.dropped[Reason.TOO_LONG]:
        check_rows(tally, job.limit, job.limited_by)
    if tally.kept:
        return
    raise DatasetError(
        f"No training problem fits: the shortest prompt with its answer has {tally.shortest_too_long} tokens, and {job.limited_by} "
        f"leaves {job.limit}.",
        "Raise training.max_length, shorten the prompt, or take a student with a longer context.",
    )


def _room_warnings(job: Job, tally: Tally, n: int) -> list[str]:
    too_long = tally.dropped[Reason.TOO_LONG]
    if too_long <= TOO_MANY * n:
        return []
    return [f"{too_long} of {n} training problems do not fit {job.limit} tokens ({job.limited_by}), whatever the teacher writes."]  # fmt: skip


def _round_trips(job: Job, chat: Chat, problems: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(text of the data set, the same back from its tokens): statements and, where there are any, solutions."""
    texts = [f"{one['problem']}\n{one['solution'] or one['answer']}" for one in problems]
    rows = chat.encode([_row(job, one, text) for one, text in zip(problems, texts, strict=True)])
    return [(text, chat.decode(row.completion[:-1])) for text, row in zip(texts, rows, strict=True)]


if __name__ == "__main__":
    the_job = Job.load(Path(sys.argv[1]))
    with reported(the_job.scratch, 0):
        rehearse(the_job)

"""What is checked before a GPU is taken: every row is trained on whole, with its end inside the loss, or it is dropped and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from overproof.shared.errors import DatasetError
from overproof.shared.recipe import TrainingOptions
from overproof.training.domain.batches import Batch, Schedule

SHOWN = 3
"""Rendered samples that are kept as an artifact."""
ROUND_TRIPS = 64
"""Rows whose tokens are decoded again, to see that nothing of the completion is lost."""
FAILED_SHARE = 0.5
"""More failed round trips than this, and the tokenizer cannot write these completions."""


class Encoded(NamedTuple):
    """One row in tokens."""

    prompt: list[int]
    """Exactly what inference sends before the model's answer. Not in the loss."""
    completion: list[int]
    """The completion and the token that ends it. All of it is in the loss."""
    control: str = ""
    """A control token that stands within the completion, as text; empty: none does."""

    @property
    def n_tokens(self) -> int:
        return len(self.prompt) + len(self.completion)


class Reason(StrEnum):
    """Why a row is not trained on."""

    TOO_LONG = "too_long"
    EMPTY = "empty"
    CONTROL = "control_tokens"


@dataclass
class Tally:
    """Counts of one split, filled row by row."""

    kept: int = 0
    prompt_tokens: int = 0
    supervised_tokens: int = 0
    longest: int = 0
    shortest_too_long: int | None = None
    control: str = ""
    """Of the first row that was dropped for one."""
    dropped: Counter[Reason] = field(default_factory=Counter)

    def add(self, row: Encoded, limit: int) -> bool:
        """Count the row; returns whether it is trained on. `limit`: prompt + completion tokens."""
        reason = _reason(row, limit)
        if reason:
            self.dropped[reason] += 1
            self.control = self.control or row.control
            if reason is Reason.TOO_LONG:
                self.shortest_too_long = min(row.n_tokens, self.shortest_too_long or row.n_tokens)
            return False
        self.kept += 1
        self.prompt_tokens += len(row.prompt)
        self.supervised_tokens += len(row.completion)
        self.longest = max(self.longest, row.n_tokens)
        return True

    def as_dict(self) -> dict[str, Any]:
        """For `preflight.json`."""
        n = max(1, self.kept)
        return {
            "rows": self.kept,
            "dropped": {str(reason): count for reason, count in sorted(self.dropped.items())},
            "supervised_tokens": self.supervised_tokens,
            "supervised_tokens_per_row": round(self.supervised_tokens / n, 2),
            "prompt_tokens_per_row": round(self.prompt_tokens / n, 2),
            "longest_row_tokens": self.longest,
        }


def _reason(row: Encoded, limit: int) -> Reason | None:
    if len(row.completion) < 2:  # the end token alone teaches nothing but silence
        return Reason.EMPTY
    if row.control:  # it would teach to end a turn, or to open one, in the middle of an answer
        return Reason.CONTROL
    return Reason.TOO_LONG if row.n_tokens > limit else None


def check_rows(train: Tally, limit: int, limited_by: str) -> None:
    """Raises DatasetError when nothing is left to train on, with the size that would help."""
    if train.kept:
        return
    if not train.dropped:
        raise DatasetError(
            "The selection holds no training rows.",
            "Sample more completions per problem, use a stronger teacher, or loosen the selection policy.",
        )
    (reason, n), *others = train.dropped.most_common()
    which = f"No training row is left: {n} of {train.dropped.total()} were" if others else "Every training row was"
    raise DatasetError(*{
        Reason.TOO_LONG: (
            f"{which} dropped: longer than {limit} tokens ({limited_by}); the shortest has {train.shortest_too_long}.",
            "Raise training.max_length, select shorter completions, or take a student with a longer context.",
        ),
        Reason.CONTROL: (
            f"{which} dropped: a control token of the student stands in the completion as text, such as {train.control}.",
            "Take such tokens out of the completions: the end of an answer is added to each.",
        ),
        Reason.EMPTY: (f"{which} dropped: the completion is empty.", "Look at the teacher's completions."),
    }[reason])  # fmt: skip


def check_round_trips(pairs: Sequence[tuple[str, str]]) -> int:
    """How many completions come back changed from their tokens; `pairs` are (completion, decoded), white space apart.

    Raises DatasetError when most do: the student's tokenizer would be taught other text than the teacher wrote.
    """
    failed = [(text, back) for text, back in pairs if "".join(text.split()) != "".join(back.split())]
    if len(failed) > FAILED_SHARE * len(pairs):
        text, back = failed[0]
        raise DatasetError(
            f"The student's tokenizer loses text: {text[:60]!r} comes back as {back[:60]!r}.",
            "Take a student whose tokenizer can write the teacher's completions.",
        )
    return len(failed)


OPENINGS = ("<think>", "<thinking>", "<reasoning>")
"""How models begin to reason; some templates write it themselves."""


def doubled_openings(pairs: Sequence[tuple[str, str]]) -> int:
    """In how many of the rows, (prompt as rendered, completion), both the template and the teacher open the reasoning."""
    return sum(
        prompt.rstrip().endswith(opening) and completion.lstrip().startswith(opening)
        for prompt, completion in pairs
        for opening in OPENINGS
    )


def warnings_of(chat_end: str, *, untrained_end: bool, frozen: bool, doubled: int, rows: int) -> list[str]:
    """What does not stop a training, but should be known before it."""
    found = []
    if untrained_end:
        remedy = "training.lora leaves it so: train all weights" if frozen else "it is learnt from the rows"
        found.append(f"The embedding of {chat_end} is next to zero, as if it had never been trained; {remedy}.")
    if doubled:
        found.append(
            f"In {doubled} of {rows} rows looked at, the chat template opens the reasoning and the completion opens it again."
        )
    return found


def rows_warnings(train: Tally) -> list[str]:
    """Rows that are not trained on, where they should be known."""
    found = []
    total = train.kept + train.dropped.total()
    if train.dropped[Reason.TOO_LONG] > 0.05 * total:
        found.append(f"{train.dropped[Reason.TOO_LONG]} of {total} training rows are too long and were left out.")
    if n := train.dropped[Reason.CONTROL]:
        found.append(
            f"{n} of {total} training rows were left out: their completions hold control tokens of the student as text, such as {train.control}."
        )
    return found


def probe_warnings(asked: int, found: int) -> list[str]:
    """Problems that `training.probe` asks for, and those that the selection holds out for validation."""
    if not found:
        return ["The selection holds out no validation problems: training.probe watches nothing."]
    if found < asked:
        return [f"training.probe asks for {asked} problems, and the selection holds out {found}: those are probed."]
    return []


def batch_warnings(options: TrainingOptions, batch: Batch) -> list[str]:
    """Forward passes of other sizes than were asked for."""
    share = options.global_batch_size // options.processes
    if options.micro_batch_tokens or batch.micro == min(options.micro_batch_size, share):
        return []
    said = f"training.micro_batch_size {options.micro_batch_size} does not divide a process' {share} rows of a step"
    return [f"{said}: it takes {batch.micro} at a time."]


def schedule_warnings(rows: Mapping[str, Any], schedule: Schedule) -> list[str]:
    """`rows`: what the rows showed, see `prepare`."""
    found = []
    if schedule.validate_every is None:
        why = "training.evaluations_per_epoch is 0" if rows["val"]["rows"] else "There are no validation rows"
        found.append(f"{why}: no validation loss chooses weights, and training.patience stops nothing.")
    if schedule.steps_per_epoch < 1:
        found.append("One optimizer step holds more rows than there are: each row comes several times per step.")
    return found

"""Which problems the student is probed on, with their gold answers: written once, before a GPU is taken."""

from __future__ import annotations

import json
from collections.abc import Mapping

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import DatasetError
from overproof.shared.files import Files
from overproof.shared.recipe import ProbeOptions
from overproof.shared.tables import PROBLEMS
from overproof.training.domain.probing import chosen_problems
from overproof.training.job import Job, write_whole


def write_probe_set(job: Job, options: ProbeOptions, held_out: Mapping[str, list[int]], stops: list[int]) -> int:
    """Write `probe.json`; returns how many problems are in it. `held_out`: problem_id → prompt tokens of validation rows.

    Raises DatasetError when the weights are to be chosen by a probe and nothing is held out to probe them on.
    """
    chosen = chosen_problems(held_out, options, job.options.seed)
    if not chosen and job.options.choose_by == "accuracy":
        raise DatasetError(
            "training.choose_by is accuracy, but the selection holds out no validation problems.",
            "Raise selection.val_share, sample more problems, or choose by loss.",
        )
    golds = _golds(job, set(chosen))
    problems = [{"problem_id": one, "prompt": held_out[one], "gold": golds.get(one, [])} for one in chosen]
    if problems:
        write_whole(job.probe, json.dumps({"problems": problems, "stops": stops}, ensure_ascii=False))
    return len(problems)


def _golds(job: Job, wanted: set[str]) -> dict[str, list[str]]:
    """problem_id → its gold answer and the others that are also right; empty without a table of problems."""
    if job.problems is None or not wanted:
        return {}
    found: dict[str, list[str]] = {}
    columns = ["problem_id", "answer", "alternatives"]
    for batch in Artifacts(Files(job.storage)).read(job.problems, PROBLEMS, columns=columns):
        for row in batch.to_pylist():
            if row["problem_id"] in wanted:
                found[row["problem_id"]] = [row["answer"], *(row["alternatives"] or [])]
    return found

"""Two gradings of the same completions, read side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from overproof.reporting import reading
from overproof.reporting.domain.regrades import Counts, changed_row, is_same_completion
from overproof.shared.errors import ArtifactMissing, CorruptShard, DatasetError
from overproof.shared.specs import ChangesSpec, Regraded
from overproof.shared.tables import CHANGES, GRADES, rows_of, table_of
from overproof.shared.work import Work


def changes(work: Work[ChangesSpec]) -> None:
    """Two gradings each of some completions → CHANGES, by pair, then in the order of the completions; row by row in memory.

    The notes count all rows, also those that did not change: label → verdict before → verdict now. Earlier grades that are
    damaged or gone cost their pair, not the run: nobody makes them again, and their grader may be gone too.
    Raises DatasetError when two gradings are not of the same completions.
    """
    pairs = [one for one in work.spec.regraded if _is_whole(work, one.before)]
    counts: Counts = {one.label: {} for one in pairs}
    work.write(CHANGES, reading.merged(_tables(work, pairs, counts)))
    lost = [one.label for one in work.spec.regraded if one not in pairs]
    work.note(verdicts=counts, graders=_graders(work, pairs), lost=lost)


def _is_whole(work: Work[ChangesSpec], grades: str) -> bool:
    try:
        for part in work.artifacts.parts(grades):
            work.artifacts.verify(grades, part)
    except (ArtifactMissing, CorruptShard):
        return False
    return True


def _tables(work: Work[ChangesSpec], regraded: list[Regraded], counts: Counts) -> Iterator[pa.Table]:
    for one in regraded:
        parts = reading.n_parts(work, one.before, one.after)
        for part in range(parts):
            yield table_of(_changed(work, one, part, counts[one.label]), CHANGES)
            work.progress(done=part + 1, total=parts)


def _changed(
    work: Work[ChangesSpec], one: Regraded, part: int, counts: dict[str, dict[str, int]]
) -> Iterator[dict[str, Any]]:
    """The rows of one part whose verdict changed."""
    pairs = Counter[tuple[str, str]]()
    before, after = (rows_of(work.read(ref, GRADES, part=part)) for ref in (one.before, one.after))
    for old, new in zip_longest(before, after):
        if not is_same_completion(old, new):
            raise DatasetError(
                f"{one.before} and {one.after} are not grades of the same completions (part {part}).",
                "Compare two gradings of one table of completions.",
            )
        pairs[str(old["verdict"]), str(new["verdict"])] += 1
        if old["verdict"] != new["verdict"]:
            yield changed_row(old, new, one.label)
    for (was, now), n in pairs.items():
        row = counts.setdefault(was, {})
        row[now] = row.get(now, 0) + n


def _graders(work: Work[ChangesSpec], regraded: list[Regraded]) -> dict[str, dict[str, Any]]:
    """How the two gradings of each pair were made: label → before, after → options and version, as their specs say."""
    return {one.label: {"before": _made_by(work, one.before), "after": _made_by(work, one.after)} for one in regraded}


def _made_by(work: Work[ChangesSpec], ref: str) -> dict[str, Any]:
    spec = work.artifacts.spec(ref).model_dump(mode="json")
    return {"grader": spec.get("grader", "given"), "options": spec.get("options", {})}

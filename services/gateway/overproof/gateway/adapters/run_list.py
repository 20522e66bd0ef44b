"""Runs, newest first, a page at a time: ids begin with their day, so only a page's days are read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from overproof.shared.errors import NotFound
from overproof.shared.runs import RunRecord, Runs

DAY_CHARS = len("2026-11-24")


def newest_first(runs: Runs, after: str | None = None) -> Iterator[RunRecord]:
    """Records in order of their time, from the newest, or from the one after `after`. Raises NotFound for an unknown `after`."""
    start = runs.record(after) if after else None
    ids = reversed(runs.ids())
    for day, group in itertools.groupby(ids, key=lambda run_id: run_id[:DAY_CHARS]):
        if start is not None and day > start.run_id[:DAY_CHARS]:
            continue
        records = [record for run_id in group if (record := _record(runs, run_id)) is not None]
        for record in sorted(records, key=_order, reverse=True):
            if start is None or _order(record) < _order(start):
                yield record


def _order(record: RunRecord) -> tuple[str, float, str]:
    return record.run_id[:DAY_CHARS], record.created_at, record.run_id


def _record(runs: Runs, run_id: str) -> RunRecord | None:
    """None for a folder without `recipe.json`: its submission is under way, or never ended."""
    try:
        return runs.record(run_id)
    except NotFound:
        return None

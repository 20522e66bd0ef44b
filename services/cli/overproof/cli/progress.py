"""A run as rows for a display: passes of one stage folded together, each with a bar, a few figures and a time.

Pure: from a RunView and the time, to rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from overproof.cli.views import RunView, StageView

CHECKS = ("prepare", "check_gold", "check_model", "check_student")
PASS = re.compile(r" · pass \d+$")
VERDICTS = ("correct", "wrong", "truncated", "no_answer", "timeout", "ungradable")
MIN_SHARE_FOR_ETA = 0.02  # before this the estimate jumps about


class Row(NamedTuple):
    """One line of the display."""

    label: str
    state: str
    """waiting, running, done or failed."""
    share: float | None
    """How much is done, 0 to 1; None: not known."""
    counts: str
    """`3/12 shards`, `412/640 steps`."""
    figures: str
    """What the stage has measured so far."""
    seconds: float | None
    """Since its first shard began, until its end or now."""
    eta_seconds: float | None


def rows(run: RunView, now: float) -> list[Row]:
    """One row per stage of the run, in order."""
    groups: dict[str, list[StageView]] = {}
    for stage in run.stages:
        groups.setdefault(_row_label(stage), []).append(stage)
    return [_row(label, stages, run.created_at, now) for label, stages in groups.items()]


def _row_label(stage: StageView) -> str:
    return "check" if stage.stage in CHECKS else PASS.sub("", stage.label)


def _row(label: str, stages: list[StageView], created_at: float, now: float) -> Row:
    state = _state(stages)
    share = 1.0 if state == "done" else _share(stages)
    made_here = [stage for stage in stages if stage.finished_at is None or stage.finished_at >= created_at]
    seconds = _seconds(made_here, state, now)  # what an earlier run had made took this one no time
    running = state == "running" and share is not None and share > MIN_SHARE_FOR_ETA
    eta = _eta(stages) if running else None
    if eta is None and running and seconds is not None and share:
        eta = seconds * (1 - share) / share
    figures = FIGURES.get(stages[0].stage, _count_rows)(stages)
    if stages[0].stage == "sample":
        figures = _join((figures, _speed(made_here, seconds)))
    if state == "running":
        figures = _join((figures, _waits(stages)))
    return Row(label, state, share, _counts(stages), figures, seconds, eta)


def _state(stages: list[StageView]) -> str:
    states = {stage.state for stage in stages}
    if "failed" in states:
        return "failed"
    if states == {"done"}:
        return "done"
    at_work = any(stage.live for stage in stages)  # a stage of one shard has no shard done until it ends
    return "waiting" if states == {"waiting"} and not at_work else "running"


def _share(stages: list[StageView]) -> float | None:
    totals = [stage.shards_total for stage in stages]
    known = [total for total in totals if total is not None]
    if not known or sum(known) == 0:
        return None
    done = sum(stage.shards_done for stage in stages)
    under_way = sum(_live_share(report) for stage in stages for report in stage.live)
    unknown = (len(totals) - len(known)) * max(known)  # a later pass has at most as many shards as the first
    return min(1.0, (done + under_way) / (sum(known) + unknown))


def _live_share(report: dict[str, Any]) -> float:
    for done, total in (("done", "total"), ("step", "steps")):
        if report.get(total):
            return min(1.0, float(report.get(done) or 0) / float(report[total]))
    return 0.0


def _seconds(stages: list[StageView], state: str, now: float) -> float | None:
    starts = [stage.started_at for stage in stages if stage.started_at is not None]
    if not starts:
        return None
    ends = [stage.finished_at for stage in stages if stage.finished_at is not None]
    end = max(ends) if state in ("done", "failed") and ends else now
    return max(0.0, end - min(starts))


def _eta(stages: list[StageView]) -> float | None:
    """What a shard says itself of its end, when it does."""
    etas = [float(report["eta_seconds"]) for report in _reports(stages) if report.get("eta_seconds") is not None]
    return max(etas) if etas else None


def _counts(stages: list[StageView]) -> str:
    steps = [report for report in _reports(stages) if report.get("steps")]
    if steps:
        return f"{int(steps[0].get('step') or 0):,}/{int(steps[0]['steps']):,} steps"
    done = sum(stage.shards_done for stage in stages)
    totals = [stage.shards_total for stage in stages]
    if all(total is None for total in totals):
        return ""
    total = sum(total or 0 for total in totals)
    more = "+" if None in totals else ""
    return f"{done:,}/{total:,}{more} shards"


# --- figures by stage ------------------------------------------------------------------------------------------------


def _reports(stages: Iterable[StageView]) -> list[dict[str, Any]]:
    return [report for stage in stages for report in stage.live]


def _waits(stages: Iterable[StageView]) -> str:
    """What shards say that they wait for, e.g. GPU memory that a training has."""
    phases = {str(report.get("phase", "")) for report in _reports(stages)}
    return ", ".join(sorted(phase for phase in phases if phase.startswith("waiting ")))


def _sum(stages: Iterable[StageView], name: str) -> float:
    """Sum of a figure over the finished shards of all stages."""
    return sum(float(stage.notes.get(name) or 0) for stage in stages)


def _join(parts: Iterable[str | None]) -> str:
    return "   ".join(part for part in parts if part)


def _count_rows(stages: list[StageView]) -> str:
    n = sum(stage.rows for stage in stages)
    return f"{n:,} rows" if n else ""


def _checks(stages: list[StageView]) -> str:
    n = sum(stage.rows for stage in stages if stage.stage == "prepare")
    return f"{n:,} problems" if n else ""


def _samples(stages: list[StageView]) -> str:
    n = sum(stage.rows for stage in stages)
    tokens, truncated = _sum(stages, "tokens"), _sum(stages, "truncated")
    spent = [stage.spent_usd for stage in stages if stage.spent_usd is not None]
    return _join(
        (
            f"{n:,} completions" if n else None,
            f"mean {tokens / n:,.0f} tok" if n and tokens else None,
            f"{truncated / n:.1%} truncated" if n and truncated else None,
            dollars(sum(spent)) if spent else None,
        )
    )


def _speed(stages: list[StageView], seconds: float | None) -> str | None:
    """Of the stage as a whole, loading included: a shard under way has counted little, since its completions end together."""
    tokens = _sum(stages, "tokens") + sum(float(report.get("tokens") or 0) for report in _reports(stages))
    return f"{short(tokens / seconds)} tok/s" if tokens and seconds else None


def _grades(stages: list[StageView]) -> str:
    counts = dict.fromkeys(VERDICTS, 0)
    for notes in (*(stage.notes for stage in stages), *_reports(stages)):
        for verdict, n in (notes.get("verdicts") or {}).items():
            counts[verdict] = counts.get(verdict, 0) + int(n)
    return " · ".join(f"{n:,} {verdict.replace('_', ' ')}" for verdict, n in counts.items() if n)


def _selected(stages: list[StageView]) -> str:
    n, kept, problems = (int(_sum(stages, name)) for name in ("rows", "problems_kept", "problems"))
    tokens = _sum(stages, "tokens")
    return _join(
        (
            f"{n:,} rows" if n else None,
            f"{kept:,} of {problems:,} problems kept" if kept else None,
            f"mean {tokens / n:,.0f} tok" if n and tokens else None,
        )
    )


def _training(stages: list[StageView]) -> str:
    latest: dict[str, Any] = {}
    for values in (*(stage.notes for stage in stages), *_reports(stages)):
        latest |= {name: value for name, value in values.items() if isinstance(value, int | float)}
    return _join(
        (
            _figure(latest, "loss", "loss {:.3f}"),
            _figure(latest, "val_loss", "validation {:.3f}"),
            f"{latest['probe_correct']:.0f} of {latest['probe_judged']:.0f} solved"
            if "probe_judged" in latest
            else None,
            _figure(latest, "probe_tokens_mean", "{:,.0f} tok each"),
            f"{short(float(latest['tokens_per_second']))} tok/s" if latest.get("tokens_per_second") else None,
        )
    )


def _figure(values: dict[str, Any], name: str, form: str) -> str | None:
    value = values.get(name)
    return None if value is None else form.format(float(value))


FIGURES: dict[str, Callable[[list[StageView]], str]] = {
    "prepare": _checks,
    "check_gold": _checks,
    "check_model": _checks,
    "check_student": _checks,
    "sample": _samples,
    "grade": _grades,
    "answers": _grades,
    "select": _selected,
    "train": _training,
    "compare": lambda stages: "",
    "report": lambda stages: "",
}


def short(number: float) -> str:
    """`38.1k`, `2.0M`, `912`."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if sign == 'k' else size):.1f}{sign}"
    return f"{number:,.0f}"


def dollars(usd: float) -> str:
    """`$1,204.50`; below a cent `$0.0042`."""
    return f"${usd:,.2f}" if usd >= 0.01 or not usd else f"${usd:.4f}"


def spending(run: RunView) -> str:
    """`$1.20 of $5.00 spent`; empty when nobody asks money."""
    if run.spent_usd is None:
        return ""
    of = "" if run.budget_usd is None else f" of {dollars(run.budget_usd)}"
    return f"{dollars(run.spent_usd)}{of} spent"


def clock(seconds: float) -> str:
    """`4s`, `12m 40s`, `1h 05m`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def stopwatch(seconds: float) -> str:
    """`00:41:07`; hours go on beyond a day."""
    whole = int(max(0.0, seconds))
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"

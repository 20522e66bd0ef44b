"""How the rounds of the newest run went, from its status and specs: survives every restart, and grows while the run goes on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import NotFound
from overproof.shared.runs import RunStatus, StageStatus
from overproof.shared.specs import SampleSpec

ROUNDS_SHOWN = 20
"""Label values stay few, whatever a recipe asks for."""


class Part(NamedTuple):
    """Whose completions: the labels of the gauges."""

    role: str
    round: str
    problems: str
    """`train` or `test`."""


def rounds(status: RunStatus, artifacts: Artifacts) -> Iterator[Metric]:
    """Tokens per solution, truncated share and verdict shares by role, round and problem set; the kept share by round and policy."""
    stages = {stage.ref: stage for stage in status.stages}
    sampled: defaultdict[Part, Counter[str]] = defaultdict(Counter)
    verdicts: defaultdict[Part, Counter[str]] = defaultdict(Counter)
    for name, ref in status.artifacts.items():
        kind, _, place = name.partition("/")
        if kind != "completions" or ref not in stages or (part := _part(place, ref, artifacts)) is None:
            continue
        sampled[part].update(_figures(stages[ref]))
        graded = stages.get(status.artifacts.get(f"grades/{place}", ""))
        verdicts[part].update(dict(graded.notes.get("verdicts", {})) if graded else {})
    yield _ratio("overproof_round_tokens_mean", "Mean tokens per completion.", sampled, "tokens")
    yield _ratio(
        "overproof_round_truncated_ratio", "Share of completions cut at the token limit.", sampled, "truncated"
    )
    yield _verdicts(verdicts)
    yield _kept(status, stages)


def _part(place: str, ref: str, artifacts: Artifacts) -> Part | None:
    try:
        spec = artifacts.spec(ref)
    except NotFound:  # nobody has asked for it yet
        return None
    if not isinstance(spec, SampleSpec) or spec.round > ROUNDS_SHOWN:
        return None
    return Part(str(spec.role), str(spec.round), "test" if place.startswith("test/") else "train")


def _figures(stage: StageStatus) -> dict[str, int]:
    return {name: int(stage.notes.get(name, 0)) for name in ("completions", "tokens", "truncated")}


def _ratio(name: str, text: str, sampled: dict[Part, Counter[str]], figure: str) -> Metric:
    family = GaugeMetricFamily(name, f"{text} Of the newest run that has sampled.", labels=Part._fields)
    for part, sums in sampled.items():
        if sums["completions"]:
            family.add_metric(part, sums[figure] / sums["completions"])
    return family


def _verdicts(verdicts: dict[Part, Counter[str]]) -> Metric:
    text = "Share of the completions with this verdict. Of the newest run that has sampled."
    family = GaugeMetricFamily("overproof_round_verdict_ratio", text, labels=(*Part._fields, "verdict"))
    for part, counts in verdicts.items():
        for verdict, n in counts.items():
            family.add_metric((*part, verdict), n / counts.total())
    return family


def _kept(status: RunStatus, stages: dict[str, StageStatus]) -> Metric:
    text = "Share of the training problems that a selection kept. Of the newest run that has sampled."
    family = GaugeMetricFamily("overproof_round_kept_ratio", text, labels=("round", "policy"))
    for name, ref in status.artifacts.items():
        kind, *place = name.split("/")
        notes = stages[ref].notes if ref in stages else {}
        if kind == "selected" and len(place) == 2 and notes.get("problems"):
            family.add_metric((place[0].removeprefix("round-"), place[1]), notes["problems_kept"] / notes["problems"])
    return family

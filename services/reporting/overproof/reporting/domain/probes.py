"""What students wrote while they were trained: accuracy and tokens over the steps, with intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from overproof.reporting.domain.material import ArmFacts, Material, Row
from overproof.reporting.domain.statistics import Estimate, Z, no_data, wilson


class Probe(NamedTuple):
    """One probe of one student."""

    label: str
    step: int
    accuracy: Estimate
    """Wilson interval; no data where no verdict was asked for."""
    tokens: Estimate
    """Mean ± 1.96 standard errors; where solutions were cut off, a lower bound."""
    truncated_share: float


def probes(material: Material) -> list[Probe]:
    """All probes, student by student, in order of the steps."""
    return [_probe(one.arm.label, line) for one in material.arms for line in _lines(one)]


def _lines(one: ArmFacts) -> list[Row]:
    return sorted((line for line in one.metrics if "probe_n" in line), key=lambda line: line["step"])


def _probe(label: str, line: Row) -> Probe:
    n, correct = line.get("probe_judged", 0), line.get("probe_correct", 0)
    accuracy = wilson(np.repeat([1.0, 0.0], [correct, n - correct])) if n else no_data()
    mean, half = line["probe_tokens_mean"], Z * line["probe_tokens_error"]
    tokens = Estimate(mean, max(0.0, mean - half), mean + half, line["probe_n"])
    return Probe(label, line["step"], accuracy, tokens, line["probe_truncated_share"])


def finding(material: Material) -> str:
    """First and last probe of each student, in a sentence; empty without probes."""
    found = probes(material)
    labels = dict.fromkeys(one.label for one in found)
    return " ".join(_course([one for one in found if one.label == label]) for label in labels)


def _course(mine: list[Probe]) -> str:
    first, last = mine[0], mine[-1]
    says = f"{first.label}, on {last.tokens.n} validation problems from step {first.step} to {last.step}: "
    if last.accuracy.n and first.accuracy.n:
        says += f"accuracy {first.accuracy:.1%} → {last.accuracy:.1%}, "
    return says + f"mean tokens {first.tokens.value:.0f} → {last.tokens.value:.0f}."

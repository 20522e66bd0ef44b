"""Verdicts by model."""

from __future__ import annotations

import altair as alt

from overproof.reporting.adapters.charts.theme import VERDICT_NAMES, WIDTH, Palette, rows
from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Material, Row
from overproof.shared.topology import Verdict


def chart(material: Material, palette: Palette) -> alt.Chart:
    """Shares of the six verdicts, one bar per model."""
    values: list[Row] = []
    for label in material.labels:
        counts = material.facts["models"][label]["verdicts"]
        total, reached = sum(counts.values()) or 1, 0.0
        for name, n in counts.items():
            share = n / total
            values.append({
                "model": label, "verdict": VERDICT_NAMES[Verdict(name)], "from": reached, "to": reached + share,
                "says": f"{label}: {n:,} {VERDICT_NAMES[Verdict(name)]} ({wording.share(share)})",
            })  # fmt: skip
            reached += share
    names = list(VERDICT_NAMES.values())
    scale = alt.Scale(domain=names, range=[palette[str(verdict)] for verdict in Verdict])
    return (
        alt.Chart(rows([value for value in values if value["to"] > value["from"]]))
        .mark_bar(height=20, stroke=palette["paper"], strokeWidth=1)
        .encode(
            x=alt.X("from:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%", grid=False, tickCount=5)),
            x2="to:Q",
            y=alt.Y("model:N", sort=material.labels, title=None, axis=alt.Axis(domain=False, ticks=False, labelColor=palette["ink"])),
            color=alt.Color("verdict:N", scale=scale, legend=alt.Legend(title=None, columns=6)),
            description="says:N",
        )
        .properties(width=WIDTH - 120, height=32 * len(material.labels))
    )  # fmt: skip

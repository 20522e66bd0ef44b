"""Accuracy and tokens on a few validation problems over the steps of a training."""

from __future__ import annotations

from typing import Any

import altair as alt

from overproof.reporting.adapters.charts.theme import WIDTH, Palette, by_model, rows
from overproof.reporting.domain.material import Row
from overproof.reporting.domain.probes import Probe
from overproof.reporting.domain.statistics import Estimate


def chart(found: list[Probe], palette: Palette) -> alt.HConcatChart:
    """Two panels: share of solved problems, mean tokens of a solution; whiskers are 95 % intervals."""
    accuracy = [_point(one, one.accuracy, ".1%") for one in found if one.accuracy.n]
    tokens = [_point(one, one.tokens, ",.1f") for one in found]
    n = max(one.tokens.n for one in found)
    panels = [_panel(tokens, f"mean tokens (n = {n})", {"format": ",.0f"}, palette)]
    if accuracy:
        panels.insert(0, _panel(accuracy, f"solved (n = {n})", {"format": ".0%"}, palette))
    return alt.hconcat(*panels, spacing=36)


def _panel(points: list[Row], title: str, axis: dict[str, Any], palette: Palette) -> alt.LayerChart:
    top = max(point["high"] for point in points) or 1.0
    y: dict[str, Any] = {
        "title": title, "axis": alt.Axis(tickCount=5, **axis), "scale": alt.Scale(domain=[0, top], nice=True),
    }  # fmt: skip
    x = alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=5))
    base = alt.Chart(rows(points)).encode(x=x, color=by_model(palette))
    return alt.layer(
        base.mark_line(strokeWidth=1.5, opacity=0.9).encode(y=alt.Y("value:Q", **y)),
        base.mark_rule(strokeWidth=2, opacity=0.5).encode(y=alt.Y("low:Q", **y), y2="high:Q"),
        base.mark_circle(size=55, opacity=1).encode(y=alt.Y("value:Q", **y), description="says:N"),
    ).properties(width=WIDTH // 2 - 44, height=200)


def _point(one: Probe, value: Estimate, number: str) -> Row:
    return {
        "model": one.label, "step": one.step, "value": value.value, "low": value.low, "high": value.high,
        "says": f"{one.label}, step {one.step}: {format(value, number)}, n = {value.n}, {one.truncated_share:.0%} cut off",
    }  # fmt: skip

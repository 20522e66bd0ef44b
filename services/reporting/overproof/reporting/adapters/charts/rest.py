"""Token ratios on problems that both solve; verdicts by model; the course of training."""

from __future__ import annotations

from typing import Any

import altair as alt

from overproof.reporting.adapters.charts.theme import VERDICT_NAMES, WIDTH, Palette, by_model, rows
from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Material, Row, from_json
from overproof.reporting.domain.summary import BINS_PER_DOUBLING
from overproof.shared.topology import Verdict

MAX_CURVE_POINTS = 300
"""Per training: more than pixels would only make the page longer."""


def ratios(contrast: Row, palette: Palette) -> alt.LayerChart:
    """Histogram of tokens(first) / tokens(second) per problem, log2; the ratio of the means with its interval above it."""
    half = 0.5 / BINS_PER_DOUBLING
    bars = [
        {
            "low": one["doublings"] - half, "high": one["doublings"] + half, "count": one["count"],
            "floor": 0, "side": "shorter" if one["doublings"] < 0 else "longer" if one["doublings"] > 0 else "same",
            "says": f"about {2 ** one['doublings']:.2f} times the tokens: {wording.plural(one['count'], 'problem')}",
        }
        for one in contrast["ratios"]
    ]  # fmt: skip
    edges = [bar[end] for bar in bars for end in ("low", "high")]
    reach = max(1.0, *(abs(edge) for edge in edges))
    x: dict[str, Any] = {
        "scale": alt.Scale(domain=[-reach, reach], nice=False),
        "axis": alt.Axis(
            values=list(range(-int(reach), int(reach) + 1)), grid=False,
            labelExpr="datum.value < 0 ? '1/' + pow(2, -datum.value) : pow(2, datum.value) + '×'",
        ),
        "title": f"tokens of {contrast['first']} / tokens of {contrast['second']}, same problem",
    }  # fmt: skip
    colours = alt.Scale(
        domain=["shorter", "same", "longer"],
        range=[palette.models[contrast["first"]], palette["teacher"], palette["base"]],
    )
    top = max(bar["count"] for bar in bars)
    y: dict[str, Any] = {"scale": alt.Scale(domain=[0, top * 1.25], nice=False)}
    drawn = alt.Chart(rows(bars)).mark_bar(stroke=palette["paper"], strokeWidth=1, opacity=0.85).encode(
        x=alt.X("low:Q", **x), x2="high:Q", y2="floor:Q",
        y=alt.Y("count:Q", title="problems", axis=alt.Axis(tickCount=4, format="d"), **y),
        color=alt.Color("side:N", scale=colours, legend=None), description="says:N",
    )  # fmt: skip
    one = alt.Chart(rows([{"at": 0}])).mark_rule(color=palette["muted"], strokeDash=[3, 3]).encode(x=alt.X("at:Q", **x))
    return alt.layer(drawn, one, *_mean_ratio(contrast, x, y, top, palette)).properties(width=WIDTH, height=220)


def _mean_ratio(contrast: Row, x: Row, y: Row, top: int, palette: Palette) -> list[alt.Chart]:
    ratio = from_json(contrast["tokens_ratio_same_problems"])
    value = {"at": ratio.value, "low": ratio.low, "high": ratio.high, "y": top * 1.13, "says": wording.times(ratio)}
    base = alt.Chart(rows([value])).transform_calculate(
        x="log(datum.at) / log(2)", from_="log(datum.low) / log(2)", to="log(datum.high) / log(2)"
    )
    height = alt.Y("y:Q", title="problems", **y)
    return [
        base.mark_rule(strokeWidth=2, color=palette["ink"]).encode(x=alt.X("from_:Q", **x), x2="to:Q", y=height),
        base.mark_circle(size=70, color=palette["ink"], opacity=1).encode(
            x=alt.X("x:Q", **x), y=height, description="says:N"
        ),
        base.mark_text(dy=-11, fontWeight=600, color=palette["ink"]).encode(
            x=alt.X("x:Q", **x), y=height, text="says:N"
        ),
    ]


def verdicts(material: Material, palette: Palette) -> alt.Chart:
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


def curves(material: Material, palette: Palette) -> alt.HConcatChart:
    """Loss (line) and validation loss (points) by step; beside it tokens per second."""
    trained = [one for one in material.arms if one.metrics]
    losses = [_on_curve(one.arm.label, line, "loss") for one in trained for line in _thinned(one.metrics, "loss")]
    held = [_on_curve(one.arm.label, line, "val_loss") for one in trained for line in one.metrics if "val_loss" in line]
    speeds = [
        _on_curve(one.arm.label, line, "tokens_per_second")
        for one in trained
        for line in _thinned(one.metrics, "tokens_per_second")
    ]
    x = alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=5))
    left = alt.layer(
        _line(losses, x, "loss (points: validation)", palette),
        alt.Chart(rows(held)).mark_circle(size=55, opacity=1, stroke=palette["paper"], strokeWidth=1).encode(
            x=x, y="value:Q", color=by_model(palette), description="says:N"
        ),
        *_ends(losses, x, palette),
    )  # fmt: skip
    right = _line(speeds, x, "tokens per second", palette)
    return alt.hconcat(
        left.properties(width=WIDTH // 2 - 20, height=200),
        right.properties(width=WIDTH // 2 - 64, height=200),
        spacing=36,
    )


def _line(values: list[Row], x: alt.X, title: str, palette: Palette) -> alt.Chart:
    mark = alt.Chart(rows(values)).mark_line(strokeWidth=1.5, opacity=0.9)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=5, format=","))
    return mark.encode(x=x, y=y, color=by_model(palette))


def _ends(values: list[Row], x: alt.X, palette: Palette) -> list[alt.Chart]:
    """The name of each curve near its start, where curves differ most, one below the other."""
    labels = list(dict.fromkeys(value["model"] for value in values))
    named = [{"model": label, "y": 10 + 16 * i} for i, label in enumerate(labels)]
    mark = alt.Chart(rows(named)).mark_text(align="right", fontWeight=600)
    return [
        mark.encode(
            x=alt.value(WIDTH // 2 - 24), y=alt.Y("y:Q", scale=None, axis=None), text="model:N", color=by_model(palette)
        )
    ]


def _thinned(metrics: tuple[Row, ...], name: str) -> list[Row]:
    """Evenly spaced lines that have the value, the last one always."""
    lines = [line for line in metrics if name in line]
    stride = max(1, len(lines) // MAX_CURVE_POINTS)
    return lines[::stride] + (lines[-1:] if (len(lines) - 1) % stride else [])


def _on_curve(label: str, line: Row, name: str) -> Row:
    return {
        "model": label,
        "step": line["step"],
        "value": line[name],
        "says": f"{label}, step {line['step']}: {line[name]:.4g}",
    }

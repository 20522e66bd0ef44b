"""The course of training."""

from __future__ import annotations

import altair as alt

from overproof.reporting.adapters.charts.theme import WIDTH, Palette, by_model, rows
from overproof.reporting.domain.material import Material, Row

MAX_CURVE_POINTS = 300
"""Per training: more than pixels would only make the page longer."""


def chart(material: Material, palette: Palette) -> alt.HConcatChart:
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

"""Where: accuracy by model and level, by model and subject, and the change by subject."""

from __future__ import annotations

from typing import Any

import altair as alt

from overproof.reporting.adapters.charts.theme import WIDTH, Palette, rows
from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Material, Row, estimate

CELL_PIXELS = 30
LABELS_PIXELS = 190
"""Left of every chart here, so that they stand below each other."""
LABEL_CHARS = 30
CROWD = 5
"""From this many models on, n stands in the row's name and not in each cell, and models are written aslant."""


def heatmap(material: Material, palette: Palette, name: str) -> alt.LayerChart:
    """`name`: level or type. One row per value, one column per model; accuracy and n in each cell."""
    crowded = len(material.labels) >= CROWD
    cells = [_cell(row, name, crowded) for row in material.sliced(name)]
    order = list(dict.fromkeys(cell["value"] for cell in cells))
    x = alt.X(
        "model:N",
        sort=material.labels,
        title=None,
        axis=alt.Axis(
            orient="top",
            labelAngle=-35 if crowded else 0,
            domain=False,
            ticks=False,
            labelColor=palette["ink"],
            labelLimit=150,
        ),
        scale=alt.Scale(paddingInner=0.04),
    )
    y = alt.Y(
        "value:N", sort=order, title=None, axis=_names(palette),
        scale=alt.Scale(paddingInner=0.08),
    )  # fmt: skip
    base = alt.Chart(rows(cells)).encode(x=x, y=y)
    return alt.layer(
        base.mark_rect(color=palette["heat"], cornerRadius=3).encode(
            fillOpacity=alt.Opacity("accuracy:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.62]), legend=None),
            description="says:N",
        ),
        base.mark_text(dx=0 if crowded else -12, fontWeight=600).encode(text="text:N"),
        base.mark_text(dx=26, fontSize=10, color=palette["muted"]).encode(text="n:N"),
    ).properties(width=min(WIDTH - LABELS_PIXELS, 130 * len(material.labels)), height=CELL_PIXELS * len(order))


def _names(palette: Palette) -> alt.Axis:
    return alt.Axis(
        domain=False, ticks=False, labelColor=palette["ink"], minExtent=LABELS_PIXELS, maxExtent=LABELS_PIXELS, labelLimit=LABELS_PIXELS
    )  # fmt: skip


def _cell(row: Row, name: str, crowded: bool) -> Row:
    accuracy = estimate(row, "accuracy")
    value = f"Level {row['value']}" if name == "level" else row["value"][:LABEL_CHARS]
    return {
        "model": row["model"],
        "value": f"{value} (n={accuracy.n})" if crowded else value,
        "accuracy": None if accuracy.value != accuracy.value else accuracy.value,
        "text": wording.share(row["accuracy"], 0),
        "n": "" if crowded else f"n={accuracy.n}",
        "says": f"{row['model']}, {row['value']}: {wording.accuracy(accuracy)}, n = {accuracy.n}",
    }


def changes(material: Material, palette: Palette) -> alt.LayerChart:
    """The best model's change against the baseline by subject, largest first, with intervals."""
    values = [
        _change(row)
        for row in material.sliced("type")
        if row["model"] == material.best and row["accuracy_difference"] is not None
    ]
    values.sort(key=lambda value: -value["value"])
    y = alt.Y(
        "type:N", sort=[value["type"] for value in values], title=None,
        axis=_names(palette),
    )  # fmt: skip
    low, high = min(0.0, *(value["low"] for value in values)), max(0.0, *(value["high"] for value in values))
    scale = alt.Scale(domain=[low - 0.02, high + 0.02], nice=False)
    axis = alt.Axis(labelExpr="format(datum.value * 100, '+.0f')", tickCount=8)
    x: dict[str, Any] = {"scale": scale, "title": f"points of accuracy against {material.baseline}", "axis": axis}
    base = alt.Chart(rows(values)).encode(y=y)
    colour = palette.models[material.best] if material.best else palette["ink"]
    return alt.layer(
        alt.Chart(rows([{"zero": 0}]))
        .mark_rule(color=palette["muted"], strokeDash=[3, 3])
        .encode(x=alt.X("zero:Q", **x)),
        base.mark_rule(color=colour, strokeWidth=2, opacity=0.7).encode(x=alt.X("low:Q", **x), x2="high:Q"),
        base.mark_circle(color=colour, size=90, opacity=1).encode(x=alt.X("value:Q", **x), description="says:N"),
    ).properties(width=min(WIDTH - LABELS_PIXELS, 130 * len(material.labels)), height=26 * max(1, len(values)))


def _change(row: Row) -> Row:
    change = estimate(row, "accuracy_difference")
    return {
        "type": row["value"][:LABEL_CHARS],
        "value": change.value,
        "low": change.low,
        "high": change.high,
        "says": f"{row['value']}: {wording.points(change)}, n = {change.n}",
    }

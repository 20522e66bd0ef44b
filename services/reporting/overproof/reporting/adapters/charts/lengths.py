"""How long the answers are: a ridgeline of finished answers on a log2 axis, and beside it the share that was cut off."""

from __future__ import annotations

from typing import Any

import altair as alt

from overproof.reporting.adapters.charts.theme import WIDTH, Palette, by_model, rows
from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Material, Row
from overproof.reporting.domain.summary import BINS_PER_DOUBLING

ROW_PIXELS = 50
OVERLAP = 1.6
"""How many rows high the highest ridge is."""
BAR_PIXELS = 120


def chart(material: Material, palette: Palette) -> alt.HConcatChart:
    """Ridges on the left (areas are shares of all answers), bars of truncated shares on the right."""
    labels = material.labels
    height = round(ROW_PIXELS * (len(labels) + OVERLAP - 1)) + 4
    ridges = alt.layer(*_ridges(material, palette, labels, height)).properties(
        width=WIDTH - BAR_PIXELS - 130, height=height
    )
    return alt.hconcat(ridges, _bars(material, palette, labels, height), spacing=24)


def _ridges(material: Material, palette: Palette, labels: list[str], height: int) -> list[Any]:
    shapes = {label: shape(material.facts["models"][label]["lengths"]) for label in labels}
    top = max((point["share"] for points in shapes.values() for point in points), default=1.0) or 1.0
    steps = [point["doublings"] for points in shapes.values() for point in points] or [0.0, 1.0]
    x = alt.X(
        "doublings:Q",
        title="tokens of finished answers (each step doubles)",
        scale=alt.Scale(domain=[min(steps), max(steps)], nice=False, zero=False),
        axis=alt.Axis(
            values=list(range(int(min(steps)), int(max(steps)) + 2)), labelExpr="format(pow(2, datum.value), ',.0f')"
        ),
    )
    layers: list[Any] = []
    for i, label in enumerate(labels):
        floor = _floor(i, len(labels), height)
        points = [
            point | {"model": label, "y": floor - point["share"] / top * ROW_PIXELS * OVERLAP, "floor": floor}
            for point in shapes[label]
        ]
        layers += _ridge(points, x, palette, label, floor, height, _says(material, label))
    return layers


def _ridge(
    points: list[Row], x: alt.X, palette: Palette, label: str, floor: float, height: int, says: str
) -> list[Any]:
    y = alt.Y("y:Q", scale=_rows_scale(height), axis=None)
    named = [{"model": label, "y": floor - 9, "says": says}]
    area = alt.Chart(rows(points)).mark_area(
        interpolate="monotone",
        fill=palette.models[label],
        fillOpacity=0.35,
        stroke=palette.models[label],
        strokeWidth=1.5,
        line=False,
    )
    text = alt.Chart(rows(named)).mark_text(align="right", fontWeight=600, fontSize=12, color=palette.models[label])
    return [
        area.encode(x=x, y=y, y2="floor:Q", description=alt.value(says)),
        text.encode(x=alt.value(-12), y=alt.Y("y:Q", scale=_rows_scale(height), axis=None), text="model:N"),
    ]


def _floor(i: int, n: int, height: int) -> float:
    """Where row i of n stands."""
    return float(height - ROW_PIXELS * (n - 1 - i) - 1)


def _rows_scale(height: int) -> alt.Scale:
    """Pixels from the top."""
    return alt.Scale(domain=[height, 0], nice=False, zero=False, padding=0)


def _says(material: Material, label: str) -> str:
    row = material.overall[label]
    return (
        f"{label}: median {wording.count(row['tokens_median'])}, p95 {wording.count(row['tokens_p95'])} tokens, "
        f"{wording.share(row['truncated_share'])} truncated"
    )


def shape(lengths: Row) -> list[Row]:
    """The histogram as a closed curve: every bin between the first and the last, zeros included, as shares of all answers."""
    total = lengths["finished"] + lengths["truncated"]
    counts = {round(one["doublings"] * BINS_PER_DOUBLING): one["count"] for one in lengths["bins"]}
    if not counts or not total:
        return []
    return [
        {"doublings": step / BINS_PER_DOUBLING, "share": counts.get(step, 0) / total}
        for step in range(min(counts) - 1, max(counts) + 2)
    ]


def _bars(material: Material, palette: Palette, labels: list[str], height: int) -> alt.LayerChart:
    values = [
        {
            "model": label,
            "share": material.overall[label]["truncated_share"],
            "text": wording.share(material.overall[label]["truncated_share"]),
            "y": _floor(i, len(labels), height) - 11,
        }
        for i, label in enumerate(labels)
    ]
    top = max([0.05, *(value["share"] for value in values)]) * 1.5
    base = alt.Chart(rows(values)).encode(
        y=alt.Y("y:Q", scale=_rows_scale(height), axis=None),
        x=alt.X(
            "share:Q",
            title="truncated",
            scale=alt.Scale(domain=[0, top], nice=False),
            axis=alt.Axis(format=".0%", tickCount=3, grid=False),
        ),
    )
    return alt.layer(
        base.mark_bar(orient="horizontal", size=16, opacity=0.85).encode(color=by_model(palette), description="text:N"),
        base.mark_text(align="left", dx=5).encode(text="text:N"),
    ).properties(width=BAR_PIXELS, height=height)

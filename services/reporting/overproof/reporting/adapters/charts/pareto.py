"""Accuracy against tokens: up and left is better."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import altair as alt

from overproof.reporting.adapters.charts.theme import WIDTH, Palette, by_model, rows
from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Material, Row, estimate

HEIGHT = 380
CHAR_PIXELS = 7.0
"""Mean width of a character of a label, for keeping labels apart."""
LABEL_PIXELS = 15


class Box(NamedTuple):
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


class Place(NamedTuple):
    """Where a label stands, relative to its point."""

    dx: int
    dy: int
    align: str


PLACES = [
    Place(9, -10, "left"), Place(9, 14, "left"), Place(-9, -10, "right"), Place(-9, 14, "right"),
    Place(9, -26, "left"), Place(9, 30, "left"), Place(-9, -26, "right"), Place(-9, 30, "right"),
]  # fmt: skip
"""Diagonal, so that no label lies on its own whiskers."""


class Frame(NamedTuple):
    """The domains of both axes, and from them pixels."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a value; x is logarithmic."""
        across = math.log(x / self.x[0]) / math.log(self.x[1] / self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return across * WIDTH, (1 - up) * HEIGHT


def chart(material: Material, palette: Palette, *, title: alt.TitleParams | None = None) -> alt.LayerChart:
    """Points with whiskers on both axes, each named beside it; rounds of one policy joined."""
    points = [_point(material, label) for label in material.labels if _drawable(material.overall[label])]
    frame = _frame(points)
    across = alt.Scale(type="log", domain=list(frame.x), nice=False)
    up = alt.Scale(domain=list(frame.y), nice=False)
    x = alt.X(
        "tokens:Q",
        title="mean tokens per answer (logarithmic)",
        scale=across,
        axis=alt.Axis(grid=True, values=_ticks(frame.x), format=",d"),
    )
    y = alt.Y(
        "accuracy:Q",
        title="accuracy",
        scale=up,
        axis=alt.Axis(format=".0%", tickCount=6),
    )
    base = alt.Chart(rows(points)).encode(color=by_model(palette))
    layers: list[Any] = [
        _joined(material, points, x, y, palette),
        base.mark_rule(strokeWidth=1.5, opacity=0.75).encode(
            x=x, y=alt.Y("accuracy_low:Q", scale=up), y2="accuracy_high:Q"
        ),
        base.mark_rule(strokeWidth=1.5, opacity=0.75).encode(
            y=y, x=alt.X("tokens_low:Q", scale=across), x2="tokens_high:Q"
        ),
        base.mark_circle(size=130, opacity=1).encode(x=x, y=y, description="says:N"),
        *(_label(point, place, x, y, palette) for point, place in zip(points, places(points, frame), strict=True)),
        _hint(palette),
    ]
    drawn = alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)
    return drawn.properties(title=title) if title else drawn


def _drawable(row: Row) -> bool:
    return row["accuracy"] is not None and row["tokens_mean"] is not None and row["tokens_mean"] > 0


def _point(material: Material, label: str) -> Row:
    row = material.overall[label]
    accuracy, tokens = estimate(row, "accuracy"), estimate(row, "tokens_mean")
    return {
        "model": label,
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "tokens": tokens.value,
        "tokens_low": tokens.low,
        "tokens_high": tokens.high,
        "round": row["round"],
        "series": material.policy_of(label),
        "says": f"{label}: {wording.accuracy(accuracy)} accurate, {tokens:,.0f} tokens, n = {accuracy.n}",
    }


def _frame(points: list[Row]) -> Frame:
    low, high = min(point["tokens_low"] for point in points), max(point["tokens_high"] for point in points)
    bottom, top = min(point["accuracy_low"] for point in points), max(point["accuracy_high"] for point in points)
    margin = max(0.03, 0.12 * (top - bottom))
    room = max(1.12, (high / low) ** 0.12)
    return Frame((low / room, high * room), (max(0.0, bottom - margin), min(1.0, top + margin)))


def _ticks(domain: tuple[float, float]) -> list[float]:
    """1, 2, 3, 5 times powers of ten within the domain; finer where those are fewer than three."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(1 + i / 10 for i in range(90))):
        ticks = [step * 10**power for power in range(7) for step in steps]
        inside = [tick for tick in ticks if domain[0] <= tick <= domain[1] and tick == int(tick)]
        if len(inside) >= 3:
            return inside[:: max(1, len(inside) // 8)]
    return [round(domain[0]), round(domain[1])]


def _joined(material: Material, points: list[Row], x: alt.X, y: alt.Y, palette: Palette) -> alt.Chart:
    """A line from the baseline through the rounds of each policy."""
    students = [point for point in points if point["model"] in material.students]
    start = [point | {"round": -1} for point in points if point["model"] == material.baseline]
    students += [point | {"series": name} for point in start for name in sorted({one["series"] for one in students})]
    return (
        alt.Chart(rows(students))
        .mark_line(strokeWidth=1.5, strokeDash=[4, 4], color=palette["muted"], opacity=0.55)
        .encode(x=x, y=y, detail="series:N", order="round:Q")
    )


def places(points: list[Row], frame: Frame) -> list[Place]:
    """A place for each label, one after the other: the first that overlaps least with points, whiskers and earlier labels."""
    taken = [box for point in points for box in _marks(point, frame)]
    chosen = []
    for point in points:
        cost = {place: _cost(_box(point, place, frame), taken) for place in PLACES}
        place = min(PLACES, key=cost.__getitem__)
        taken.append(_box(point, place, frame))
        chosen.append(place)
    return chosen


def _marks(point: Row, frame: Frame) -> list[Box]:
    x, y = frame.at(point["tokens"], point["accuracy"])
    left, bottom = frame.at(point["tokens_low"], point["accuracy_low"])
    right, top = frame.at(point["tokens_high"], point["accuracy_high"])
    return [Box(x - 7, y - 7, x + 7, y + 7), Box(left, y - 1, right, y + 1), Box(x - 1, top, x + 1, bottom)]


def _box(point: Row, place: Place, frame: Frame) -> Box:
    x, y = frame.at(point["tokens"], point["accuracy"])
    length = CHAR_PIXELS * len(point["model"])
    left = x + place.dx - (length if place.align == "right" else 0)
    middle = y + place.dy
    return Box(left, middle - LABEL_PIXELS / 2, left + length, middle + LABEL_PIXELS / 2)


def _cost(box: Box, taken: list[Box]) -> float:
    inside = Box(0, 0, WIDTH, HEIGHT)
    outside = (box.right - box.left) * (box.bottom - box.top) - box.overlap(inside)
    return 10 * outside + sum(box.overlap(other) for other in taken)


def _label(point: Row, place: Place, x: alt.X, y: alt.Y, palette: Palette) -> alt.Chart:
    mark = alt.Chart(rows([point])).mark_text(
        dx=place.dx, dy=place.dy, align=place.align, fontSize=13, fontWeight=600, color=palette.models[point["model"]]
    )
    return mark.encode(x=x, y=y, text="model:N")


def _hint(palette: Palette) -> alt.Chart:
    mark = alt.Chart(rows([{"text": "↖ better"}])).mark_text(
        align="left", baseline="top", color=palette["muted"], fontSize=12
    )
    return mark.encode(x=alt.value(8), y=alt.value(8), text="text:N")

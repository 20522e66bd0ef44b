"""Over rounds: accuracy and tokens, and below it what became of the completions that were sampled."""

from __future__ import annotations

from typing import Any

import altair as alt

from overproof.reporting.adapters.charts.theme import WIDTH, Palette, by_model, rows
from overproof.reporting.domain import wording
from overproof.reporting.domain.material import ArmFacts, Material, Row, estimate

HEIGHT = 200
ROOM_FOR_NAMES = 0.37
"""Beyond the last round, as a share of what is left of it: some 75 pixels."""
NAME_PIXELS = 14
MANY_ROUNDS = 4
"""From here on a tick says `4`, not `round 4`."""
STEPS = ("sampled", "correct", "selected", "trained on")


def trends(material: Material, palette: Palette) -> alt.HConcatChart:
    """Two panels side by side; students of one policy are joined, starting at the baseline."""
    return alt.hconcat(
        _panel(material, palette, "accuracy", "accuracy", ".0%"),
        _panel(material, palette, "tokens_mean", "mean tokens per answer", ",.0f"),
        spacing=40,
    )


def _panel(material: Material, palette: Palette, name: str, title: str, number: str) -> alt.LayerChart:
    points = _points(material, name, number)
    shown = [point for point in points if point["model"] != material.teacher]
    last = max((point["round"] for point in points), default=0)
    x = alt.X(
        "x:Q",
        title=None,
        scale=alt.Scale(domain=[-0.25, last + ROOM_FOR_NAMES * (last + 0.25)], nice=False, zero=False),
        axis=alt.Axis(
            values=list(range(last + 1)),
            grid=False,
            labelExpr=f"datum.value == 0 ? '{_quoted(material.baseline)}' : '{'round ' if last < MANY_ROUNDS else ''}' + datum.value",
        ),
    )
    top = max((point["high"] for point in points), default=1.0)
    low = min((point["low"] for point in points), default=0.0)
    domain = (max(0.0, low - 0.1 * (top - low)), top + 0.06 * (top - low) or 1.0)
    scale = alt.Scale(domain=list(domain), nice=False, zero=False)
    y: dict[str, Any] = {"scale": scale, "title": title, "axis": alt.Axis(format=number, tickCount=5)}
    base = alt.Chart(rows(shown)).encode(x=x, color=by_model(palette))
    return alt.layer(
        _joined(material, shown, x, y, palette),
        base.mark_rule(strokeWidth=2, opacity=0.7).encode(y=alt.Y("low:Q", **y), y2="high:Q"),
        base.mark_circle(size=90, opacity=1).encode(y=alt.Y("value:Q", **y), description="says:N"),
        *_names(shown, last, domain, x, palette),
        *_teacher(material, points, y, palette),
    ).properties(width=WIDTH // 2 - 44, height=HEIGHT)


def _quoted(label: str) -> str:
    """For an expression: letters, digits and spaces only."""
    return "".join(char for char in label if char.isalnum() or char in " -_.·")


def _points(material: Material, name: str, number: str) -> list[Row]:
    policies = list(dict.fromkeys(material.policy_of(label) for label in material.students))
    points = []
    for label in material.labels:
        value, row = estimate(material.overall[label], name), material.overall[label]
        if value.value != value.value:
            continue
        policy = material.policy_of(label)
        shift = 0.12 * (policies.index(policy) - (len(policies) - 1) / 2) if policy in policies else 0.0
        at = 0 if label == material.baseline else row["round"]
        points.append({
            "model": label, "policy": policy, "round": at, "x": at + shift, "value": value.value, "low": value.low,
            "high": value.high, "says": f"{label}: {format(value, number)}, n = {value.n}",
        })  # fmt: skip
    return points


def _joined(material: Material, points: list[Row], x: alt.X, y: Row, palette: Palette) -> alt.Chart:
    start = [point for point in points if point["model"] == material.baseline]
    students = [point for point in points if point["model"] in material.students]
    series = {point["policy"] for point in students}
    line = students + [point | {"policy": policy} for point in start for policy in sorted(series)]
    mark = alt.Chart(rows(line)).mark_line(strokeWidth=1.5, strokeDash=[4, 3], color=palette["muted"], opacity=0.7)
    return mark.encode(x=x, y=alt.Y("value:Q", **y), detail="policy:N", order="round:O")


def _names(points: list[Row], last: int, domain: tuple[float, float], x: alt.X, palette: Palette) -> list[alt.Chart]:
    """The policy beside each point of the last round, pushed apart where two would touch."""
    named: list[Row] = []
    for point in sorted((one for one in points if one["round"] == last), key=lambda one: -one["value"]):
        at = (1 - (point["value"] - domain[0]) / (domain[1] - domain[0])) * HEIGHT
        at = max(at, named[-1]["at"] + NAME_PIXELS) if named else at
        named.append(point | {"at": at})
    mark = alt.Chart(rows(named)).mark_text(align="left", dx=9, fontWeight=600)
    return [mark.encode(x=x, y=alt.Y("at:Q", scale=None, axis=None), text="policy:N", color=by_model(palette))]


def _teacher(material: Material, points: list[Row], y: Row, palette: Palette) -> list[alt.Chart]:
    """A level line for the teacher, named on it."""
    mine = [point for point in points if point["model"] == material.teacher and point["model"] != material.baseline]
    base = alt.Chart(rows(mine)).encode(y=alt.Y("value:Q", **y))
    colour = palette["teacher"]
    return [
        base.mark_rule(color=colour, strokeDash=[2, 3], strokeWidth=1.5).encode(description="says:N"),
        base.mark_text(color=colour, align="right", dy=-8, fontWeight=600).encode(
            text="model:N", x=alt.value(WIDTH // 2 - 46)
        ),
    ]


def funnel(material: Material, palette: Palette) -> alt.LayerChart:
    """For each student: completions sampled, correct, selected, and rows trained on."""
    values = [row for one in material.arms for row in _funnel(one)]
    top = max([1, *(value["n"] for value in values)])
    base = alt.Chart(rows(values)).encode(
        y=alt.Y(
            "at:N", sort=[value["at"] for value in values], title=None,
            axis=alt.Axis(domain=False, ticks=False, labelColor=palette["ink"], labelExpr="split(datum.label, '|')[1]"),
            scale=alt.Scale(paddingInner=0.2),
        ),
        x=alt.X("n:Q", title=None, scale=alt.Scale(domain=[0, top * 1.16], nice=False), axis=None),
    )  # fmt: skip
    heads = [value for value in values if value["step"] == STEPS[0]]
    head = alt.Chart(rows(heads)).mark_text(align="right", fontWeight=600).encode(
        y=alt.Y("at:N", sort=[value["at"] for value in values]), x=alt.value(-78), text="model:N"
    )  # fmt: skip
    return alt.layer(
        base.mark_bar(cornerRadiusEnd=3, height=15).encode(
            color=by_model(palette), opacity=alt.Opacity("opacity:Q", scale=None), description="says:N"
        ),
        base.mark_text(align="left", dx=6).encode(text="says:N"),
        head,
    ).properties(width=WIDTH - 240, height=21 * max(1, len(values)))


def _funnel(one: ArmFacts) -> list[Row]:
    notes = one.selected
    counts = (notes.get("completions"), notes.get("completions_correct"), notes.get("rows"), notes.get("rows_train"))
    steps = [(step, n) for step, n in zip(STEPS, counts, strict=True) if n is not None]
    first = steps[0][1] if steps else 0
    return [
        {
            "model": one.arm.label, "at": f"{one.arm.label}|{step}", "step": step, "n": n, "opacity": 0.45 + 0.18 * i,
            "says": f"{n:,}" if not i or not first else f"{n:,} ({wording.share(n / first, 0)})",
        }
        for i, (step, n) in enumerate(steps)
    ]  # fmt: skip

"""Token ratios on problems that both models solve."""

from __future__ import annotations

from typing import Any

import altair as alt

from overproof.reporting.adapters.charts.theme import WIDTH, Palette, rows
from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Row, from_json
from overproof.reporting.domain.summary import BINS_PER_DOUBLING


def chart(contrast: Row, palette: Palette) -> alt.LayerChart:
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

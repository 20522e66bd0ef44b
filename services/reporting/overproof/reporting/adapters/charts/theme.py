"""Colours and the frame that all charts share.

One SVG serves light and dark: its colours are CSS variables, which the page defines for both. PNG has no CSS, so the same
palette also exists as plain colours. Teacher grey, base amber, students from one blue to another in the order of the
comparison; no pair of them differs by red and green alone.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import altair as alt
import vl_convert

from overproof.reporting.domain.material import Material
from overproof.shared.topology import Role, Verdict

Colours = dict[str, str]

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', 'Liberation Sans', sans-serif"
PNG_PADDING = 16
WIDTH = 640
"""Pixels of a full-width plot: with its axis the text column of the page."""

LIGHT: Colours = {
    "paper": "#ffffff", "ink": "#1c2430", "muted": "#667085", "grid": "#e4e7ec", "teacher": "#7a8494", "base": "#d98300",
    "student-from": "#4a93e8", "student-to": "#123f8c", "heat": "#3b82f6", "correct": "#2f6fd0", "wrong": "#e0a04a",
    "no_answer": "#b4bcc8", "truncated": "#7a8494", "timeout": "#8e5ab5", "ungradable": "#c9a7dd",
}  # fmt: skip
DARK: Colours = {
    "paper": "#12161d", "ink": "#e6e9ef", "muted": "#98a2b3", "grid": "#2b323d", "teacher": "#98a2b3", "base": "#f0a53a",
    "student-from": "#4f8ae0", "student-to": "#a9d0ff", "heat": "#3b82f6", "correct": "#5b98ee", "wrong": "#d9953f",
    "no_answer": "#59636f", "truncated": "#8b95a5", "timeout": "#a877cf", "ungradable": "#6d4f86",
}  # fmt: skip

COUNTED = re.compile(r'(id="|url\(#)clip(\d+)')

VERDICT_NAMES = {verdict: str(verdict).replace("_", " ") for verdict in Verdict}


class Palette(NamedTuple):
    """What each thing is drawn in."""

    colours: Colours
    models: dict[str, str]
    """By label."""

    def __getitem__(self, name: Any) -> Any:
        return self.colours[name]


def palette(material: Material, colours: Colours) -> Palette:
    """Plain colours for a PNG (and for the page to define its variables)."""
    students, models = material.students, {}
    for label, model in material.facts["models"].items():
        if model["role"] == Role.STUDENT:
            models[label] = _between(colours, students.index(label), len(students))
        else:
            models[label] = colours["teacher" if model["role"] == Role.TEACHER else "base"]
    return Palette(colours, models)


def variables(material: Material) -> Palette:
    """CSS variables for a page: `--ink`, `--model-0`, ..."""
    return Palette(
        {name: f"var(--{name})" for name in LIGHT},
        {label: f"var(--model-{i})" for i, label in enumerate(material.labels)},
    )


def definitions(material: Material, colours: Colours) -> dict[str, str]:
    """The variables' values, by name."""
    models = palette(material, colours).models
    return {f"--{name}": value for name, value in colours.items()} | {
        f"--model-{i}": models[label] for i, label in enumerate(material.labels)
    }


def _between(colours: Colours, i: int, n: int) -> str:
    """Step i of n from the first student's colour to the last one's; a lone student gets the last one's."""
    start, end = ([int(colours[name][at : at + 2], 16) for at in (1, 3, 5)] for name in ("student-from", "student-to"))
    weight = i / (n - 1) if n > 1 else 1.0
    mixed = (round(a + (b - a) * weight) for a, b in zip(start, end, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def rows(values: list[dict[str, Any]]) -> alt.InlineData:
    """Rows as a chart's data."""
    return alt.InlineData(values=values)


def by_model(palette: Palette, field: str = "model") -> alt.Color:
    """Colour by model, without a legend: labels stand beside the marks."""
    scale = alt.Scale(domain=list(palette.models), range=list(palette.models.values()))
    return alt.Color(f"{field}:N", scale=scale, legend=None)


def render(chart: alt.TopLevelMixin, palette: Palette) -> dict[str, Any]:
    """The chart with the shared frame, as a Vega-Lite specification."""
    framed = chart.configure(
        background="transparent",
        font=FONT,
        padding={"left": 4, "right": 8, "top": 6, "bottom": 4},
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelColor=palette["muted"], titleColor=palette["muted"], gridColor=palette["grid"], tickColor=palette["grid"],
            domainColor=palette["grid"], labelFontSize=12, titleFontSize=12, titleFontWeight="normal", labelPadding=6,
            titlePadding=10, labelLimit=220,
        ),
        header=alt.HeaderConfig(labelColor=palette["ink"], labelFontSize=12, titleColor=palette["muted"]),
        title=alt.TitleConfig(
            color=palette["ink"], fontSize=13, fontWeight=600, anchor="start", offset=12, subtitleColor=palette["muted"],
            subtitleFontSize=12,
        ),
        legend=alt.LegendConfig(
            labelColor=palette["ink"], titleColor=palette["muted"], labelFontSize=12, orient="top", symbolType="square",
            title=None, padding=0, offset=10,
        ),
        text=alt.MarkConfig(fontSize=12, color=palette["ink"]),
        concat=alt.CompositionConfig(spacing=28),
    )  # fmt: skip
    specification: dict[str, Any] = framed.to_dict(validate=False)
    return specification


def svg(chart: alt.TopLevelMixin, palette: Palette, name: str) -> str:
    """The chart as SVG text that scales with its column and names each mark for the tooltip and for screen readers.

    `name` is unique on the page. The renderer counts clip paths over the life of the process; counted within the chart,
    the same report has the same bytes in every process.
    """
    text: str = vl_convert.vegalite_to_svg(render(chart, palette))
    order = {number: i for i, number in enumerate(dict.fromkeys(match[2] for match in COUNTED.finditer(text)))}
    return COUNTED.sub(lambda match: f"{match[1]}{name}-clip{order[match[2]]}", text)


def png(chart: alt.TopLevelMixin, palette: Palette) -> bytes:
    """The chart as PNG at twice its size, on the palette's paper."""
    specification = render(chart, palette)
    specification["config"] |= {"background": palette["paper"], "padding": PNG_PADDING}
    content: bytes = vl_convert.vegalite_to_png(specification, scale=2)
    return content

"""The results table: as values for JSON and HTML, and as 80 columns of text for the terminal."""

from __future__ import annotations

from typing import Any

from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Material, Row
from overproof.shared.topology import Role

WIDTH = 80
STAR = "★"
HEADER = ("model", "accuracy", "95% CI", "tokens", "vs base", "trunc.", "won/lost")
WIDTHS = (8, 14, 7, 7, 6, 9)
"""Of the columns after the first, which takes what is left of WIDTH."""


def table(material: Material) -> list[Row]:
    """One row per model: label, accuracy and its interval, mean tokens, change, truncated share, won and lost, starred."""
    return [_row(material, label) for label in material.labels]


def _row(material: Material, label: str) -> Row:
    row, contrast = material.overall[label], material.contrast(label, material.baseline)
    kept = ("accuracy", "accuracy_low", "accuracy_high", "n", "tokens_mean", "tokens_mean_low", "tokens_mean_high")
    paired = ("tokens_ratio", "tokens_ratio_low", "tokens_ratio_high", "won", "lost", "mcnemar_p")
    return {
        "model": label,
        "name": material.facts["models"][label]["model"],
        "role": row["role"],
        **{name: row[name] for name in (*kept, "tokens_median", "truncated_share", *paired)},
        **{f"accuracy_difference{end}": row[f"accuracy_difference{end}"] for end in ("", "_low", "_high")},
        "starred": contrast is not None and contrast["change"] == "better" and row["role"] != Role.TEACHER,
    }


def table_text(rows: list[Row], baseline: str) -> str:
    """The table in at most 80 columns; a star marks a student's significant gain over the baseline."""
    header = [*HEADER[:4], "vs base" if baseline == "base" else "vs 1st", *HEADER[5:]]
    lines = [_line(header), *(_line(cells(row)) for row in rows)]
    return "\n".join(lines) + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    """The row as people read it, in the order of HEADER."""
    known = row["accuracy"] is not None
    interval = f"[{100 * row['accuracy_low']:.1f}, {100 * row['accuracy_high']:.1f}]" if known else wording.NOTHING
    return [
        f"{row['model']} {STAR}" if row["starred"] else row["model"],
        wording.share(row["accuracy"]),
        interval,
        wording.count(row["tokens_mean"]),
        wording.ratio_change(row["tokens_ratio"]),
        wording.share(row["truncated_share"]),
        wording.NOTHING if row["won"] is None else f"{row['won']}/{row['lost']}",
    ]


def _line(texts: list[str]) -> str:
    room = WIDTH - 1 - sum(width + 1 for width in WIDTHS)
    label = texts[0]
    if len(label) > room:
        star = f" {STAR}" if label.endswith(STAR) else ""
        label = label[: room - 1 - len(star)].rstrip() + "…" + star
    rest = "".join(f" {cell:>{width}}" for cell, width in zip(texts[1:], WIDTHS, strict=True))
    return f" {label:<{room}}{rest}"

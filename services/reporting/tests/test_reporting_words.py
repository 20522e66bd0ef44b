"""Numbers as people read them, the text table, and labels that keep out of each other's way."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from overproof.reporting.adapters.charts.pareto import Frame, _box, _marks, _ticks, places
from overproof.reporting.adapters.page import table_csv
from overproof.reporting.domain import wording
from overproof.reporting.domain.scoreboard import WIDTH, table_text
from overproof.reporting.domain.statistics import Estimate, no_data

SAID = [
    (wording.points(Estimate(0.106, 0.061, 0.15, 9)), "+10.6 points [+6.1, +15.0]"),
    (wording.points(Estimate(-0.004, -0.02, 0.0, 9)), "−0.4 points [−2.0, 0.0]"),
    (wording.points(no_data()), "no data"),
    (wording.fewer(Estimate(0.49, 0.47, 0.52, 9)), "51% fewer [48%, 53%]"),
    (wording.fewer(Estimate(1.12, 1.02, 1.21, 9), "tokens"), "12% more tokens [2%, 21%]"),
    (wording.fewer(Estimate(0.98, 0.9, 1.05, 9)), "2% fewer [−5%, +10%]"),
    (wording.times(Estimate(0.494, 0.46, 0.52, 9)), "0.49× [0.46, 0.52]"),
    (wording.ratio_change(0.49), "−51%"),
    (wording.ratio_change(2.38), "+138%"),
    (wording.ratio_change(1.001), "0%"),
    (wording.ratio_change(None), "–"),
    (wording.p_value(0.03125), "p = 0.031"),
    (wording.p_value(1e-9), "p < 0.0001"),
    (wording.count(2104.4), "2,104"),
    (wording.count(math.nan), "–"),
    (wording.share(None), "–"),
    (wording.plural(1, "problem"), "1 problem"),
    (wording.plural(1200, "problem"), "1,200 problems"),
    (wording.duration(3.6), "4s"),
    (wording.duration(760), "12m 40s"),
    (wording.duration(3725), "1h 02m"),
    (wording.size(999), "999 B"),
    (wording.size(3_100_000), "3.1 MB"),
    (wording.size(5_000_000_000_000), "5000.0 GB"),
]


@pytest.mark.parametrize(("said", "expected"), SAID)
def test_numbers_read_well(said: str, expected: str) -> None:
    assert said == expected


def row(model: str, **more: Any) -> dict[str, Any]:
    return {
        "model": model, "accuracy": 0.662, "accuracy_low": 0.62, "accuracy_high": 0.702, "tokens_mean": 433.2,
        "tokens_ratio": 0.49, "truncated_share": 0.006, "won": 74, "lost": 21, "starred": True, **more,
    }  # fmt: skip


def test_the_table_fits_80_columns_and_stars_what_holds() -> None:
    rows = [
        row("teacher", accuracy=1.0, accuracy_low=0.9925, accuracy_high=1.0, tokens_mean=12_104.0, tokens_ratio=13.7, starred=False),
        row("base", tokens_ratio=None, won=None, lost=None, starred=False),
        row("round 2"),
        row("round 2 · below_median_global", won=1000, lost=1000),
        row("empty", accuracy=None, accuracy_low=None, accuracy_high=None, tokens_mean=None, starred=False),
    ]  # fmt: skip
    lines = table_text(rows, "base").splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    assert len({len(line) for line in lines}) == 1
    assert "66.2%   [62.0, 70.2]     433    −51%   0.6%     74/21" in lines[3]
    assert [" ★" in line for line in lines] == [False, False, False, True, True, False]
    assert "round 2 · below_med… ★" in lines[4]


def test_a_baseline_with_another_name_gets_another_header() -> None:
    assert " vs 1st " in table_text([row("mine")], "mine").splitlines()[0]


def point(model: str, tokens: float, accuracy: float) -> dict[str, Any]:
    return {
        "model": model, "tokens": tokens, "tokens_low": tokens * 0.97, "tokens_high": tokens * 1.03, "accuracy": accuracy,
        "accuracy_low": accuracy - 0.03, "accuracy_high": accuracy + 0.03,
    }  # fmt: skip


def test_labels_of_close_points_do_not_collide() -> None:
    points = [
        point("round 1", 300, 0.60),
        point("round 2", 310, 0.61),
        point("round 3", 305, 0.63),
        point("base", 800, 0.5),
    ]
    frame = Frame((250, 900), (0.4, 0.7))
    boxes = [_box(one, place, frame) for one, place in zip(points, places(points, frame), strict=True)]
    assert all(a.overlap(b) == 0 for a, b in itertools.combinations(boxes, 2))
    assert all(box.overlap(_marks(one, frame)[0]) == 0 for box in boxes for one in points)


@pytest.mark.parametrize("domain", [(50, 60), (90, 2500), (11, 13), (300, 90_000), (1, 3)])
def test_ticks_lie_inside_and_are_few(domain: tuple[float, float]) -> None:
    ticks = _ticks(domain)
    assert 2 <= len(ticks) <= 17
    assert all(domain[0] <= tick <= domain[1] for tick in ticks)


def test_csv_cells_are_no_formulas() -> None:
    text = table_csv([{"a": "=1+1", "b": -3, "c": "x,y"}, {"a": "@SUM", "d": [1]}], None)
    assert text.splitlines() == ["a,b,c,d", '\'=1+1,-3,"x,y",', "'@SUM,,,[1]"]

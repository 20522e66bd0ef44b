"""Numbers as people read them. No accuracy, difference or ratio leaves here without its interval."""

from __future__ import annotations

import math

from overproof.reporting.domain.statistics import Estimate

MINUS = "\u2212"
NOTHING = "\u2013"


def count(value: float | None) -> str:
    """`2,104`; a dash for nothing."""
    return NOTHING if value is None or math.isnan(value) else f"{value:,.0f}"


def share(value: float | None, digits: int = 1) -> str:
    """`5.4%`."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.{digits}%}"


def signed(value: float, digits: int = 1) -> str:
    """`+10.6` or `−0.4`, with a real minus sign; no sign on a zero."""
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return f"{MINUS if value < 0 else '+'}{text}"


def accuracy(estimate: Estimate) -> str:
    """`66.2% [62.0%, 70.2%]`."""
    return f"{estimate:.1%}"


def points(estimate: Estimate) -> str:
    """A difference of accuracies: `+10.6 points [+6.1, +15.0]`."""
    if math.isnan(estimate.value):
        return "no data"
    value, low, high = (signed(100 * number) for number in estimate[:3])
    return f"{value} points [{low}, {high}]"


def fewer(ratio: Estimate, noun: str = "") -> str:
    """A ratio of token counts: `51% fewer [48%, 53%]`, `12% more [2%, 21%]`; bounds across zero carry signs."""
    if math.isnan(ratio.value):
        return "no data"
    word, change = ("fewer", 1 - ratio.value) if ratio.value <= 1 else ("more", ratio.value - 1)
    low, high = (1 - ratio.high, 1 - ratio.low) if ratio.value <= 1 else (ratio.low - 1, ratio.high - 1)
    bounds = f"{low:.0%}, {high:.0%}" if low >= 0 else f"{signed(100 * low, 0)}%, {signed(100 * high, 0)}%"
    return f"{change:.0%} {word}{noun and ' ' + noun} [{bounds}]"


def times(ratio: Estimate) -> str:
    """`0.49× [0.46, 0.52]`."""
    if math.isnan(ratio.value):
        return "no data"
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def p_value(p: float) -> str:
    """`p = 0.031`, `p < 0.0001`."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def ratio_change(ratio: float | None) -> str:
    """`−51%` for a ratio of 0.49; a dash for none."""
    return NOTHING if ratio is None else f"{signed(100 * (ratio - 1), 0)}%"


def plural(n: int, noun: str) -> str:
    """`1 problem`, `1,200 problems`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """`4s`, `12m 40s`, `1h 02m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def size(n_bytes: int) -> str:
    """`3.1 MB`."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError(n_bytes)

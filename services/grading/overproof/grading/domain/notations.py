"""Spellings of other schools: `0.333…`, `0.(3)`, `]1,2[`, `ℝ-{0}`, `ℝ^+`, `101_{two}`, `37°30'`, `{1,2}` and `f:x↦x+1`."""

from __future__ import annotations

import re

from overproof.grading.domain.forms import bracketed, split_top

_MINUTES = re.compile(r"(\d+)°(\d{1,2})\^?\{?'\}?(?:(\d{1,2})\^?\{?(?:''|\")\}?)?", re.ASCII)
_MAPPING = re.compile(r"([A-Za-z]):([a-z])↦(.+)", re.DOTALL)
_REAL_RAY = re.compile(r"ℝ(?:\^\{?([+-])\}?|_\{?([+-])\}?|_\{?([≥≤<>])0\}?)")
_BRACKETED_ARRAY = re.compile(
    r"([(\[|])\s*\\begin\{(array|matrix|smallmatrix)\}(?:\{[lcr|@ ]*\})?((?:(?!\\begin).)*?)\\end\{\2\}\s*([)\]|])",
    re.DOTALL,
)
_CONDITION = re.compile(r"[A-Za-z](?:∈[^|:]+)?[|:]")
_INNER = re.compile(r"\{[^{}]*\}")
_BRACKETED_PERIOD = re.compile(r"(-?\d+\.)\((\d+)\)")
_ENDLESS = re.compile(r"(-?\d*\.)(\d{2,60})…")
_PERIOD = re.compile(r"(\d*?)(?:(\d)\2{2,}|(\d{2,12}?)\3+)")
_TURNED = re.compile(r"([\[\]])([^\[\]]*,[^\[\]]*)([\[\]])")
_ANGLED = re.compile(r"<([^<>≤≥=]+,[^<>≤≥=]+)>")
_INFINITE = re.compile(
    r"(?:(?:it |the (?:limit|series|integral|sequence) )?(?:diverges|tends|goes) to ?)?(?:positive |\+)?(?:(negative |minus |-))?(?:infinity|∞)",
    re.IGNORECASE,
)
_BASE_NAMES = dict(
    zip(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), "23456789", strict=False)
) | {"ten": "10"}
_NAMED_BASE = re.compile(r"_\{?\"(two|three|four|five|six|seven|eight|nine|ten)\"\}?$")


def respelled(text: str) -> str:
    """Spellings of other schools: `0.333…`, `0.(3)`, `]1,2[`, `ℝ-{0}`, `101_{two}`, `k∈ℤ` behind a family of solutions."""
    if (spelled := _as_number(text)) is not None:
        return spelled
    if text[:1] == "<" and (match := _ANGLED.fullmatch(text)):
        return f"⟨{match[1]}⟩"
    if "\\begin{" in text:
        text = _BRACKETED_ARRAY.sub(_matrix, text)
    if text[:1] == "{" and text[-1:] == "}":
        return _plain_set(text)
    if "°" in text:
        text = _MINUTES.sub(_degrees, text)
    if text[:1] == "]" or text[-1:] == "[":
        turned = _TURNED.fullmatch(text)
        return f"{'(' if turned[1] == ']' else '['}{turned[2]}{')' if turned[3] == '[' else ']'}" if turned else text
    if "_" in text and (match := _NAMED_BASE.search(text)):
        return f"{text[: match.start()]}_{_BASE_NAMES[match[1]]}"
    if "↦" in text and (match := _MAPPING.fullmatch(text)):
        return f"{match[1]}({match[2]})={match[3]}"
    return _REAL_RAY.sub(_ray, text).replace("ℝ-❴", "ℝ∖❴") if "ℝ" in text else text


def _as_number(text: str) -> str | None:
    """`0.333…`, `0.(3)` and `negative infinity`; None for every other text."""
    if text.endswith("…") and (match := _ENDLESS.fullmatch(text)):
        return _periodic(match) or text
    if text.endswith(")") and (match := _BRACKETED_PERIOD.fullmatch(text)):
        return f"{match[1]}\\overline{{{match[2]}}}"
    if text.endswith(("infinity", "∞")) and (match := _INFINITE.fullmatch(text)):
        return "-∞" if match[1] else "∞"
    return None


def _plain_set(text: str) -> str:
    """`{1,2}` and `{x|x>3}` typed without backslashes: braces around a comma or a condition are those of a set."""
    if bracketed("❴" + text[1:-1].replace("{", "(").replace("}", ")") + "❵") is None:
        return text
    inside = text[1:-1]
    is_set = len(split_top(inside, ",;")) > 1 or not inside or _CONDITION.match(inside)
    return f"❴{inside}❵" if is_set and "}" not in _INNER.sub("", inside) else text


def _matrix(match: re.Match[str]) -> str:
    """An array in brackets as the matrix that it is, one in bars as its determinant."""
    kind = {"()": "p", "[]": "b", "||": "v"}.get(match[1] + match[4])
    return match[0] if kind is None else f"\\begin{{{kind}matrix}}{match[3]}\\end{{{kind}matrix}}"


def _degrees(match: re.Match[str]) -> str:
    """`37°30'` in degrees."""
    return f"({match[1]}+{match[2]}/60{f'+{match[3]}/3600' if match[3] else ''})°"


def _ray(match: re.Match[str]) -> str:
    """`ℝ^+` and `ℝ_{≥0}` as intervals."""
    return {"+": "(0,∞)", ">": "(0,∞)", "-": "(-∞,0)", "<": "(-∞,0)", "≥": "[0,∞)", "≤": "(-∞,0]"}[
        match[1] or match[2] or match[3]
    ]


def _periodic(match: re.Match[str]) -> str | None:
    """A decimal that breaks off after its period was shown three times, or twice when it has several digits."""
    period = _PERIOD.fullmatch(match[2])
    return f"{match[1]}{period[1]}\\overline{{{period[2] or period[3]}}}" if period else None

"""Dates and times of day in one spelling each: `March 15th`, `15 March 2024`, `10:30 p.m.`."""

from __future__ import annotations

import re

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")  # fmt: skip
_NAMES = {name[:length]: month for month, name in enumerate(_MONTHS, start=1) for length in (3, len(name))} | {
    "sept": 9
}
_MONTH = "|".join(sorted(_NAMES, key=len, reverse=True))
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,? ?(?P<year>\d{4}))?"
_DATES = (
    re.compile(rf"(?:the )?(?P<month>{_MONTH})\.? ?{_DAY}{_YEAR}", re.IGNORECASE | re.ASCII),
    re.compile(rf"(?:the )?{_DAY}(?: of)? ?(?P<month>{_MONTH})\.?{_YEAR}", re.IGNORECASE | re.ASCII),
)
_CLOCK = re.compile(r'^(\d{1,2}):([0-5]\d)(?:(?: |")*([ap])\.? ?m\.?"?)?$', re.IGNORECASE)
_HOUR = re.compile(r'^(\d{1,2})(?::00)?(?: |")*([ap])\.? ?m\.?"?$', re.IGNORECASE)


def date_of(text: str) -> str | None:
    """`date 3-15`, with a year `date 3-15-2024`; None for what is not a date. Quotation marks do not count."""
    plain = " ".join(text.replace('"', " ").split())
    match = next((found for pattern in _DATES if (found := pattern.fullmatch(plain))), None)
    if match is None or not 1 <= int(match["day"]) <= 31:
        return None
    year = f"-{match['year']}" if match["year"] else ""
    return f"date {_NAMES[match['month'].lower()]}-{int(match['day'])}{year}"


def time_of(text: str) -> str | None:
    """`3:05`, `10:30p`; None for what may be a ratio, as 3:15 without a.m. or p.m."""
    match = _CLOCK.match(text)
    if match is None or not (match[3] or match[2][0] == "0"):
        return None
    return f"{int(match[1])}:{match[2]}{(match[3] or '').lower()}"


def hour_of(text: str) -> tuple[int, str] | None:
    """`9 a.m.` and `09:00 AM` as the hour and its half of the day; None for every other text."""
    match = _HOUR.match(text)
    return (int(match[1]), f"{match[2].lower()}.m.") if match and 1 <= int(match[1]) <= 12 else None


def on_24_hours(time: str) -> tuple[int, int] | None:
    """Hour and minute of a time after noon, `3:45p` as (15, 45); None for other words."""
    match = _AFTER_NOON.fullmatch(time)
    return (int(match[1]) % 12 + 12, int(match[2])) if match else None


_AFTER_NOON = re.compile(r"(\d{1,2}):(\d{2})p")

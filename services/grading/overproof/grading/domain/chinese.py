"""Chinese words of an answer in the spelling that the other stages read: joiners, numerals, units, clock times, circled numbers.

`3或-2`, `2万元`, `百分之二十五`, `二分之一`, `36平方厘米`, `8时30分`, `①③`, `无解`. What is not known stays as it is.
"""

from __future__ import annotations

import re

_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_TENS = {"十": 10, "百": 100, "千": 1_000}
_SCALES = {"万": 10_000, "亿": 100_000_000}
_NUMERAL = "零〇一二两三四五六七八九十百千万亿"

_WORDS = (
    ("或者", " or "), ("或", " or "), ("以及", " and "), ("和", " and "), ("与", " and "), ("且", " and "), ("、", ","),
    ("无实数解", "no solution"), ("无解", "no solution"), ("空集", "∅"), ("正无穷", "+∞"), ("负无穷", "-∞"), ("无穷", "∞"),
)  # fmt: skip

_UNITS = {
    "厘米": "cm", "毫米": "mm", "分米": "dm", "千米": "km", "公里": "km", "米": "m", "平方厘米": "cm^2", "平方米": "m^2",
    "平方分米": "dm^2", "平方千米": "km^2", "平方公里": "km^2", "立方厘米": "cm^3", "立方米": "m^3", "立方分米": "dm^3",
    "千克": "kg", "公斤": "kg", "克": "g", "吨": "ton", "升": "l", "毫升": "ml", "小时": "h", "时": "h", "分钟": "min", "分": "min",
    "秒": "s", "天": "day", "日": "day", "周": "week", "年": "year", "元": "yuan", "度": "degree", "米每秒": "m/s", "千米每小时": "km/h",
    "人": "people",
}  # fmt: skip
"""Units and the names that the table of units has for them."""

_SCALING = frozenset("百千万亿半多几余约")
"""A word with one of these changes the number before it: `5半`, `10多个`."""

_COUNTERS = frozenset("个只本条张名位次种件块支辆棵头台间架双组倍岁页题步层场座根颗朵瓶盒箱杯袋把")
"""Measure words of things that are counted; they say nothing more."""

_LEAD = re.compile(r"^(?:所以|因此|即|故)?(?:(?:最终|最后|正确)?(?:答案|答|结果|选项)(?:是|为|[:：])|选[:：]?)\s*")
_OF_WHAT = re.compile(
    r"^(?:(?:该|原|此)?(?:方程|方程组|不等式)(?=无)|点(?=[(（])|(?:它|该函数|函数)?[是为](?=[一-鿿]))"
)
_RATE = re.compile(r"(?<=[\d)}%π])\s*([一-鿿]{1,5})/([一-鿿]{1,5})$")
_PERCENT = re.compile(rf"百分之([{_NUMERAL}]+|\d+(?:\.\d+)?)")
_FRACTION = re.compile(rf"([{_NUMERAL}]+|\d+)分之([{_NUMERAL}]+|\d+)")
_CLOCK = re.compile(r"(\d{1,2})\s*[时点]\s*(\d{1,2})\s*分")
_SCALED = re.compile(r"(\d+(?:\.\d+)?)\s*((?:[百万亿]|千(?![米克]))+)")
_SPELLED = re.compile(rf"(-?)([{_NUMERAL}]+)([一-鿿]{{0,4}})")
_UNIT = re.compile(r"(?<=[\d)}%π])\s*([一-鿿]{1,5})$")
_CIRCLED = re.compile("[①-⑳]+")
_CJK = re.compile("[一-鿿①-⑳、]")


def has_chinese(text: str) -> bool:
    """Whether there is anything to do."""
    return _CJK.search(text) is not None


def from_chinese(text: str) -> str:
    """The text with what is known of its Chinese put into the other spelling."""
    text = _LEAD.sub("", text.strip()).rstrip("。")
    text = _OF_WHAT.sub("", text)
    text = _CIRCLED.sub(lambda match: ",".join(f'"item {ord(char) - ord("①") + 1}"' for char in match[0]), text)
    text = _PERCENT.sub(lambda match: f"{_number(match[1])}%", text)
    text = _FRACTION.sub(lambda match: f"{_number(match[2])}/{_number(match[1])}", text)
    text = _CLOCK.sub(lambda match: f"{match[1]}:{int(match[2]):02d}", text)
    if (match := _SPELLED.fullmatch(text)) and (not match[3] or _unit(match[3]) != match[3]):
        text = f"{match[1]}{_number(match[2])}{match[3]}"
    for word, ours in _WORDS:
        text = text.replace(word, ours)
    text = _SCALED.sub(_scaled, text)
    text = _RATE.sub(lambda match: f"{_quoted(match[1])}/{_quoted(match[2])}", text.strip())
    return _UNIT.sub(lambda match: _quoted(match[1]), text.strip())


def _number(word: str) -> str:
    """`二十五` is 25; what is not a numeral stays."""
    if word[:1].isdigit():
        return word
    total = section = digit = 0
    for char in word:
        if char in _DIGITS:
            digit = _DIGITS[char]
        elif char in _TENS:
            section += (digit or 1) * _TENS[char]
            digit = 0
        else:
            total += (section + digit or 1) * _SCALES[char]
            section = digit = 0
    return str(total + section + digit)


def _scaled(match: re.Match[str]) -> str:
    """`2万` and `1.5亿` as a product that stays exact."""
    factor = 1
    for char in match[2]:
        factor *= _TENS.get(char) or _SCALES[char]
    return str(int(match[1]) * factor) if match[1].isdigit() else f"{match[1]}*{factor}"


def _unit(word: str) -> str:
    """The name of a unit; "" for a measure word, the word itself when it is not known."""
    if word in _UNITS:
        return _UNITS[word]
    return "" if word[0] in _COUNTERS and len(word) <= 2 else word


def _quoted(word: str) -> str:
    unit = _unit(word)
    if unit == word and _SCALING & set(word):
        return word
    name, power, rest = unit.partition("^")
    return (f'"{name}"^{rest}' if power else f'"{name}"') if name else ""

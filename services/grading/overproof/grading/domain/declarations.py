"""What an answer says of its letters: `k∈ℤ`, `where c is a constant`, `for all positive integers n`, `(mod 5)`."""

from __future__ import annotations

import re
from typing import NamedTuple

from overproof.grading.domain.sentences import denies
from overproof.grading.domain.symbols import words


class Declared(NamedTuple):
    """`names` of the letters in order, `domain` what they are: integers, naturals, reals; `condition` what is asked of them."""

    body: str
    names: tuple[str, ...]
    domain: str
    condition: str = ""


class Residue(NamedTuple):
    """`value` modulo `modulus`, both as text."""

    value: str
    modulus: str


_SETS = {"ℤ": "integers", "ℕ": "naturals", "ℝ": "reals", "ℚ": "rationals", "ℂ": "complex numbers"}
_MEMBER = re.compile(
    r"^(?P<body>.+?)(?:[,;]|(?<=[\w)}\]])(?=\(|\"| (?:for|where|with) )) ?\(?\"?(?:(?:for all|for any|for some|for|where|with) ?)?\"?"
    r"(?P<names>\\?[A-Za-z]+ ?(?:,\\?[A-Za-z]+ ?)*)∈(?P<set>[ℤℕℝℚℂ])(?P<mark>(?:\^|_)(?:\{?[+*≥>]0?\}?))?\)?\"?$",
    re.DOTALL,
)
_CLAUSE = re.compile(r"^(?P<body>[^\"]+?)[,;(]?\"? ?(?:for|where|with|when)(?:\" ?| )(?P<rest>.+)$", re.DOTALL)
_IS_WHOLE = re.compile(
    r"^(?P<body>[^\"]+?)[,;]\(?(?P<rest>[a-z] ?\"? ?(?:is )?(?:an|any) (?:arbitrary )?integer\"?)\)?$", re.DOTALL
)
_LETTER = re.compile(r"(?<![A-Za-z\\])([A-Za-z])(?![A-Za-z])")
MAX_CLAUSE_CHARS = 80
"""`where a and b are arbitrary real constants` has forty."""

_WORD = re.compile(r"(?<![A-Za-z\\])[a-z]{2,}")
_VOCABULARY = frozenset(
    words(
        "all any some every each the positive negative nonnegative non integer integers real reals number numbers natural constant "
        "constants is are an arbitrary where and or for with odd even prime rational complex fixed not zero nonzero parameter "
        "parameters whole in equal to can be multiplicity sqrt pi"
    )
)
"""Words of a clause that only says what letters are. With others it is a sentence with content of its own."""

_OPENS = re.compile(r"[\" ](?:for|where|with|when)[\" ]")
_RELATION = re.compile(r"[=<>≤≥≠∈]")
_RESIDUE = re.compile(
    r"^(?:[a-zA-Z] ?≡)?(?P<value>[^≡]+?),? ?\(?\"? ?(?:\\(?:pmod|bmod|mod) ?|\(?(?:\\bmod |\"?mod\"? ?))\"?\{?(?P<modulus>\d+)\}?\"?\)*$"
)


_REMARK = re.compile(
    r"^(?P<body>[^\"]+?)[,;]? ?(?:\(\"?|\" ?\(?|\(?\" ?)(?:since|because|as|the only|only|reject\w*|discard\w*|exclud\w*|ignor\w*|assuming)\b"
    r"[^()]*(?:\([^()]*\)[^()]*)*\)?$|^(?P<plain>[^\"]+?) only$"
)


_OBJECT = re.compile(r"\d|[=<>≤≥≠]|\b(?:since|because|as|the|only|negative|positive)\b|\\")


def without_remark(text: str) -> str | None:
    """The answer before `(since x>0)`, `(rejecting x=-1)` or `only`; None where there is no remark."""
    match = _REMARK.match(text)
    if match is None:
        return None
    body = (match["body"] or match["plain"]).strip()
    remark = text[len(body) :]
    return None if denies(remark) and _takes_back(body, remark) else body


def _takes_back(body: str, remark: str) -> bool:
    """Whether a remark says that the answer itself is none: `5 (rejected)`, `5 (as 5 is not allowed)`."""
    value = body.rpartition("=")[2].strip()
    return not _OBJECT.search(remark) or re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w.])", remark) is not None


def declared(text: str) -> Declared | None:
    """The answer without the declaration at its end; None where there is none."""
    if "∈" in text and (match := _MEMBER.match(text)):
        names = tuple(name.strip().strip("\\") for name in match["names"].split(","))
        if all(len(name) == 1 or name.islower() for name in names) and match["body"].strip('"( '):
            domain = _SETS[match["set"]] + (" above 0" if match["mark"] and match["set"] != "ℕ" else "")
            return Declared(match["body"].strip(), names, "naturals" if domain == "integers above 0" else domain)
    match = (_CLAUSE.match(text) if _OPENS.search(text) else None) or (
        _IS_WHOLE.match(text) if "integer" in text else None
    )
    if match is None:
        return None
    rest = match["rest"].replace('"', " ")
    if len(rest) > MAX_CLAUSE_CHARS or "\\begin" in rest or set(_WORD.findall(rest.lower())) - _VOCABULARY:
        return None
    names = tuple(dict.fromkeys(_LETTER.findall(rest)))
    if _RELATION.search(rest):
        return Declared(match["body"].strip(), names, "", rest.strip())
    return Declared(match["body"].strip(), names, _domain(rest))


def _domain(clause: str) -> str:
    for kind, domain in (
        ("positive integer", "naturals"),
        ("natural", "naturals"),
        ("integer", "integers"),
        ("real", "reals"),
    ):
        if kind in clause:
            return domain
    return ""


def residue(text: str) -> Residue | None:
    """`x≡2 (mod 5)`, `2 mod 5`; None for everything else."""
    match = _RESIDUE.match(text) if "mod" in text else None
    return Residue(match["value"].strip(" ("), str(int(match["modulus"]))) if match else None

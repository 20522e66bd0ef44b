"""All templates, and which cases of each belong to train, val and test."""

import hashlib
from functools import cache
from typing import Literal, NamedTuple, get_args

from overproof.demo.problems import (
    algebra,
    counting,
    geometry,
    intermediate_algebra,
    number_theory,
    prealgebra,
    precalculus,
)
from overproof.demo.problems.worked import Case, Template

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# shares of 100 hash buckets; what is left is train
TEST_PERCENT = 10
VAL_PERCENT = 10


class Family(NamedTuple):
    """A template with its subject."""

    type: str
    template: Template

    def group(self, case: Case) -> str:
        """Template and numbers: what all wordings of one case share."""
        return f"{self.template.name}:" + ",".join(map(str, case))


_SUBJECTS = (prealgebra, algebra, number_theory, counting, geometry, intermediate_algebra, precalculus)
FAMILIES: tuple[Family, ...] = tuple(
    Family(subject.TYPE, template) for subject in _SUBJECTS for template in subject.TEMPLATES
)
TYPES: tuple[str, ...] = tuple(subject.TYPE for subject in _SUBJECTS)
LEVELS = (1, 2, 3, 4, 5)


def split_of(group: str) -> Split:
    """The split of a group, from the SHA-256 of its name: the same on every machine, whatever is generated."""
    bucket = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") % 100
    if bucket < TEST_PERCENT:
        return "test"
    return "val" if bucket < TEST_PERCENT + VAL_PERCENT else "train"


@cache
def cells(split: Split) -> tuple[tuple[tuple[Family, tuple[Case, ...]], ...], ...]:
    """One entry per subject and level: its families, each with the cases that `split` owns."""
    return tuple(
        tuple(
            (family, tuple(case for case in family.template.cases if split_of(family.group(case)) == split))
            for family in FAMILIES
            if family.type == kind and family.template.level == level
        )
        for kind in TYPES
        for level in LEVELS
    )

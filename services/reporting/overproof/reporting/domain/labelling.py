"""What the report and the model cards say of students whose labels are the teacher's majority."""

from __future__ import annotations

from overproof.reporting.domain import wording
from overproof.reporting.domain.material import ArmFacts, Material, Row

CAUTION = (
    "The majority of several solutions is right more often than one of them (self-consistency, Wang et al. 2022, arXiv:2203.11171), "
    "but an error that the teacher makes again and again is then taught as right. Test problems are judged by their gold answers only."
)


def rows(material: Material) -> list[Row]:
    """Problems by where their label comes from, for each student with majority labels."""
    return [{"student": one.arm.label, **one.selected["labels"]} for one in labelled(material)]


def labelled(material: Material) -> list[ArmFacts]:
    """The students whose labels are not all gold answers by rule."""
    return [one for one in material.arms if "labels" in one.selected]


def answer(material: Material) -> str:
    """One sentence per student, and the caution."""
    return " ".join([*(sentence(one) for one in labelled(material)), CAUTION])


def sentence(one: ArmFacts) -> str:
    """Where the labels of one student's training problems come from."""
    found = one.selected["labels"]
    return (
        f"{wording.sentence(one.arm.label)} learnt from labels that are the teacher's own clear majority for "
        f"{wording.plural(found['added'], 'problem')} whose gold answer is missing or cannot be read and {found['changed']:,} whose gold answer it "
        f"contradicts; {found['gold']:,} are labelled by their gold answer, {found['left']:,} have no label and were left out."
    )


def note(one: ArmFacts) -> str:
    """For the student's model card; empty when its labels are the gold answers."""
    return f"\n\n{sentence(one)} {CAUTION}" if "labels" in one.selected else ""

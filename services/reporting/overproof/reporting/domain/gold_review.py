"""What the report says of gold answers that the completions contradict."""

from __future__ import annotations

from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Material
from overproof.reporting.domain.votes import Standing


def counts(material: Material) -> dict[str, int] | None:
    """Problems on the review list by why; None when nobody voted."""
    if material.review is None:
        return None
    return {
        str(why): len({row["problem_id"] for row in material.review if row["why"] == why})
        for why in (Standing.CONTRADICTS, Standing.UNREADABLE)
    }


def answer(material: Material) -> str:
    """One sentence, and the rule."""
    found, rule = counts(material), material.recipe.majority
    if found is None:
        return "No completions of training problems voted in this run: none were drawn, or too few of each problem."
    says = (
        f"a clear majority is at least {rule.min_votes} completions and {rule.min_share:.0%} of a problem's completions "
        f"for one answer, {wording.plural(rule.min_lead, 'vote')} ahead of the next"
    )
    if not any(found.values()):
        return f"The completions contradict no gold answer of the training problems ({says})."
    unreadable = found[Standing.UNREADABLE]
    more = f", and answer {unreadable:,} whose gold cannot be read" if unreadable else ""
    return (
        f"The completions contradict the gold answer of {wording.plural(found[Standing.CONTRADICTS], 'training problem')}{more} "
        f"({says}); {_relabelled(material)}."
    )


def _relabelled(material: Material) -> str:
    students = [one.arm.label for one in material.arms if "labels" in one.selected]
    return (
        f"of the students, only {', '.join(students)} learnt from the majority"
        if students
        else "nothing was relabelled"
    )

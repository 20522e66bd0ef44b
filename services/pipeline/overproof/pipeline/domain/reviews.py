"""What is looked at beside the loop: votes, gold answers to review, changed verdicts, an audit."""

from __future__ import annotations

from overproof.pipeline.domain.foundation import Foundation, Graded
from overproof.shared.specs import Audited, AuditSpec, ChangesSpec, GradeSpec, Regraded, ReviewSpec, VoteSpec


class Reviews(Foundation):
    """Adds artifacts that people and the report read, and that change no verdict."""

    def _vote(self, label: str, problems: str, graded: Graded, number: int) -> str:
        """Votes of a round's completions; of those made here, shard by shard as they are graded."""
        spec = VoteSpec(problems=problems, grades=graded.grades, options=self.recipe.grading.options)
        here = tuple(ref for ref in graded.grades if ref in self.nodes)
        before = tuple(ref for ref in graded.grades if ref not in self.nodes)
        return self._add(
            f"vote · {label}",
            spec,
            after=(problems, *before),
            along=here,
            shards_of=problems,
            name=f"votes/round-{number}",
        )

    def _review(self, problems: str, votes: dict[int, str]) -> str | None:
        """The gold answers to look at; None when nobody voted."""
        if not votes:
            return None
        spec = ReviewSpec(problems=problems, votes=tuple(votes.items()), rule=self.recipe.majority)
        return self._add("review", spec, after=(problems, *votes.values()), name="gold_review")

    def _changes(self) -> str | None:
        """Verdicts that were others before; None when no completions of this run had been graded otherwise."""
        regraded = [
            Regraded(label=node.label.removeprefix("grade · "), before=self.earlier[ref], after=ref)
            for ref, node in self.nodes.items()
            if ref in self.earlier
        ]
        if not regraded:
            return None
        spec = ChangesSpec(regraded=tuple(regraded))
        # the earlier ones were complete, and nobody would make them again
        return self._add("changes", spec, after=tuple(one.after for one in regraded), name="changes")

    def _audit(self) -> str | None:
        """The verdicts that Math-Verify would have given otherwise; None when nobody asked."""
        audited = tuple(
            Audited(label=node.label.removeprefix("grade · "), grades=ref)
            for ref, node in self.nodes.items()
            if isinstance(node.spec, GradeSpec)
        )
        options = self.recipe.grading
        if not options.audit or not audited:
            return None
        spec = AuditSpec(audited=audited, share=options.audit, seconds_per_answer=options.seconds_per_answer)
        return self._add("audit", spec, after=tuple(one.grades for one in audited), name="audit")

    def _can_agree(self) -> bool:
        """Whether so many completions are drawn that a majority can be clear."""
        return self.recipe.sampling.max_samples >= self.recipe.majority.min_votes

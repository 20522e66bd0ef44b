"""The three stages that reporting makes: read, ask the domain, write."""

from __future__ import annotations

from overproof.reporting import evaluations, gathering, reading
from overproof.reporting.adapters import page
from overproof.reporting.domain.examples import choose
from overproof.reporting.domain.labels import Source
from overproof.reporting.domain.selection import Selector, in_parts
from overproof.reporting.domain.summary import finite, slices_of, summarise
from overproof.shared.formats import jsonl_line
from overproof.shared.specs import CompareSpec, ReportSpec, SelectSpec
from overproof.shared.tables import COMPARISON, table_of
from overproof.shared.work import Work


def select(work: Work[SelectSpec]) -> None:
    """Training rows out of graded completions. Reads problems, completions, grades, votes; writes SELECTED.

    With majority labels also `labels.jsonl`: the labels that are not gold answers.

    Raises DatasetError for a leaked group, for tables that do not belong together, and when nothing is left to train on.
    """
    spec = work.spec
    median = reading.median_of_correct(work) if spec.policy.policy == "below_median_global" else None
    tests = reading.groups(work, spec.tests)
    selector = Selector(spec.policy, spec.prompt, seed=spec.seed, test_groups=tests, median_of_all=median)
    made = reading.LabelsMade()
    reading.write_selected(work, in_parts(selector.select(portion) for portion in reading.portions(work, made)))
    selector.tally.check()
    if spec.votes is not None:
        reading.write_bytes(work, "labels.jsonl", b"".join(map(jsonl_line, made.rows)))
        work.note(labels={str(source): made.counts[source] for source in Source})
    work.note(policy=spec.policy.label, test_groups=len(tests), **selector.tally.notes())


def compare(work: Work[CompareSpec]) -> None:
    """All evaluations paired by problem. Writes COMPARISON, `comparison.json` and `won_lost.json`.

    Raises DatasetError when the evaluations were not prompted, sampled and graded alike.
    """
    spec, problems = work.spec, evaluations.asked(work)
    subjects = [evaluations.subject(work, evaluation, problems) for evaluation in spec.evaluations]
    summary = summarise(
        subjects, slices_of(problems.level, problems.kind), baseline=spec.baseline, contrasts=spec.contrasts,
        resamples=spec.resamples, seed=spec.seed,
    )  # fmt: skip
    work.write(COMPARISON, [table_of(summary.rows, COMPARISON)])
    by_label = {subject.label: subject for subject in subjects}
    best = by_label[summary.best] if summary.best else None
    examples = choose(best, by_label[spec.baseline], subjects, spec.seed)
    reading.write_json(work, "comparison.json", finite(summary.facts))
    reading.write_json(work, "won_lost.json", finite(evaluations.in_full(work, examples, problems)))
    work.note(problems=problems.n, evaluations=len(subjects), resamples=spec.resamples)


def report(work: Work[ReportSpec]) -> None:
    """Writes report.html, report.md, report.json, comparison.csv, pareto.png, pareto-dark.png and a model card per student.

    Where completions voted also gold_review.csv: gold answers that a clear majority of the completions contradicts.
    """
    material = gathering.material(work)
    for document in page.documents(material):
        work.check()
        reading.write_bytes(work, document.name, document.content)
    if material.review is not None:
        work.note(golds_to_review=len(material.review))
    work.note(problems=material.facts["problems"], models=len(material.labels))

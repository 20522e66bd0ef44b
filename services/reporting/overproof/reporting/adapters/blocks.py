"""The blocks of the page that carry a chart: a question, its answer, the chart, and the rows behind it."""

from __future__ import annotations

from typing import NamedTuple

import altair as alt

from overproof.reporting.adapters.charts import curves, lengths, pareto, ratios, rounds, slices, verdicts
from overproof.reporting.adapters.charts import probes as probe_chart
from overproof.reporting.adapters.charts.theme import Palette
from overproof.reporting.domain import audits, findings, gold_review, labelling, probes, regrades, savings, scoreboard
from overproof.reporting.domain.material import Material, Row


class Block(NamedTuple):
    """One question."""

    name: str
    question: str
    answer: str
    charts: list[alt.TopLevelMixin]
    """Empty when the data has nothing to draw: the answer says so."""
    data: list[Row]


def blocks(material: Material, palette: Palette) -> list[Block]:
    """All of them, in the order of the page."""
    return [
        Block("scoreboard", "Scoreboard", "", [], scoreboard.table(material)),
        _pareto(material, palette),
        _lengths(material, palette),
        _where(material, palette),
        _rounds(material, palette),
        Block(
            "sampling",
            "What did adaptive sampling save?",
            savings.answer(material.rounds),
            [],
            savings.rows(material.rounds),
        ),
        _won_lost(material),
        _same_problems(material, palette),
        _grader(material, palette),
        Block("gold-review", "Are the gold answers right?", gold_review.answer(material), [], material.review or []),
        Block("labels", "Which labels were trained on?", labelling.answer(material), [], labelling.rows(material)),
        _regraded(material),
        _training(material, palette),
    ]


def _pareto(material: Material, palette: Palette) -> Block:
    drawable = all(row["accuracy"] is not None and row["tokens_mean"] for row in material.overall.values())
    charts: list[alt.TopLevelMixin] = [pareto.chart(material, palette)] if drawable else []
    return Block(
        "pareto", "Accuracy against tokens", findings.pareto(material), charts, list(material.overall.values())
    )


def _lengths(material: Material, palette: Palette) -> Block:
    data = [
        {"model": label, **one} for label, model in material.facts["models"].items() for one in model["lengths"]["bins"]
    ]
    charts: list[alt.TopLevelMixin] = [lengths.chart(material, palette)] if data else []
    return Block("lengths", "How long are the answers?", findings.lengths(material), charts, data)


def _where(material: Material, palette: Palette) -> Block:
    charts: list[alt.TopLevelMixin] = [
        slices.heatmap(material, palette, name) for name in ("level", "type") if any(material.sliced(name))
    ]
    changed = [
        row
        for row in material.sliced("type")
        if row["model"] == material.best and row["accuracy_difference"] is not None
    ]
    if changed:
        charts.append(slices.changes(material, palette))
    data = [row for row in material.rows if row["slice"] != "all"]
    return Block("where", "Where?", findings.where(material), charts, data)


def _rounds(material: Material, palette: Palette) -> Block:
    charts: list[alt.TopLevelMixin] = []
    if material.students and all(row["accuracy"] is not None for row in material.overall.values()):
        charts.append(rounds.trends(material, palette))
    if material.arms:
        charts.append(rounds.funnel(material, palette))
    data = [{"student": one.arm.label, "policy": one.arm.policy, **one.selected} for one in material.arms]
    return Block("rounds", "Over rounds", findings.rounds(material), charts, data)


def _won_lost(material: Material) -> Block:
    data = [
        {"outcome": example["outcome"], "problem_id": example["problem_id"], "problem": example["problem"], **one}
        for example in material.examples
        for one in example["completions"]
    ]
    return Block("won-lost", "Won and lost", findings.won_lost(material), [], data)


def _same_problems(material: Material, palette: Palette) -> Block:
    main = material.main
    data: list[Row] = main["ratios"] if main else []
    charts: list[alt.TopLevelMixin] = [ratios.chart(main, palette)] if main and data else []
    return Block("same-problems", "Shorter for the same problem?", findings.same_problems(material), charts, data)


def _grader(material: Material, palette: Palette) -> Block:
    data = [{"model": label, **model["verdicts"]} for label, model in material.facts["models"].items()]
    charts: list[alt.TopLevelMixin] = [verdicts.chart(material, palette)] if any(_total(row) for row in data) else []
    answer = f"{findings.grader(material)} {audits.answer(material)}".strip()
    return Block("grader", "Can the grader be trusted?", answer, charts, data)


def _regraded(material: Material) -> Block:
    changes = material.changes
    answer = regrades.answer(changes.verdicts) if changes else "No completions of this run had been graded before."
    return Block("regraded", "What did grading again change?", answer, [], changes.rows if changes else [])


def _total(row: Row) -> int:
    """All counts of a row of verdicts."""
    return sum(value for value in row.values() if isinstance(value, int))


def _training(material: Material, palette: Palette) -> Block:
    data = [{"student": one.arm.label, **line} for one in material.arms for line in one.metrics]
    answer = " ".join(findings.training(one) for one in material.arms) or "Nothing was trained in this run."
    charts: list[alt.TopLevelMixin] = [curves.chart(material, palette)] if data else []
    if found := probes.probes(material):
        charts.append(probe_chart.chart(found, palette))
        answer += f" While it was trained: {probes.finding(material)}"
    return Block("training", "Training", answer, charts, data)

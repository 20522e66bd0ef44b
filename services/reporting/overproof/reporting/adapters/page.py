"""report.html, report.md, report.json, comparison.csv, the two PNGs and the model cards out of the material.

The page is one file without any address in it: charts are SVG in the text, data links are data: URLs, and a content
security policy allows exactly one script, by its hash. Everything that a model, a data set or a recipe says goes through
Jinja's autoescape or `Typesetter`.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import itertools
import json
import platform
import re
from importlib.resources import files
from typing import Any, NamedTuple

import altair as alt
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from overproof.reporting.adapters.blocks import Block, blocks
from overproof.reporting.adapters.charts import pareto, theme
from overproof.reporting.adapters.mathml import Typesetter
from overproof.reporting.domain import audits, findings, gold_review, labelling, regrades, savings, scoreboard, wording
from overproof.reporting.domain.card import model_index, with_results
from overproof.reporting.domain.material import Material, Row
from overproof.shared.tables import AUDIT, COMPARISON, GOLD_REVIEW

LIBRARIES = ("numpy", "pyarrow", "altair", "vl-convert-python", "latex2mathml", "jinja2")


class Document(NamedTuple):
    """A finished file."""

    name: str
    content: bytes


def documents(material: Material) -> list[Document]:
    """All files of the report."""
    facts = summary(material)
    title = alt.TitleParams(
        text=f"{material.spec.run_name}: accuracy against tokens",
        subtitle=f"{wording.plural(material.facts['problems'], 'test problem')}; whiskers are 95 % intervals",
    )
    pngs = [
        Document(name, theme.png(pareto.chart(material, palette, title=title), palette))
        for name, palette in (
            ("pareto.png", theme.palette(material, theme.LIGHT)),
            ("pareto-dark.png", theme.palette(material, theme.DARK)),
        )
    ]
    return [
        Document("report.html", html(material, facts).encode()),
        Document("report.md", markdown(material, facts).encode()),
        Document("report.json", json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False).encode()),
        Document("comparison.csv", table_csv(material.rows, COMPARISON.names).encode()),
        *pngs,
        *cards(material, facts),
        *_tables(material),
    ]


def _tables(material: Material) -> list[Document]:
    """Lists for spreadsheets, each where the run has one."""
    audited = material.audit.rows if material.audit else None
    found = [("gold_review.csv", material.review, GOLD_REVIEW.names), ("audit.csv", audited, AUDIT.names)]
    return [Document(name, table_csv(rows, names).encode()) for name, rows, names in found if rows is not None]


def summary(material: Material) -> Row:
    """The content of `report.json`: what other programs show of a report."""
    rows = scoreboard.table(material)
    models = {
        label: {name: value for name, value in model.items() if name != "lengths"}
        for label, model in material.facts["models"].items()
    }
    return {
        "run": material.spec.run_name,
        "verdict": findings.verdict(material),
        "headline": findings.headline(material),
        "baseline": material.baseline,
        "best": material.best,
        "problems": material.facts["problems"],
        "table": rows,
        "table_text": scoreboard.table_text(rows, material.baseline),
        "models": models,
        "contrasts": [{k: v for k, v in one.items() if k != "ratios"} for one in material.facts["contrasts"]],
        "arms": [
            {"label": one.arm.label, "round": one.arm.round, "policy": one.arm.policy, "selected": one.selected, "trained": one.trained}
            for one in material.arms
        ],
        "training_completions": material.n_sampled,
        "gold_review": gold_review.counts(material),
        "changes": changed(material),
        "audit": audits.counts(material),
        "labels": labelling.answer(material) if labelling.rows(material) else None,
        "sampling": savings.summary(material.rounds),
        "leakage": findings.leakage(material),
        "licenses": [{"what": what, "license": license} for what, license in material.spec.licenses],
        "decoding": decoding(material),
        "cost": None if material.spending is None else material.spending._asdict(),
        "evaluation_spec": material.facts["spec"],
        "artifacts": [vars(one) for one in material.lineage],
        "versions": versions(material),
        "recipe": json.loads(material.spec.recipe_json),
    }  # fmt: skip


def changed(material: Material) -> Row | None:
    """Verdicts that differ from an earlier grading of the same completions."""
    changes = material.changes
    if changes is None:
        return None
    moved = [move._asdict() for move in regrades.moves(changes.verdicts)]
    return {
        "changed": changes.n_rows,
        "verdicts": changes.verdicts,
        "moves": moved,
        "how": regrades.how(changes.graders),
        "lost": changes.lost,
    }


def decoding(material: Material) -> str:
    """How every model was asked: one line."""
    options = material.recipe.evaluation
    drawn = "greedy" if options.temperature == 0 else f"temperature {options.temperature:g}, top-p {options.top_p:g}"
    return (
        f"{wording.plural(options.samples, 'sample')} per problem, {drawn}, at most {options.max_tokens:,} tokens, "
        f"{material.recipe.engine.kind} engine in {material.recipe.engine.dtype}{_other_engine(material)}"
    )


def _other_engine(material: Material) -> str:
    engine = material.recipe.teacher_engine
    return f", the teacher by the {engine.kind} engine" if engine and material.teacher else ""


def versions(material: Material) -> dict[str, str]:
    """Of what made the artifacts, and of what made this page."""
    made = ", ".join(sorted({one.version for one in material.lineage}))
    return {"overproof": made, "python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in LIBRARIES
    }


def html(material: Material, facts: Row) -> str:
    """The page."""
    environment = _environment()
    script = _resource("report.js")
    listed = [row["problem"][:240] for row in (material.review or [])[:20]]
    typeset = Typesetter(
        itertools.chain(
            listed,
            (
                text
                for example in material.examples
                for text in (example["problem"], *(one["text"] for one in example["completions"]))
            ),
        )
    )
    palette = theme.variables(material)
    context: dict[str, Any] = {
        "facts": facts,
        "material": material,
        "blocks": {block.name: _drawn(block, palette) for block in blocks(material, palette)},
        "typeset": typeset,
        "light": theme.definitions(material, theme.LIGHT),
        "dark": theme.definitions(material, theme.DARK),
        "style": Markup(_resource("report.css")),  # noqa: S704 - ours
        "script": Markup(script),  # noqa: S704 - ours
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "recipe": json.dumps(facts["recipe"], indent=2, ensure_ascii=False),
        "recipe_url": data_url(json.dumps(facts["recipe"], indent=2, ensure_ascii=False), "application/json"),
        "colour": {label: f"var(--model-{i})" for i, label in enumerate(material.labels)},
    }
    return environment.get_template("report.html.j2").render(context)


class Drawn(NamedTuple):
    """A block as the template uses it."""

    question: str
    answer: str
    figures: list[Markup]
    data_url: str
    data_name: str


def _drawn(block: Block, palette: theme.Palette) -> Drawn:
    # vl-convert escapes what stands in the data; a test feeds it markup
    drawn = [theme.svg(chart, palette, f"{block.name}-{i}") for i, chart in enumerate(block.charts)]
    figures = [Markup(one) for one in drawn]  # noqa: S704
    return Drawn(
        block.question,
        wording.sentence(block.answer),
        figures,
        data_url(table_csv(block.data, None), "text/csv"),
        f"{block.name}.csv",
    )


def markdown(material: Material, facts: Row) -> str:
    """A short version for a pull request."""
    return _markdown_of("report.md.j2", material, facts)


def _markdown_of(template: str, material: Material, facts: Row) -> str:
    environment = _environment()
    environment.filters["plain"] = _plain
    cells = [scoreboard.cells(row) for row in facts["table"]]
    return environment.get_template(template).render(
        facts=facts, cells=cells, header=scoreboard.HEADER, material=material
    )


def cards(material: Material, facts: Row) -> list[Document]:
    """Each student's model card with its results, `cards/round-1/shortest.md`: to lie beside its weights as README.md."""
    made = []
    for one in material.arms:
        row = material.overall.get(one.arm.label)
        if one.card is not None and row is not None:
            test = material.recipe.data.test
            index = model_index(one.arm.label, test.name if test else "given", row)
            text = with_results(one.card, results(material, facts) + labelling.note(one), index)
            made.append(Document(f"cards/round-{one.arm.round}/{one.arm.policy}.md", text.encode()))
    return made


def results(material: Material, facts: Row) -> str:
    """The scoreboard and how it came about, in Markdown, for a model card."""
    return _markdown_of("results.md.j2", material, facts)


def _plain(text: str) -> str:
    """Text without a meaning to Markdown: one line, its special characters escaped."""
    one_line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]|$#!])", r"\\\1", one_line)


def table_csv(values: list[Row], names: list[str] | None) -> str:
    """Rows as CSV; a text that a spreadsheet would run as a formula gets an apostrophe in front."""
    columns = names or list(dict.fromkeys(name for row in values for name in row))
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_cell(cell) for name, cell in row.items()} for row in values)
    return buffer.getvalue()


def _csv_cell(cell: Any) -> Any:
    if isinstance(cell, dict | list):
        return json.dumps(cell, ensure_ascii=False)
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def data_url(text: str, kind: str) -> str:
    """The text as a link that downloads it."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("overproof.reporting.adapters", "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count, "share": wording.share, "size": wording.size, "points": wording.points,
        "ratio_change": wording.ratio_change, "duration": wording.duration, "p_value": wording.p_value,
    }  # fmt: skip
    return environment


def _resource(name: str) -> str:
    return (files("overproof.reporting.adapters") / "templates" / name).read_text(encoding="utf-8")

"""The original workflow's line formats, made out of our tables.

prompts      JSONL    problem, prompt
metadata     JSONL    level, type                                     line i belongs to line i of the prompts
solutions    JSONL    problem, prompt, solution, num_tokens, level, type, answer, sample, finish_reason, model
correct      parquet  problem, solution, num_tokens, level, type      correct completions only
evaluation   JSON     overall, by_level, by_type: accuracy, correct, total
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import pyarrow as pa

from overproof.shared.errors import NotFound, RecipeError

Layout = Literal["original", "prompts", "metadata", "solutions", "correct", "evaluation"]
Row = dict[str, Any]
Render = Callable[[str], str]
"""A problem's statement → the user's turn of the prompt."""

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "problems": ("prompts", "metadata"),
    "completions": ("solutions",),
    "selected": ("correct",),
    "comparison": ("evaluation",),
}
"""By table; the first is what `original` means."""

CORRECT = pa.schema(
    [
        pa.field("problem", pa.string()),
        pa.field("solution", pa.string()),
        pa.field("num_tokens", pa.int32()),
        pa.field("level", pa.int32()),
        pa.field("type", pa.string()),
    ]
)


def layout_for(table: str, asked: Layout) -> Layout:
    """The layout in which a table is exported. Raises RecipeError when it has no such one."""
    known = LAYOUTS.get(table, ())
    if asked == "original" and known:
        return known[0]
    if asked not in known:
        has = f"It has {', '.join(known)}." if known else "Leave out `layout`."
        raise RecipeError(f"The table {table} has no layout {asked}.", has)
    return asked


def prompt_lines(problems: Iterable[Row], render: Render) -> Iterator[Row]:
    """Reads problem of PROBLEMS."""
    for row in problems:
        yield {"problem": row["problem"], "prompt": render(row["problem"])}


def metadata_lines(problems: Iterable[Row]) -> Iterator[Row]:
    """Reads level, type of PROBLEMS."""
    for row in problems:
        yield {"level": row["level"], "type": row["type"]}


def solution_lines(completions: Iterable[Row], problems: Mapping[str, Row], render: Render) -> Iterator[Row]:
    """Reads COMPLETIONS, and PROBLEMS by problem_id. A completion whose problem is not there keeps its id and text."""
    for row in completions:
        known = problems.get(row["problem_id"], {})
        problem = known.get("problem")
        yield {
            "problem_id": row["problem_id"],
            "problem": problem,
            "prompt": None if problem is None else render(problem),
            "answer": known.get("answer"),
            "solution": row["text"],
            "num_tokens": row["n_tokens"],
            "level": known.get("level"),
            "type": known.get("type"),
            "sample": row["sample"],
            "finish_reason": row["finish_reason"],
            "model": row["model"],
        }


def correct_batch(selected: pa.RecordBatch, problems: Mapping[str, str]) -> pa.RecordBatch:
    """SELECTED → CORRECT; the statement comes from `problems`, or else the prompt stands for it."""
    ids, prompts = selected.column("problem_id").to_pylist(), selected.column("prompt").to_pylist()
    statements = [problems.get(one, prompt) for one, prompt in zip(ids, prompts, strict=True)]
    columns = [
        pa.array(statements, pa.string()),
        selected.column("completion"),
        selected.column("n_tokens"),
        selected.column("level"),
        selected.column("type"),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CORRECT)


def evaluation(comparison: Iterable[Row], model: str | None) -> dict[str, Any]:
    """COMPARISON → `overall`, `by_level`, `by_type` of one model, or of each by its label when none is named.

    Raises NotFound for a label that is not there.
    """
    models: dict[str, dict[str, Any]] = {}
    for row in comparison:
        figures = models.setdefault(row["model"], {"overall": {}, "by_level": {}, "by_type": {}})
        if row["slice"] == "all":
            figures["overall"] = _figures(row) | {"average_tokens": row["tokens_mean"]}
        elif row["slice"] in ("level", "type"):
            figures[f"by_{row['slice']}"][row["value"]] = _figures(row)
    if model is None:
        return models
    if model not in models:
        raise NotFound("The comparison has no such model.", f"It has {', '.join(models)}.")
    return models[model]


def _figures(row: Row) -> dict[str, Any]:
    total = row["n_completions"]
    return {
        "accuracy": row["accuracy"],
        "accuracy_low": row["accuracy_low"],
        "accuracy_high": row["accuracy_high"],
        "correct": round(row["accuracy"] * total),
        "total": total,
    }

"""Every table that one service writes and another reads, declared once as a pyarrow schema and checked both ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from overproof.shared.errors import DatasetError

SCHEMA_VERSION = 1
"""Part of every artifact's key: a table whose columns change gets new artifacts, never mixed ones."""


def _schema(name: str, *columns: pa.Field) -> pa.Schema:
    return pa.schema(columns, metadata={"overproof.schema": f"{name}@{SCHEMA_VERSION}"})


def _column(name: str, kind: pa.DataType, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


PROBLEMS = _schema(
    "problems",
    _column("problem_id", pa.string()),  # 32 hex digits: the hash of the normalised statement
    _column("group_id", pa.string()),  # near-duplicates share it; every split is by group
    _column("problem", pa.string()),
    _column("answer", pa.string()),  # the gold answer as its source writes it
    _column("alternatives", pa.list_(pa.string()), nullable=True),  # other gold answers that are also right
    _column("solution", pa.string(), nullable=True),
    _column("level", pa.int32(), nullable=True),
    _column("type", pa.string(), nullable=True),
    _column("source", pa.string()),  # the data set and the line it came from, `name:17`
)

GOLD_CHECKS = _schema(
    "gold_checks",
    _column("problem_id", pa.string()),
    _column("source", pa.string()),
    _column("answer", pa.string()),
    _column("readable", pa.bool_()),
    _column("reason", pa.string()),  # empty when readable
)

COMPLETIONS = _schema(
    "completions",
    _column("problem_id", pa.string()),
    _column("sample", pa.int32()),  # 0.. within the problem, over all passes
    _column("round", pa.int32()),
    _column("role", pa.string()),
    _column("model", pa.string()),
    _column("text", pa.string()),
    _column("n_tokens", pa.int32()),  # generated tokens with the end-of-sequence token, as the engine counted them
    _column("finish_reason", pa.string()),
    _column("prompt_tokens", pa.int32()),
    _column("mean_logprob", pa.float64(), nullable=True),
    _column("seed", pa.int64()),
    _column("spec", pa.string()),  # hash of prompt + sampling parameters (not of the model): like is compared with like
)

GRADES = _schema(
    "grades",
    _column("problem_id", pa.string()),
    _column("sample", pa.int32()),
    _column("verdict", pa.string()),
    _column("extracted", pa.string(), nullable=True),
    _column("gold", pa.string()),
    _column("method", pa.string()),  # which rule found the answer and which stage of the cascade decided, `boxed/exact`
    _column("reason", pa.string()),
    _column("seconds", pa.float64()),
    _column("grader", pa.string()),  # version of the grader
    _column("spec", pa.string()),  # of the completion + the grading options: equal for rows that may be compared
)

VOTES = _schema(
    "votes",  # one row per problem: what its completions say, over all sampling passes of a round
    _column("problem_id", pa.string()),
    _column("source", pa.string()),
    _column("gold", pa.string()),
    _column("readable", pa.bool_()),  # whether completions could be judged against the gold answer
    _column("completions", pa.int32()),
    _column("answered", pa.int32()),  # of them: an answer was found
    _column("correct", pa.int32()),  # of them: judged correct by the gold answer
    _column(
        "answer", pa.string(), nullable=True
    ),  # the one with the most votes, as it was first written; null: there is none
    _column("agrees", pa.bool_()),  # whether that is the gold answer
    _column("votes", pa.int32()),
    _column("samples", pa.list_(pa.int32())),  # the completions that give it
    _column("runner_up", pa.string(), nullable=True),
    _column("runner_up_votes", pa.int32()),
)

GOLD_REVIEW = _schema(
    "gold_review",  # one row per problem and round whose completions agree clearly on another answer than the gold
    _column("problem_id", pa.string()),
    _column("source", pa.string()),
    _column("round", pa.int32()),
    _column("why", pa.string()),  # contradicts: the gold answer says otherwise; unreadable: it says nothing
    _column("gold", pa.string()),
    _column("answer", pa.string()),
    _column("votes", pa.int32()),
    _column("correct", pa.int32()),  # completions that agree with the gold answer
    _column("runner_up", pa.string(), nullable=True),
    _column("runner_up_votes", pa.int32()),
    _column("completions", pa.int32()),
    _column("problem", pa.string()),
)

CHANGES = _schema(
    "changes",  # one row per completion that was judged otherwise before
    _column("problem_id", pa.string()),
    _column("sample", pa.int32()),
    _column("completions", pa.string()),  # what they are: `test · base`
    _column("verdict_before", pa.string()),
    _column("verdict", pa.string()),
    _column("extracted_before", pa.string(), nullable=True),
    _column("extracted", pa.string(), nullable=True),
    _column("gold_before", pa.string()),  # which of several golds decided may differ
    _column("gold", pa.string()),
    _column("method_before", pa.string()),
    _column("method", pa.string()),
    _column("reason_before", pa.string()),
    _column("reason", pa.string()),
    _column("grader_before", pa.string()),
    _column("grader", pa.string()),
)

AUDIT = _schema(
    "audit",  # one row per completion that Math-Verify judges otherwise than the grader
    _column("problem_id", pa.string()),
    _column("sample", pa.int32()),
    _column("completions", pa.string()),  # what they are: `test · base`
    _column("gold", pa.string()),
    _column("extracted", pa.string()),
    _column("verdict", pa.string()),
    _column("method", pa.string()),
    _column("other_verdict", pa.string()),
    _column("seconds", pa.float64()),  # that the other verdict took
    _column("grader", pa.string()),
)

ANSWERS = _schema(
    "answers",  # what `POST /v1/grade` sends to grading: one row per answer to judge
    _column("index", pa.int32()),
    _column("text", pa.string()),
    _column("is_solution", pa.bool_()),  # True: a whole solution, the answer is to be found in it; False: a bare answer
    _column("gold", pa.list_(pa.string())),  # one or more right answers
    _column("finish_reason", pa.string()),
)

SELECTED = _schema(
    "selected",
    _column("problem_id", pa.string()),
    _column("group_id", pa.string()),
    _column("sample", pa.int32()),
    _column("prompt", pa.string()),  # the user's turn after the recipe's prompt template, not yet in chat form
    _column("system", pa.string(), nullable=True),
    _column("completion", pa.string()),
    _column("n_tokens", pa.int32()),
    _column("level", pa.int32(), nullable=True),
    _column("type", pa.string(), nullable=True),
    _column("split", pa.string()),  # train or val, by group
    _column("policy", pa.string()),
)

COMPARISON = _schema(
    "comparison",  # one row per model and slice
    _column("model", pa.string()),  # label: teacher, base, `round 1 · shortest`
    _column("role", pa.string()),
    _column("round", pa.int32()),
    _column("slice", pa.string()),  # all, level, type
    _column("value", pa.string()),  # "" for all, "3", "Algebra"
    _column("n", pa.int32()),  # problems
    _column("n_completions", pa.int32()),
    _column("accuracy", pa.float64()),
    _column("accuracy_low", pa.float64()),
    _column("accuracy_high", pa.float64()),
    _column("tokens_mean", pa.float64()),
    _column("tokens_mean_low", pa.float64()),
    _column("tokens_mean_high", pa.float64()),
    _column("tokens_median", pa.float64()),
    _column("tokens_p95", pa.float64()),
    _column("tokens_correct_mean", pa.float64(), nullable=True),
    _column(
        "tokens_common_correct_mean", pa.float64(), nullable=True
    ),  # over problems that every compared model solves
    _column("truncated_share", pa.float64()),
    _column("accuracy_difference", pa.float64(), nullable=True),  # against the base student, paired by problem
    _column("accuracy_difference_low", pa.float64(), nullable=True),
    _column("accuracy_difference_high", pa.float64(), nullable=True),
    _column("tokens_ratio", pa.float64(), nullable=True),  # mean tokens / base's mean tokens
    _column("tokens_ratio_low", pa.float64(), nullable=True),
    _column("tokens_ratio_high", pa.float64(), nullable=True),
    _column("won", pa.int32(), nullable=True),
    _column("lost", pa.int32(), nullable=True),
    _column("mcnemar_p", pa.float64(), nullable=True),
)

SCHEMAS: dict[str, pa.Schema] = {
    "problems": PROBLEMS,
    "completions": COMPLETIONS,
    "grades": GRADES,
    "selected": SELECTED,
    "comparison": COMPARISON,
    "gold_checks": GOLD_CHECKS,
    "answers": ANSWERS,
    "votes": VOTES,
    "gold_review": GOLD_REVIEW,
    "changes": CHANGES,
    "audit": AUDIT,
}


def conform(table: pa.Table | pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """The table with exactly the schema's columns, in order and type.

    Raises DatasetError that names the column when one is missing, null where it must not be, or of a type that does not cast.
    """
    table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise DatasetError(
            f"The table has no column {', '.join(missing)}.", f"It has {', '.join(table.column_names)}; add or rename."
        )
    columns = [_conform_column(table[field.name], field) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _conform_column(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if column.null_count and not field.nullable:
        raise DatasetError(
            f"Column {field.name} has {column.null_count} empty values.", "Fill them in or leave the rows out."
        )
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DatasetError(f"Column {field.name} is {column.type}, not {field.type}: {error}.", "Convert it.") from None


def table_of(rows: Iterable[dict[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows (dicts with the schema's names) as a checked table."""
    try:
        return conform(pa.Table.from_pylist(list(rows), schema=schema), schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DatasetError(f"A row does not fit the table: {error}.", "Mend the value.") from None


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, object]]:
    """The rows of a stream of batches, one batch in memory at a time."""
    for batch in batches:
        yield from batch.to_pylist()

"""Every policy on tables small enough to check by eye."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from overproof.reporting.domain.selection import (
    Candidates,
    LengthCounts,
    Portion,
    Selector,
    group_hash,
    in_parts,
    in_validation,
    keep,
)
from overproof.shared.errors import DatasetError
from overproof.shared.recipe import PromptOptions, SelectionPolicy, Shot
from overproof.shared.tables import COMPLETIONS, PROBLEMS, SELECTED

# (problem, sample, n_tokens, text): two problems, one of them solved once
SOLVED = [(0, 0, 50, "a"), (0, 1, 30, "b"), (0, 2, 30, "c"), (0, 3, 70, "d"), (1, 0, 90, "e")]
TWINS = [(0, 0, 50, "a"), (0, 1, 50, "a"), (0, 2, 60, "b"), (1, 0, 50, "a")]

KEPT = [
    ("all", {"policy": "all"}, SOLVED, None, [1, 2, 0, 3, 4]),
    (
        "all, capped: the first drawn, not the shortest",
        {"policy": "all", "max_per_problem": 2},
        SOLVED,
        None,
        [1, 0, 4],
    ),
    ("all, identical texts of one problem once", {"policy": "all"}, TWINS, None, [0, 2, 3]),
    ("shortest; a tie goes to the first drawn", {"policy": "shortest"}, SOLVED, None, [1, 4]),
    ("shortest_k", {"policy": "shortest_k", "k": 3}, SOLVED, None, [1, 2, 0, 4]),
    ("shortest_k counts distinct texts", {"policy": "shortest_k", "k": 2}, TWINS, None, [0, 2, 3]),
    ("shortest_k, capped below k", {"policy": "shortest_k", "k": 3, "max_per_problem": 1}, SOLVED, None, [1, 4]),
    ("below_median of the problem (40), a lone one stays", {"policy": "below_median"}, SOLVED, None, [1, 2, 4]),
    ("below_median after max_tokens (30)", {"policy": "below_median", "max_tokens": 60}, SOLVED, None, [1, 2]),
    ("below_median_global drops the long problem", {"policy": "below_median_global"}, SOLVED, 50.0, [1, 2, 0]),
    (
        "below_median_global, capped",
        {"policy": "below_median_global", "max_per_problem": 1},
        SOLVED,
        50.0,
        [1],
    ),
    ("max_tokens alone", {"policy": "all", "max_tokens": 50}, SOLVED, None, [1, 2, 0]),
    ("nothing correct", {"policy": "below_median"}, [], None, []),
]


def candidates(rows: list[tuple[int, int, int, str]]) -> Candidates:
    columns = [np.array([row[i] for row in rows], dtype=np.int64) for i in range(3)]
    texts = sorted({(row[0], row[3]) for row in rows})
    content = np.array([texts.index((row[0], row[3])) for row in rows], dtype=np.int64)
    return Candidates(columns[0], columns[1], columns[2], content)


@pytest.mark.parametrize(("policy", "rows", "median", "expected"), [c[1:] for c in KEPT], ids=[c[0] for c in KEPT])
def test_policy_keeps(policy: dict, rows: list, median: float | None, expected: list[int]) -> None:
    assert keep(candidates(rows), SelectionPolicy(**policy), median).tolist() == expected


@pytest.mark.parametrize("name", ["all", "shortest", "shortest_k", "below_median", "below_median_global"])
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    rng = random.Random(7)
    rows = [(rng.randrange(9), i, rng.randrange(20, 40), f"t{rng.randrange(6)}") for i in range(200)]
    shuffled = rng.sample(rows, len(rows))
    policy = SelectionPolicy(policy=name, max_per_problem=3)

    def kept(of: list) -> set:
        return {of[i] for i in keep(candidates(of), policy, 30.0)}

    assert kept(rows) == kept(shuffled) != set()


def test_below_median_global_without_a_median_is_refused() -> None:
    with pytest.raises(ValueError, match="median"):
        keep(candidates(SOLVED), SelectionPolicy(policy="below_median_global"))


@pytest.mark.parametrize("n", [1, 2, 5, 100, 101])
def test_histogram_median_is_the_median(n: int) -> None:
    values = np.random.default_rng(n).integers(1, 300, n)
    counts = LengthCounts()
    for chunk in np.array_split(values, 3):
        counts.add(chunk)
    assert counts.median() == np.median(values)


def test_histogram_median_of_nothing_is_nan() -> None:
    counts = LengthCounts(max_tokens=10)
    counts.add(np.array([11, 12]))
    assert np.isnan(counts.median())


def test_split_is_by_group_and_near_the_share() -> None:
    groups = [f"g{i}" for i in range(4000)]
    held_out = in_validation(group_hash(groups, seed=1), 0.05)
    assert 0.035 < held_out.mean() < 0.065
    assert (held_out == in_validation(group_hash(groups, seed=1), 0.05)).all()
    assert (held_out != in_validation(group_hash(groups, seed=2), 0.05)).any()
    assert not in_validation(group_hash(groups, seed=1), 0.0).any()


def portion(n: int = 4, groups: list[str] | None = None) -> Portion:
    """n problems with two correct completions each."""
    problems = [
        {
            "problem_id": f"p{i}", "group_id": groups[i] if groups else f"g{i}", "problem": f"What is {i}?", "answer": "1",
            "level": 1, "type": "Algebra", "source": f"demo:{i + 1}",
        }
        for i in range(n)
    ]  # fmt: skip
    rows = [
        {"problem_id": f"p{i}", "sample": s, "text": f"It is {i} ({s}).", "n_tokens": 10 + s}
        for i in range(n)
        for s in range(2)
    ]
    names = ["problem_id", "sample", "text", "n_tokens"]
    correct = pa.Table.from_pylist(rows, schema=pa.schema([COMPLETIONS.field(name) for name in names]))
    return Portion(pa.Table.from_pylist(problems, schema=PROBLEMS), correct, 3 * n)


def selector(policy: SelectionPolicy, tests: list[str] | None = None, prompt: PromptOptions | None = None) -> Selector:
    return Selector(policy, prompt or PromptOptions(), seed=3, test_groups=pa.array(tests or [], pa.string()))


def test_rows_carry_the_rendered_prompt_and_no_worked_examples() -> None:
    prompt = PromptOptions(system="Be brief.", template="Q: {problem}", few_shot=(Shot(problem="1+1", solution="2"),))
    rows = selector(SelectionPolicy(policy="shortest"), prompt=prompt).select(portion())
    assert rows.schema.equals(SELECTED)
    first = rows.to_pylist()[0]
    assert first["prompt"] == "Q: What is 0?"
    assert (first["system"], first["completion"], first["policy"]) == ("Be brief.", "It is 0 (0).", "shortest")


def test_tally_adds_up_over_portions() -> None:
    one = selector(SelectionPolicy(policy="shortest", val_share=0.3))
    for start in range(0, 400, 200):
        one.select(portion(200, [f"g{start + i}" for i in range(200)]))
    notes = one.tally.notes()
    assert (notes["problems"], notes["problems_solved"], notes["problems_kept"]) == (400, 400, 400)
    assert (notes["completions"], notes["completions_correct"]) == (1200, 800)
    assert notes["rows"] == notes["rows_train"] + notes["rows_val"] == 400
    assert (notes["tokens"], notes["tokens_correct"], notes["groups_checked"]) == (4000, 8400, 400)
    assert 80 < notes["rows_val"] < 160


def test_one_group_never_lies_on_both_sides() -> None:
    rows = selector(SelectionPolicy(policy="all", val_share=0.5)).select(portion(60, [f"g{i % 10}" for i in range(60)]))
    sides: dict[str, set[str]] = {}
    for row in rows.to_pylist():
        sides.setdefault(row["group_id"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert {split for splits in sides.values() for split in splits} == {"train", "val"}


def test_a_test_group_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"1 training problems are also test problems, among them demo:3 .*group g2"):
        selector(SelectionPolicy(policy="all"), ["g2", "other"]).select(portion())


def test_a_leaked_problem_without_a_kept_row_is_no_row() -> None:
    unsolved = portion()
    solved = unsolved._replace(correct=unsolved.correct.slice(0, 2))
    assert selector(SelectionPolicy(policy="all"), ["g2"]).select(solved).num_rows == 2


def test_a_completion_of_an_unknown_problem_is_refused() -> None:
    both = portion()
    with pytest.raises(DatasetError, match="p3"):
        selector(SelectionPolicy(policy="all")).select(both._replace(problems=both.problems.slice(0, 3)))


def test_nothing_selected_is_an_error_that_counts() -> None:
    nothing = portion()
    one = selector(SelectionPolicy(policy="all"))
    one.select(nothing._replace(correct=nothing.correct.slice(0, 0)))
    with pytest.raises(DatasetError, match="0 of 12 completions are correct"):
        one.tally.check()


def test_only_validation_rows_is_an_error() -> None:
    one = selector(SelectionPolicy(policy="all", val_share=0.5))
    held = next(f"g{i}" for i in range(100) if in_validation(group_hash([f"g{i}"], 3), 0.5)[0])
    one.select(portion(1, [held]))
    with pytest.raises(DatasetError, match="validation"):
        one.tally.check()


def test_parts_end_with_the_table_that_fills_them() -> None:
    tables = [pa.table({"x": [0] * n}) for n in (3, 0, 3, 3, 1)]
    assert [(number, [t.num_rows for t in part]) for number, part in in_parts(tables, 4)] == [
        (0, [3, 3]),
        (1, [3]),
        (2, [1]),
    ]

"""Arithmetic, order, configuration and checks, without any framework."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from pydantic import ValidationError

from overproof.shared.errors import DatasetError, RecipeError
from overproof.shared.recipe import TrainingOptions
from overproof.training.domain import preflight, validation
from overproof.training.domain.batches import Batch, batch_of, schedule_of
from overproof.training.domain.deepspeed_config import deepspeed_config
from overproof.training.domain.order import (
    MicroBatches,
    global_batches,
    micro_batches,
    tokens_after,
    validation_batches,
)
from overproof.training.domain.preflight import Encoded, Tally
from overproof.training.domain.validation import Validation

LENGTHS = [17 * i % 101 + 5 for i in range(90)]


def options(**values: object) -> TrainingOptions:
    return TrainingOptions().model_copy(update=values)


@pytest.mark.parametrize(
    ("rows", "micro", "processes", "expected"),
    [
        (32, 8, 1, Batch(8, 1, 4)),
        (32, 8, 2, Batch(8, 2, 2)),
        (32, 32, 2, Batch(16, 2, 1)),  # the micro-batch is never more than a process' share
        (24, 16, 2, Batch(12, 2, 1)),  # nor one that leaves a rest
        (7, 4, 1, Batch(1, 1, 7)),
        (1, 8, 1, Batch(1, 1, 1)),
    ],
)
def test_batch_is_split_without_a_rest(rows: int, micro: int, processes: int, expected: Batch) -> None:
    batch = batch_of(options(global_batch_size=rows, micro_batch_size=micro, processes=processes))
    assert batch == expected
    assert batch.rows == rows


@pytest.mark.parametrize(("rows", "processes", "advice"), [(32, 3, "30 or 33"), (2, 4, "Set it to 4.")])
def test_batch_that_cannot_be_shared_is_refused(rows: int, processes: int, advice: str) -> None:
    with pytest.raises(RecipeError, match="not a multiple") as caught:
        batch_of(options(global_batch_size=rows, processes=processes))
    assert advice in caught.value.remedy


@pytest.mark.parametrize(
    ("values", "n_train", "n_val", "steps", "warmup", "validate_every"),
    [
        ({"epochs": 3, "global_batch_size": 32}, 100, 10, 10, 0, 3),  # 9.4 steps: the last batch is filled up
        ({"epochs": 3, "global_batch_size": 32, "max_steps": 200}, 100, 10, 200, 10, 3),
        ({"epochs": 0.5, "global_batch_size": 10, "evaluations_per_epoch": 4}, 100, 10, 5, 0, 2),
        ({"epochs": 1, "global_batch_size": 64}, 10, 0, 1, 0, None),
        ({"epochs": 1, "evaluations_per_epoch": 0}, 320, 10, 10, 0, None),
        (
            {"epochs": 1, "global_batch_size": 64, "warmup_share": 0.9},
            10,
            0,
            1,
            0,
            None,
        ),  # a step of warm-up learns nothing
        ({"max_steps": 10, "warmup_share": 0.99}, 320, 0, 10, 9, None),
    ],
)
def test_schedule(values: dict[str, object], n_train: int, n_val: int, steps: int, warmup: int, validate_every: int | None) -> None:  # fmt: skip
    schedule = schedule_of(options(**values), n_train, n_val)
    assert (schedule.steps, schedule.warmup_steps, schedule.validate_every) == (steps, warmup, validate_every)


def test_every_row_comes_once_per_epoch_and_batches_are_full() -> None:
    # 90 rows in batches of 15: six batches an epoch, so windows span epochs
    batches = list(global_batches(LENGTHS, 15, 24, seed=1))
    assert {len(batch) for batch in batches} == {15}
    assert Counter(itertools.chain.from_iterable(batches)) == {row: 4 for row in range(90)}


def test_order_depends_on_the_seed_alone() -> None:
    assert list(global_batches(LENGTHS, 8, 30, seed=1)) == list(global_batches(LENGTHS, 8, 30, seed=1))
    assert list(global_batches(LENGTHS, 8, 30, seed=1)) != list(global_batches(LENGTHS, 8, 30, seed=2))


def test_short_training_makes_a_prefix_of_epochs_without_repeats() -> None:
    rows = list(itertools.chain.from_iterable(global_batches(LENGTHS, 10, 5, seed=3)))
    assert len(set(rows)) == 50


@pytest.mark.parametrize(("processes", "micro"), [(1, 16), (1, 4), (2, 4), (4, 4), (4, 2)])
def test_global_batch_is_the_same_on_any_number_of_processes(processes: int, micro: int) -> None:
    batch = Batch(micro, processes, 16 // processes // micro)
    for rows in global_batches(LENGTHS, 16, 12, seed=1):
        shares = [micro_batches(rows, LENGTHS, batch, rank) for rank in range(processes)]
        assert {len(share) for share in shares} == {batch.accumulation}
        assert sorted(itertools.chain.from_iterable(itertools.chain.from_iterable(shares))) == sorted(rows)


def test_like_lengths_share_a_batch() -> None:
    batches = list(global_batches(LENGTHS * 10, 8, 100, seed=1))
    padded = sum(max((LENGTHS * 10)[row] for row in batch) * len(batch) for batch in batches)
    assert sum(sum((LENGTHS * 10)[row] for row in batch) for batch in batches) / padded > 0.85


def test_sampler_counts_tokens_of_all_processes() -> None:
    sampler = MicroBatches(LENGTHS, Batch(4, 2, 1), 5, 1, rank=0)
    assert len(sampler) == len(list(sampler)) == 5
    expected = [sum(LENGTHS[row] for row in rows) for rows in global_batches(LENGTHS, 8, 5, seed=1)]
    assert tokens_after(sampler.steps(), LENGTHS) == [0, *itertools.accumulate(expected)]


@pytest.mark.parametrize(("n", "processes", "micro"), [(10, 1, 4), (10, 2, 4), (3, 4, 8), (1, 3, 1)])
def test_validation_counts_each_row_once_in_equally_many_passes(n: int, processes: int, micro: int) -> None:
    shares = [validation_batches(LENGTHS[:n], Batch(micro, processes, 1), rank) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(row for share in shares for rows, counts in share if counts for row in rows) == list(range(n))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_preset_holds_the_batch_and_the_recipe_is_merged_over_it(stage: int) -> None:
    given = {"zero_optimization": {"overlap_comm": True}, "prescale_gradients": True}
    config = deepspeed_config(options(zero_stage=stage, deepspeed=given), Batch(4, 2, 3), 10_000_000)
    assert config["zero_optimization"]["stage"] == stage
    assert config["zero_optimization"]["overlap_comm"] is True
    assert config["prescale_gradients"] is True
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (4, 3)
    assert "train_batch_size" not in config
    assert "optimizer" not in config


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"train_batch_size": 64}, "global_batch_size"),
        ({"train_micro_batch_size_per_gpu": 1}, "micro_batch_size"),
        ({"gradient_accumulation_steps": 2}, "global_batch_size"),
        ({"gradient_clipping": 2.0}, "max_grad_norm"),
        ({"optimizer": {"type": "AdamW"}}, "learning_rate"),
        ({"scheduler": {}}, "scheduler"),
        ({"fp16": {"enabled": True}}, "dtype"),
        ({"zero_optimization": {"stage": 2}}, "leave it out"),
        ({"zero_optimization": 2}, "must be a mapping"),
        ({"zero_optimization": None}, "must be a mapping"),
        ({"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/etc"}}}, "set offload"),
        ({"zero_optimization": {"offload_optimizer": "cpu"}}, "set offload"),
        ({"zero_optimization": {"offload_param": {"device": "cpu"}}}, "set offload"),
        ({"zero_optimization": {"cpu_offload": True}}, "set offload"),
        ({"zero_optimization": {"stage3_gather_16bit_weights_on_model_save": False}}, "no weights: leave it out"),
        ({"zero_optimization": {"gather_16bit_weights_on_model_save": False}}, "no weights: leave it out"),
        ({"zero_optimization": {"stage3_gather_fp16_weights_on_model_save": True}}, "no weights: leave it out"),
        ({"activation_checkpointing": True}, "set gradient_checkpointing"),
        ({"activation_checkpointing": {"cpu_checkpointing": True}}, "set gradient_checkpointing"),
        ({"bf16": True}, "set dtype"),
        ({"timers": None}, "must be a mapping"),
        ({"timers": {"throughput": True}}, "must be a mapping"),
        ({"data_types": "bf16"}, "must be a mapping"),
        ({"compile": True}, "must be a mapping"),
        ({"prescale_gradients": {}}, "must be true or false"),
        ({"steps_per_print": 0}, "must be a number above 0"),
        ({"communication_data_type": 16}, "must be a text"),
        ({"tensorboard": {"enabled": True, "output_path": "/etc"}}, "allowed are"),
        ({"nonsense": 1}, "allowed are"),
    ],
)
def test_deepspeed_key_that_fights_or_escapes_is_refused(given: dict[str, object], remedy: str) -> None:
    with pytest.raises(ValidationError, match=f"deepspeed.{next(iter(given))}.*{remedy}"):
        TrainingOptions(zero_stage=1, deepspeed=given)


@pytest.mark.parametrize(
    "given", [{"gradient_predivide_factor": float("inf")}, {"zero_optimization": {"max_live_parameters": float("nan")}}]
)
def test_deepspeed_number_that_json_cannot_hold_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="a number that is not finite"):
        TrainingOptions(deepspeed=given)


@pytest.mark.parametrize(
    ("how", "buckets"),
    [
        ({"offload": "optimizer"}, [100_000, 5_000_000, 200_000_000]),
        ({}, [100_000, 100_000, 100_000]),  # our own exchange has none
    ],
)
def test_small_models_get_small_buckets(how: dict[str, object], buckets: list[int]) -> None:
    sizes = [
        deepspeed_config(options(zero_stage=2, **how), Batch(1, 1, 1), n)["zero_optimization"]["reduce_bucket_size"]
        for n in (1_000, 5_000_000, 7_000_000_000)
    ]
    assert sizes == buckets


HISTORY = [Validation(10, 0.9), Validation(20, 0.5), Validation(30, 0.5), Validation(40, 0.6)]


@pytest.mark.parametrize(
    ("n", "patience", "best_step", "is_new", "stops"),
    [
        (0, 1, None, False, False), (1, 1, 10, True, False), (2, 1, 20, True, False), (3, 1, 20, False, True), (3, 2, 20, False, False),
        (4, 2, 20, False, True), (4, None, 20, False, False),
    ],
)  # fmt: skip
def test_best_and_patience(n: int, patience: int | None, best_step: int | None, is_new: bool, stops: bool) -> None:
    history = HISTORY[:n]
    found = validation.best(history)
    assert (found.step if found else None) == best_step
    assert validation.is_new_best(history) is is_new
    assert validation.out_of_patience(history, patience) is stops


def test_rows_are_kept_whole_or_dropped_and_counted() -> None:
    tally = Tally()
    kept = [tally.add(Encoded([1] * 5, [2] * n), limit=12) for n in (7, 8, 1, 3)]
    assert kept == [True, False, False, True]
    assert tally.as_dict() == {
        "rows": 2,
        "dropped": {"empty": 1, "too_long": 1},
        "supervised_tokens": 10,
        "supervised_tokens_per_row": 5.0,
        "prompt_tokens_per_row": 5.0,
        "longest_row_tokens": 12,
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no training rows"),
        ([(50, ""), (30, "")], "Every training row was dropped: longer than 12 tokens .*shortest has 35"),
        ([(1, "")], "completion is empty"),
        (
            [(3, "<end>"), (4, "<begin>")],
            "Every .* control token of the student stands in the completion as text, such as <end>",
        ),
        ([(50, ""), (30, ""), (1, ""), (3, "<end>")], "left: 2 of 4 were dropped: longer than 12 .*shortest has 35"),
        ([(50, ""), (3, "<end>"), (3, "<end>")], "left: 2 of 3 were dropped: a control token"),
    ],
)
def test_nothing_to_learn_is_refused(rows: list[tuple[int, str]], message: str) -> None:
    tally = Tally()
    for n, control in rows:
        tally.add(Encoded([1] * 5, [2] * n, control), limit=12)
    with pytest.raises(DatasetError, match=message):
        preflight.check_rows(tally, 12, "training.max_length")


def test_tokenizer_that_loses_text_is_refused() -> None:
    assert preflight.check_round_trips([("a b", "ab"), ("x", "x"), ("é", "?")]) == 1
    with pytest.raises(DatasetError, match="loses text: 'é'"):
        preflight.check_round_trips([("é", "?"), ("ü", "?")])

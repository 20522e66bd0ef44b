"""What the model card says of the labels that a student learnt from."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.shared.recipe import TrainingOptions
from overproof.shared.specs import ModelRef, TrainSpec
from overproof.training.domain.card import model_card

HALF: dict[str, Any] = {"rows": 4, "supervised_tokens_per_row": 9, "dropped": {}}
PREFLIGHT: dict[str, Any] = {"train": HALF, "val": HALF, "batch": {"rows": 2}, "end_token": "<|end|>"}
RESULT: dict[str, Any] = {
    "val_loss": None, "steps": 3, "step": 3, "stopped_early": False, "chosen_for": "", "train_loss": 0.5, "device": "cpu",
    "versions": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "said"),
    [("gold", "the teacher's correct solutions (policy"), ("majority", "with the teacher's own clear majority")],
)
def test_the_card_says_what_the_solutions_agree_with(labels: Any, said: str) -> None:
    spec = TrainSpec(
        selected=f"select/{'0' * 32}", student=ModelRef(name="small", kind="folder", location="small"), options=TrainingOptions(),
        policy="shortest", labels=labels, round=1, teacher="big",
    )  # fmt: skip
    card = model_card(spec, PREFLIGHT, RESULT)
    assert said in card
    assert ("arXiv:2203.11171" in card) == (labels == "majority")


def test_the_card_says_how_the_student_was_trained() -> None:
    options = TrainingOptions(lora={"rank": 8, "quantize": "nf4"}, micro_batch_tokens=8192, global_batch_tokens=30_000)
    spec = TrainSpec(
        selected=f"select/{'0' * 32}", student=ModelRef(name="small", kind="folder", location="small", license="mit"), options=options,
        policy="shortest", round=2, teacher="big", licenses=(("the model big", "apache-2.0"),),
    )  # fmt: skip
    card = model_card(spec, PREFLIGHT, RESULT)
    assert "3 steps of about 2 rows;" in card
    assert "low-rank adapters (rank 8, alpha 32) beside frozen weights held in four bits (nf4)" in card
    assert "| lora.rank | 8 |" in card
    assert "| global_batch_tokens | 30000 |" in card
    assert "batch_size" not in card
    assert '\nlicense: "mit"\n' in card
    assert "- the model big: apache-2.0" in card

"""`POST /v1/grade`: answers in, verdicts out, in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from overproof.shared.recipe import GradingOptions
from overproof.shared.topology import FinishReason, Verdict

MAX_GOLD_CHARS = 4096
MAX_GOLDS = 16
MAX_TEXT_CHARS = 10_000_000
"""So that one endless completion does not cost its batch: grading reads the last 200,000 characters of a solution."""

Gold = Annotated[str, Field(min_length=1, max_length=MAX_GOLD_CHARS)]


class Answer(BaseModel):
    """One answer to judge: a whole solution (`text`), or the bare answer (`answer`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    text: str | None = Field(None, max_length=MAX_TEXT_CHARS, examples=["... so the sum is \\boxed{\\frac12}."])
    """A solution; the final answer is looked for in it."""
    answer: str | None = Field(None, max_length=MAX_TEXT_CHARS)
    """A final answer, without a solution around it."""
    gold: Gold | Annotated[list[Gold], Field(min_length=1, max_length=MAX_GOLDS)] = Field(
        examples=["0.5", ["0.5", "1/2"]]
    )
    """The right answer, or several that are all right."""
    finish_reason: FinishReason = FinishReason.STOP
    """`length`: the solution was cut at the token limit, so that a missing answer counts as `truncated`."""

    @field_validator("gold", mode="wrap")
    @classmethod
    def _in_one_sentence(cls, value: Any, judge: ValidatorFunctionWrapHandler) -> Any:
        try:
            return judge(value)
        except ValidationError:
            raise ValueError(
                f"give the right answer as a text of 1 to {MAX_GOLD_CHARS} characters, or a list of 1 to {MAX_GOLDS} such texts"
            ) from None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.text is None) == (self.answer is None):
            raise ValueError("give exactly one of text (a whole solution) and answer (a bare answer)")
        return self


class GradeRequest(BaseModel):
    """Body of `POST /v1/grade`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    items: list[Answer] = Field(min_length=1)
    options: GradingOptions = GradingOptions()


class Judgement(BaseModel):
    """What grading says of one item."""

    verdict: Verdict
    correct: bool
    extracted: str | None
    """The answer that was found; None when there is none."""
    method: str
    """Which rule found the answer and which stage of the cascade decided, `boxed/exact`."""
    reason: str
    seconds: float


class GradeResponse(BaseModel):
    """Answer of `POST /v1/grade`: one judgement per item, in the order of the items."""

    object: str = "list"
    data: list[Judgement]
    grader: str
    """Version of the grader."""


def rows_of_items(items: Iterable[Answer]) -> Iterable[dict[str, Any]]:
    """Rows of ANSWERS: index, text, is_solution, gold, finish_reason."""
    for index, item in enumerate(items):
        yield {
            "index": index,
            "text": item.text if item.text is not None else item.answer,
            "is_solution": item.text is not None,
            "gold": [item.gold] if isinstance(item.gold, str) else item.gold,
            "finish_reason": str(item.finish_reason),
        }


def judgement(row: dict[str, Any]) -> Judgement:
    """Reads verdict, extracted, method, reason, seconds of a row of GRADES."""
    verdict = Verdict(row["verdict"])
    return Judgement(
        verdict=verdict,
        correct=verdict is Verdict.CORRECT,
        extracted=row["extracted"],
        method=row["method"],
        reason=row["reason"],
        seconds=row["seconds"],
    )

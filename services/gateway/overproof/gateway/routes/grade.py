"""Grading without a run: answers in, verdicts out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from overproof.gateway.adapters.grader import grade, prepare
from overproof.gateway.bodies import JSON, checked, media_type, parsed, read_body
from overproof.gateway.context import Context, Ctx
from overproof.gateway.domain.answers import GradeRequest, GradeResponse
from overproof.gateway.guard import Principal
from overproof.gateway.problem_details import Unsupported
from overproof.shared.errors import TooLarge
from overproof.shared.specs import AnswersSpec

router = APIRouter(tags=["grading"])

EXAMPLE: dict[str, Any] = {
    "items": [
        {"text": "Adding both gives \\boxed{\\frac{1}{2}}.", "gold": "0.5"},
        {"answer": "x=3", "gold": ["3", "x = 3"]},
        {"text": "First we note that", "gold": "7", "finish_reason": "length"},
    ]
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/GradeRequest"}, "example": EXAMPLE}},
    }
}


@router.post("/v1/grade", operation_id="gradeAnswers", summary="Grade answers", openapi_extra=BODY)
async def grade_answers(request: Request, context: Ctx, who: Principal) -> GradeResponse:
    """Judges a batch with the grader that runs use, and waits for it. The same batch twice is judged once."""
    body = await read_body(request, context.settings.max_grade_bytes)
    spec = await run_in_threadpool(_prepare, context, body, media_type(request))
    return await grade(context, spec)


def _prepare(context: Context, body: bytes, kind: str) -> AnswersSpec:
    if kind != JSON:
        raise Unsupported("The body is not JSON.", "Send Content-Type: application/json.")
    asked = checked(parsed(body, kind), GradeRequest, "The request")
    most = context.settings.max_answers
    if len(asked.items) > most:
        raise TooLarge(f"items has {len(asked.items)} entries; {most} are allowed at once.", "Send them in batches.")
    return prepare(context, asked)

"""One row of anybody's data set → one row of ours. Every error names the field; the caller adds the line."""

from __future__ import annotations

import re
from typing import Any

from overproof.pipeline.domain.statements import group_id, problem_id
from overproof.shared.columns import pick
from overproof.shared.errors import DatasetError
from overproof.shared.specs import digest
from overproof.shared.topology import FinishReason

MAX_STATEMENT_CHARS = 32_768
MAX_ANSWER_CHARS = 4_096
NO_ANSWER = (
    "Add the final answer, or a solution that ends in \\boxed{...}; training problems need none where the recipe says "
    "data.on_ungradable: keep and selection.labels: majority."
)


def problem_row(
    values: dict[str, Any], columns: dict[str, str], source: str, *, needs_answer: bool = True
) -> dict[str, Any]:
    """A row of PROBLEMS; without `needs_answer` a missing answer becomes an empty one. Raises DatasetError."""
    statement = _text(pick(values, "problem", columns), "problem", MAX_STATEMENT_CHARS)
    solution = pick(values, "solution", columns)
    answers = _answers(pick(values, "answer", columns), solution, needs_answer)
    group = values.get(columns["group"]) if "group" in columns else None
    return {
        "problem_id": problem_id(statement),
        "group_id": digest(["group", group]) if group else group_id(statement),
        "problem": statement,
        "answer": answers[0],
        "alternatives": answers[1:] or None,
        "solution": None if solution is None else str(solution),
        "level": _level(pick(values, "level", columns)),
        "type": _optional(pick(values, "type", columns)),
        "source": source,
    }


def completion_row(values: dict[str, Any], columns: dict[str, str], sample: int, spec: str) -> dict[str, Any]:
    """A row of COMPLETIONS out of a solutions line (ours, or the original workflow's with `num_tokens`). Raises DatasetError."""
    text = pick(values, "text", columns)
    if not isinstance(text, str):
        raise DatasetError(
            "text is missing.", "Each line needs the model's solution as text, completion, solution or output."
        )
    n_tokens = pick(values, "n_tokens", columns)
    if not isinstance(n_tokens, int) or n_tokens < 0:
        raise DatasetError("n_tokens is not a number of tokens.", "Give each line n_tokens or num_tokens.")
    reason = str(values.get("finish_reason") or FinishReason.STOP)
    if reason not in set(FinishReason):
        raise DatasetError(f"finish_reason {reason[:20]!r} is unknown.", f"Use one of {', '.join(FinishReason)}.")
    return {
        "sample": sample,
        "round": 1,
        "role": str(values.get("role") or "teacher"),
        "model": str(values.get("model") or "given"),
        "text": text,
        "n_tokens": n_tokens,
        "finish_reason": reason,
        "prompt_tokens": int(values.get("prompt_tokens") or 0),
        "mean_logprob": None,
        "seed": int(values.get("seed") or 0),
        "spec": spec,
    }


def selected_row(values: dict[str, Any], columns: dict[str, str], source: str) -> dict[str, Any]:
    """A row of SELECTED out of a training line: problem (or prompt) and solution (or completion). Raises DatasetError."""
    prompt = _text(pick(values, "prompt", columns) or pick(values, "problem", columns), "prompt", MAX_STATEMENT_CHARS)
    completion = pick(values, "completion", columns) or pick(values, "text", columns)
    split = str(values.get("split") or "train")
    if not isinstance(completion, str) or not completion:
        raise DatasetError(
            "completion is missing.", "Each line needs the text to learn as completion, solution or text."
        )
    if split not in {"train", "val"}:
        raise DatasetError(f"split {split[:20]!r} is unknown.", "Use train or val; test rows never reach training.")
    return {
        "problem_id": str(values.get("problem_id") or problem_id(prompt)),
        "group_id": str(values.get("group_id") or group_id(prompt)),
        "sample": int(values.get("sample") or 0),
        "prompt": prompt,
        "system": _optional(values.get("system")),
        "completion": completion,
        "n_tokens": int(pick(values, "n_tokens", columns) or 0),
        "level": _level(pick(values, "level", columns)),
        "type": _optional(pick(values, "type", columns)),
        "split": split,
        "policy": str(values.get("policy") or f"given:{source.partition(':')[0]}"),
    }


def last_box(solution: str) -> str | None:
    r"""Content of the last `\boxed{...}` with balanced braces, or None."""
    start = solution.rfind("\\boxed{")
    depth = 0
    for end in range(start + 6, len(solution)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if depth == 0:
            return solution[start + 7 : end].strip()
    return None


def _answers(answer: Any, solution: Any, is_needed: bool) -> list[str]:
    """The gold answer and its alternatives: a list, a text, GSM8K's `... #### 42`, or else the solution's last box."""
    if isinstance(answer, list | tuple):
        found = [str(one).strip() for one in answer if str(one).strip()]
    elif answer is None:
        box = last_box(str(solution)) if solution is not None else None
        found = [box] if box else []
    else:
        text = str(answer).strip()
        found = [text.rpartition("####")[2].strip().replace(",", "")] if "####" in text else [text]
    if not found or not found[0]:
        if not is_needed:
            return [""]
        raise DatasetError("answer is missing.", NO_ANSWER)
    if max(map(len, found)) > MAX_ANSWER_CHARS:
        raise DatasetError(f"answer is longer than {MAX_ANSWER_CHARS} characters.", "Give the final answer only.")
    return found


def _text(value: Any, name: str, limit: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DatasetError(
            f"{name} is missing or not text.", f"Name the column in the recipe: columns: {{{name}: ...}}."
        )
    if len(value) > limit:
        raise DatasetError(f"{name} is longer than {limit} characters.", "Leave the row out.")
    return value.strip()


def _level(value: Any) -> int | None:
    """`3`, `"3"`, `"Level 3"` → 3; anything without a number → None."""
    match = re.search(r"\d+", str(value)) if value is not None else None
    return int(match[0]) if match and len(match[0]) < 6 else None


def _optional(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)

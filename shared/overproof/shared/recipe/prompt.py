"""How a problem becomes a prompt."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from overproof.shared.recipe.part import Part

SUFFIX = "Please reason step by step, and put your final answer within \\boxed{}."


class Shot(Part):
    """A worked example in the prompt."""

    problem: str
    solution: str


class PromptOptions(Part):
    """How a problem becomes a prompt; the same for the teacher, the students and the training rows."""

    system: str | None = None
    """The system turn; None: none is sent (the model's own template may add its default)."""
    template: str = "{problem}\n\n" + SUFFIX
    """The user's turn; `{problem}` is replaced, nothing else is interpreted."""
    few_shot: tuple[Shot, ...] = ()
    """Shown to every model that is sampled; training rows leave them out, so that the student learns to do without."""

    @model_validator(mode="after")
    def _has_problem(self) -> Self:
        if "{problem}" not in self.template:
            raise ValueError("template must contain {problem}")
        return self

    def render(self, problem: str) -> str:
        """The user's turn for one problem."""
        return self.template.replace("{problem}", problem)

    def messages(self, problem: str) -> list[dict[str, str]]:
        """The chat turns before the model's answer: system, the worked examples, the problem."""
        turns = [{"role": "system", "content": self.system}] if self.system is not None else []
        for shot in self.few_shot:
            turns.append({"role": "user", "content": self.render(shot.problem)})
            turns.append({"role": "assistant", "content": shot.solution})
        return [*turns, {"role": "user", "content": self.render(problem)}]

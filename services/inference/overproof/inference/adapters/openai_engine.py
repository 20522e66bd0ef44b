"""Completions from a server that speaks OpenAI's chat completions: a running `vllm serve`, a hosted teacher.

One request makes one completion, whatever `n` the server allows: its usage is then that completion's own, its seed too, and
a request that fails costs one row. A server with a prefix cache reads the prompt once all the same; a hosted one bills it for
each sample.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from overproof.inference.adapters.chat import PromptError
from overproof.inference.adapters.on_a_loop import Draw, LoopEngine
from overproof.inference.adapters.openai_server import Server, ServerFailed
from overproof.inference.ports import Completion, Request
from overproof.inference.settings import InferenceSettings
from overproof.shared.errors import EngineUnavailable, ModelError
from overproof.shared.recipe import ACCOUNTING, EngineOptions
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

SEED_BITS = 31
"""Of a sample's seed as it is sent: some servers take no longer one."""
FAILURES_IN_A_ROW = 10
"""So many prompts one after the other that a server fails on are the server's fault."""
OURS = ("model", "messages", "temperature", "top_p", "top_k", "max_tokens", "stop", "seed", "logprobs", "n", "stream")
"""Fields of the request that follow from the recipe's other fields. `engine.options` may leave one out, or rename it."""
ELSEWHERE = {"kind", "min_success_ratio", "options", "logprobs"} | ACCOUNTING
"""Fields of the engine block that this engine knows; the others are the server's own business."""
FINISHED = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
REASONING = ("reasoning_content", "reasoning")
"""Where servers put what a model thought before it answered."""

Turns = Sequence[Mapping[str, str]]


class Answer(NamedTuple):
    """One completion as the server gave it."""

    choice: Choice
    usage: CompletionUsage


class OpenaiEngine(LoopEngine[Turns, Answer]):
    """A model behind HTTP. Token counts are the server's; nothing is tokenised here."""

    def __init__(self, model: str, options: EngineOptions, settings: InferenceSettings) -> None:
        """`model`: the server's own name for it. Raises ModelError for options that are not this engine's."""
        validate(options)
        self.model = model
        self.server = Server(settings)
        self.ahead = settings.openai_concurrency
        self._options = options
        self._places = asyncio.Semaphore(settings.openai_concurrency)  # of all shards together
        self._failures = 0
        self._client = self.server.client()
        super().__init__()

    def prompt(self, request: Request) -> Turns:
        """The turns as they are: the server knows the model's template."""
        return request.turns

    async def make(self, draw: Draw[Turns], sampling: Sampling) -> Answer:
        """One request, tried again by the client while that may help."""
        turns: Any = list(draw.prompt)
        async with self._places:
            try:
                made = await self._client.chat.completions.create(
                    model=self.model, messages=turns, extra_body=self.body(draw, sampling)
                )
            except openai.APIError as error:
                raise self._failed(self.server.failure(error, self.model)) from error
        self._failures = 0
        return _answer(made)

    def read(self, draw: Draw[Turns], made: Answer, sampling: Sampling) -> Completion:
        """Text, counts and reason as the server gives them; a completion that it withheld is an error with the reason."""
        choice, usage = made
        details = usage.completion_tokens_details
        reason = FINISHED.get(str(choice.finish_reason), FinishReason.ERROR)
        return Completion(
            number=draw.request,
            draw=draw.draw,
            text=_withheld(choice) if reason is FinishReason.ERROR else _text(choice),
            n_tokens=usage.completion_tokens,
            prompt_tokens=usage.prompt_tokens,
            finish_reason=reason,
            mean_logprob=_mean_logprob(choice),
            think_tokens=(details.reasoning_tokens or 0) if details else 0,
        )

    def close(self) -> None:
        """Close the connections."""
        self._wait(self._client.close())
        self._end_loop()

    def body(self, draw: Draw[Turns], sampling: Sampling) -> dict[str, Any]:
        """The request's fields besides model and messages."""
        ours: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": draw.seed % 2**SEED_BITS,
        }
        if sampling.top_k:
            ours["top_k"] = sampling.top_k  # not OpenAI's own, but vLLM's and others'
        if sampling.stop:
            ours["stop"] = list(sampling.stop)
        if self._options.logprobs:
            ours["logprobs"] = True
        given = self._options.options
        renamed = {str(given.get(name, name)): value for name, value in ours.items() if given.get(name, name)}
        return renamed | {name: value for name, value in given.items() if name not in OURS}

    def _failed(self, failure: Exception) -> Exception:
        """A server that fails on one prompt may yet answer the next; one that fails on all of them is down."""
        if isinstance(failure, ServerFailed):
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                return EngineUnavailable(f"{self.server.address} fails again and again. {failure}", "Look at its log.")
        return failure


def validate(options: EngineOptions) -> None:
    """Raises ModelError that names a field which a server decides by itself, or which the recipe has elsewhere."""
    default = EngineOptions(kind="openai")
    for name in sorted(set(EngineOptions.model_fields) - ELSEWHERE):
        if getattr(options, name) != getattr(default, name):
            raise ModelError(f"engine.{name} is decided by the server.", "Remove it, and start the server that way.")
    for name, value in options.options.items():
        if name in OURS and value is not None and not isinstance(value, str):
            raise ModelError(
                f"engine.options.{name} follows from the recipe's other fields.",
                "Remove it; null leaves the field out of the requests, a name sends it under that name.",
            )


def _answer(made: ChatCompletion) -> Answer:
    """Raises PromptError for an answer without a completion, ModelError for one without counts."""
    if not getattr(made, "choices", None):
        said = getattr(made, "error", None) or made
        raise PromptError(f"The server answered without a completion: {' '.join(str(said).split())[:200]}")
    if made.usage is None:
        raise ModelError("The server does not say how many tokens it read and wrote.", "Let it send `usage`.")
    return Answer(made.choices[0], made.usage)


def _text(choice: Choice) -> str:
    """The answer, with what the model thought before it as local engines give it: `<think>` ... `</think>`."""
    extra = choice.message.model_extra or {}
    thought = next((str(extra[name]) for name in REASONING if extra.get(name)), None)
    answer = choice.message.content or ""
    if thought is None:
        return answer
    return f"<think>\n{thought.strip()}\n</think>\n\n{answer}" if answer else f"<think>\n{thought.strip()}"


def _withheld(choice: Choice) -> str:
    if choice.finish_reason == "content_filter":
        return "The server's content filter withheld the completion."
    return f"The server ended the completion for another reason: {choice.finish_reason}."


def _mean_logprob(choice: Choice) -> float | None:
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    return sum(one.logprob for one in tokens) / len(tokens) if tokens else None

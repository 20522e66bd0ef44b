"""Completions with vLLM's asynchronous engine: any number of shards in flight on one engine.

One shard's last completions run beside the next shard's first ones, so the batch is never left half empty at a shard's end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from pathlib import Path
from typing import Any

from vllm import SamplingParams, exceptions
from vllm.inputs import tokens_input
from vllm.outputs import CompletionOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.metrics.prometheus import unregister_vllm_metrics

from overproof.inference.adapters.chat import Chat, PromptError, first_line
from overproof.inference.adapters.on_a_loop import Draw, LoopEngine
from overproof.inference.adapters.vllm_failures import failure, listening, reason_of
from overproof.inference.adapters.vllm_options import configuration, said_of, validate
from overproof.inference.adapters.weights import require_all
from overproof.inference.ports import Completion, Request
from overproof.shared.errors import EngineUnavailable, OverproofError
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

__all__ = ["VllmEngine", "validate"]

log = logging.getLogger(__name__)

AHEAD_PER_SEQUENCE = 2
"""Requests handed over per sequence that the engine runs at once: its queue must never be empty."""
SECONDS_OF_LAST_WORDS = 0.3
"""Until what dying processes print has arrived."""
REFUSALS: tuple[type[Exception], ...] = (ValueError, getattr(exceptions, "VLLMClientError", ValueError))
"""What is wrong with one request; older releases know only ValueError."""
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # a worker has threads, and a fork copies their locks


class VllmEngine(LoopEngine[list[int], CompletionOutput]):
    """A model in vLLM, with prefix caching: the samples of a problem share the reading of its prompt.

    Each sample has its own seed on a GPU. vLLM's CPU build cannot draw with per-request seeds; there only the engine is
    seeded, and a shard made again has other completions (`honours_seeds`).
    """

    def __init__(self, folder: Path, options: EngineOptions) -> None:
        """Raises ModelError for a checkpoint or argument that vLLM refuses, EngineUnavailable when it does not start."""
        validate(options)
        self.chat = Chat(folder, options.max_model_len)
        if options.options.get("load_format") != "dummy":
            require_all(folder)
        self.honours_seeds = self.holds_gpu = not current_platform.is_cpu()
        self._logprobs = 0 if options.logprobs else None
        super().__init__()
        try:
            with listening() as self._printed:
                self._llm: Any = self._wait(self._start(folder, options))
        except BaseException:
            self._end_loop()
            raise
        self._places = int(self._llm.vllm_config.scheduler_config.max_num_seqs)
        self.ahead = AHEAD_PER_SEQUENCE * self._places

    @property
    def places(self) -> int:
        """See `Engine.places`; fewer run when the KV cache is full."""
        return self._places

    def prompt(self, request: Request) -> list[int]:
        """Token ids by the model's own template."""
        return self.chat.prompt(request.turns)

    async def make(self, draw: Draw[list[int]], sampling: Sampling) -> CompletionOutput:
        """One request to the engine; its last message is its only one."""
        try:
            prompt = tokens_input(draw.prompt)
            made = [one async for one in self._llm.generate(prompt, self.params(draw, sampling), uuid.uuid4().hex)]
        except (EngineDeadError, EngineGenerateError) as error:
            await asyncio.sleep(SECONDS_OF_LAST_WORDS)
            raise self._death(error) from error
        except REFUSALS as error:  # about this request alone
            raise PromptError(f"vLLM refused the prompt: {first_line(error)}", len(draw.prompt)) from error
        return made[-1].outputs[0]

    def read(self, draw: Draw[list[int]], made: CompletionOutput, sampling: Sampling) -> Completion:
        """Text by the model's own tokenizer; counts as the engine gives them."""
        tokens = list(made.token_ids)
        logprob = made.cumulative_logprob
        return Completion(
            number=draw.request,
            draw=draw.draw,
            text=self.chat.text(tokens, sampling.stop),
            n_tokens=len(tokens),
            prompt_tokens=len(draw.prompt),
            finish_reason=FinishReason.LENGTH if made.finish_reason == "length" else FinishReason.STOP,
            mean_logprob=None if logprob is None or not tokens else logprob / len(tokens),
            think_tokens=self.chat.think_tokens(tokens, draw.prompt),
        )

    def lost(self) -> OverproofError | None:
        """See `LoopEngine.lost`. vLLM tells the requests that it has when its process dies, not those that reach it just then."""
        return self._death(EngineDeadError()) if self._llm.errored else None

    def _death(self, error: Exception) -> EngineUnavailable:
        return EngineUnavailable(
            f"vLLM died: {reason_of(error, self._printed)}", "See the worker's log; it is started again."
        )

    def close(self) -> None:
        """End vLLM's processes, which gives the GPU's memory back."""
        self._wait(_shut_down(self._llm))
        unregister_vllm_metrics()
        self._end_loop()

    async def _start(self, folder: Path, options: EngineOptions) -> Any:
        """On the loop, where the engine's own tasks will live."""
        config = configuration(folder, options)
        log.info("%s: %s", folder.name, said_of(config))
        try:
            return AsyncLLM.from_vllm_config(config, usage_context=UsageContext.LLM_CLASS)
        except Exception as error:
            await asyncio.sleep(SECONDS_OF_LAST_WORDS)
            raise failure(folder.name, error, self._printed) from error

    def params(self, draw: Draw[list[int]], sampling: Sampling) -> SamplingParams:
        """How one draw is made."""
        room = self.chat.room(len(draw.prompt)) or sampling.max_tokens
        seeded = self.honours_seeds and sampling.temperature > 0
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=min(sampling.max_tokens, room),
            stop=list(sampling.stop),
            stop_token_ids=sorted(self.chat.eos),
            seed=draw.seed if seeded else None,
            logprobs=self._logprobs,
            detokenize=bool(sampling.stop),  # texts are decoded whole; the engine needs them only to find stop strings
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


async def _shut_down(llm: Any) -> None:
    llm.shutdown()

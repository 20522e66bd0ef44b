"""Completions with vLLM's asynchronous engine: any number of shards in flight on one engine.

The engine lives on an event loop of its own; `generate` hands it requests from whichever thread asks and takes what is
finished from a queue, so that one shard's last completions run beside the next shard's first ones.
"""

from __future__ import annotations

import asyncio
import dataclasses
import queue
import threading
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from vllm import SamplingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from overproof.inference.adapters.chat import Chat, PromptError, first_line, refused
from overproof.inference.ports import Completion, Request
from overproof.shared.errors import EngineUnavailable, ModelError
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

T = TypeVar("T")

SAFE_LOAD_FORMATS = {"auto", "safetensors", "dummy"}
"""A checkpoint has safetensors (that is checked before), so `auto` never reaches for pickles; `dummy` is for benchmarks."""
OURS = {"model", "tokenizer", "dtype", "max_model_len", "tensor_parallel_size", "gpu_memory_utilization", "seed"}
"""Engine arguments that follow from the recipe's other fields."""
UNSAFE = {
    "trust_remote_code", "code_revision", "logits_processors", "hf_overrides", "hf_config_path", "tokenizer_mode",
    "tokenizer_revision", "download_dir", "generation_config", "override_generation_config", "kv_transfer_config",
}  # fmt: skip
"""Arguments that load code, or other files than the checkpoint's."""
AHEAD_PER_SEQUENCE = 2
"""Requests handed over per sequence that the engine runs at once: its queue must never be empty."""
DEFAULT_SEQUENCES = 256
POLL_SECONDS = 0.5


class Draw(NamedTuple):
    """One completion to make."""

    request: int
    draw: int
    seed: int
    prompt: list[int]


class VllmEngine:
    """A model in vLLM, with prefix caching: the samples of a problem share the reading of its prompt.

    Each sample has its own seed on a GPU. vLLM's CPU build cannot draw with per-request seeds; there only the engine is
    seeded, and a shard made again has other completions (`honours_seeds`).
    """

    def __init__(self, folder: Path, options: EngineOptions) -> None:
        """Raises ModelError for a checkpoint or argument that vLLM refuses, EngineUnavailable when it does not start."""
        validate(options)
        self.chat = Chat(folder, options.max_model_len)
        self.honours_seeds = not current_platform.is_cpu()
        arguments = _arguments(folder, options)
        self.ahead = AHEAD_PER_SEQUENCE * int(arguments.max_num_seqs or DEFAULT_SEQUENCES)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            self._llm: Any = self._wait(_start(folder.name, arguments))
        except BaseException:
            self._end_loop()
            raise

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, check: Callable[[], None]
    ) -> Iterator[Completion]:
        """See `Engine.generate`."""
        finished: queue.SimpleQueue[Completion | BaseException] = queue.SimpleQueue()
        answered: deque[Completion] = deque()
        draws = self._draws(requests, answered)
        running: set[Future[None]] = set()
        n_running = 0
        try:
            while True:
                while n_running < self.ahead and (draw := next(draws, None)):
                    running.add(self._submit(self._one(draw, sampling, finished)))
                    n_running += 1
                while answered:
                    yield answered.popleft()
                if not n_running:
                    return
                check()
                for completion in _taken(finished):
                    n_running -= 1
                    yield completion
                running = {future for future in running if not future.done()}
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        """End vLLM's processes, which gives the GPU's memory back."""
        self._wait(_call(self._llm.shutdown))
        self._end_loop()

    def _draws(self, requests: Iterable[Request], answered: deque[Completion]) -> Iterator[Draw]:
        for request in requests:
            try:
                prompt = self.chat.prompt(request.turns)
            except PromptError as error:
                answered.extend(refused(request, error))
            else:
                for number, seed in enumerate(request.seeds):
                    yield Draw(request.number, number, seed, prompt)

    async def _one(
        self, draw: Draw, sampling: Sampling, finished: queue.SimpleQueue[Completion | BaseException]
    ) -> None:
        try:
            finished.put(await self._complete(draw, sampling))
        except (VLLMClientError, ValueError) as error:  # about this request alone
            reason = f"vLLM refused the prompt: {first_line(error)}"
            finished.put(Completion(draw.request, draw.draw, reason, 0, len(draw.prompt), FinishReason.ERROR))
        except Exception as error:
            finished.put(
                EngineUnavailable(f"vLLM died: {first_line(error)}", "See the worker's log; it is started again.")
            )

    async def _complete(self, draw: Draw, sampling: Sampling) -> Completion:
        (prompt,) = await self._llm.renderer.render_cmpl_async([TokensPrompt(prompt_token_ids=draw.prompt)])
        made = [one async for one in self._llm.generate(prompt, self._params(draw, sampling), uuid.uuid4().hex)]
        (output,) = made[-1].outputs
        tokens = list(output.token_ids)
        reason = FinishReason.LENGTH if output.finish_reason == "length" else FinishReason.STOP
        return Completion(
            number=draw.request,
            draw=draw.draw,
            text=self.chat.text(tokens, sampling.stop),
            n_tokens=len(tokens),
            prompt_tokens=len(draw.prompt),
            finish_reason=reason,
            think_tokens=self.chat.think_tokens(tokens),
        )

    def _params(self, draw: Draw, sampling: Sampling) -> SamplingParams:
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
            detokenize=bool(
                sampling.stop
            ),  # texts are decoded here, whole; the engine needs them only to find stop strings
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._submit(work).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)


def validate(options: EngineOptions) -> None:
    """Raises ModelError that names an argument vLLM does not have, or that a recipe may not set."""
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    for name, value in options.options.items():
        if name in OURS:
            raise ModelError(f"engine.options.{name} is a field of its own.", _own_field(name))
        if name in UNSAFE or name.endswith("_cls"):
            raise ModelError(f"engine.options.{name} could run code or read other files.", "Remove it.")
        if name not in known:
            raise ModelError(f"vLLM has no engine argument {name}.", "Mend engine.options, or remove it.")
        if name == "load_format" and value not in SAFE_LOAD_FORMATS:
            raise ModelError(
                f"load_format {value} is not allowed.", f"Use one of {', '.join(sorted(SAFE_LOAD_FORMATS))}."
            )


def _own_field(name: str) -> str:
    return (
        "The seed stands in sampling.seed." if name == "seed" else f"Set it in engine.{name}, or by naming the model."
    )


def _arguments(folder: Path, options: EngineOptions) -> AsyncEngineArgs:
    ours: dict[str, Any] = {"enable_prefix_caching": True, "enable_log_requests": False} | options.options
    return AsyncEngineArgs(
        model=str(folder),
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        tensor_parallel_size=options.tensor_parallel_size,
        gpu_memory_utilization=options.gpu_memory_utilization,
        trust_remote_code=False,
        seed=0,
        **ours,
    )


async def _start(name: str, arguments: AsyncEngineArgs) -> Any:
    """On the loop, where the engine's own tasks will live."""
    try:
        arguments.create_engine_config()
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise ModelError(
            f"vLLM does not take {name}: {first_line(error)}", "Mend engine, or name another model."
        ) from error
    try:
        return AsyncLLM.from_engine_args(arguments)
    except Exception as error:
        raise EngineUnavailable(
            f"vLLM did not start with {name}: {first_line(error)}", "Look at the worker's log for vLLM's own words."
        ) from error


async def _call(function: Callable[[], None]) -> None:
    function()


def _taken(finished: queue.SimpleQueue[Completion | BaseException]) -> Iterator[Completion]:
    """What is finished now, after waiting a moment for the first. Raises what a request raised."""
    try:
        item = finished.get(timeout=POLL_SECONDS)
        while True:
            if isinstance(item, BaseException):
                raise item
            yield item
            item = finished.get_nowait()
    except queue.Empty:
        return

"""One `LLM.generate` call over all prompts, with the service's engine arguments."""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path
from typing import Any

from inference_case import LENGTHS, PROMPT, SHORT, options_of, report, sampling_of, texts_of, tokens_wanted

from overproof.inference.domain.requests import Problem, request_for


class Plain:
    """vLLM's own offline interface, with the service's engine arguments."""

    def __init__(self, model: str, folder: Path, args: argparse.Namespace) -> None:
        from vllm import LLM

        from overproof.inference.adapters.chat import Chat
        from overproof.inference.adapters.vllm_options import further_arguments, graph_sizes

        self.model, self.args = model, args
        options = options_of(args)
        chat, self.texts = Chat(folder, options.max_model_len), texts_of(args)
        further = further_arguments(options)
        if sizes := graph_sizes(folder, options):
            further["cudagraph_capture_sizes"] = sizes
        began = time.monotonic()
        self.llm: Any = LLM(
            model=str(folder), dtype=options.dtype, max_model_len=options.max_model_len, seed=0,
            gpu_memory_utilization=options.gpu_memory_utilization, enable_prefix_caching=True, **further,
        )  # fmt: skip
        report(args, model=model, way="plain: load", seconds=round(time.monotonic() - began, 1))
        self.prompts = [{"prompt_token_ids": chat.prompt(PROMPT.messages(text))} for text in self.texts]

    def row(self, way: str, lengths: str, max_tokens: int, *, prompts: int | None = None, seeded: bool = True) -> None:
        """One call over all prompts, or the first ones."""
        from vllm import SamplingParams

        args, sampling = self.args, sampling_of(max_tokens, self.args)
        n = min(prompts or len(self.prompts), len(self.prompts))
        seeds = [request_for(i, Problem(f"p{i}", "-"), PROMPT, sampling).seeds[0] for i in range(n)]
        params = [
            SamplingParams(
                temperature=1.0, seed=seed if seeded and not args.small else None, ignore_eos=True,
                max_tokens=tokens_wanted(sampling, seed),
            )
            for seed in seeds
        ]  # fmt: skip
        self.llm.generate(self.prompts[:4], SamplingParams(max_tokens=4), use_tqdm=False)
        self.llm.reset_prefix_cache()
        began = time.monotonic()
        made = self.llm.generate(self.prompts[:n], params, use_tqdm=False)
        seconds = time.monotonic() - began
        tokens = sum(len(one.outputs[0].token_ids) for one in made)
        report(args, model=self.model, way=way, lengths=lengths, tokens=tokens, seconds=seconds)

    def close(self) -> None:
        """End the engine's process."""
        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        gc.collect()


def plain(root: Path, args: argparse.Namespace) -> None:
    """Lines of `plain` for each model; of the variants only, if those are asked for."""
    name, tokens, prompts = SHORT
    for model in args.models:
        llm = Plain(model, root / model, args)
        if args.only_short:
            llm.row(f"{args.only_short}, seeds", name, tokens, prompts=prompts)
            llm.row(f"{args.only_short}, no seeds", name, tokens, prompts=prompts, seeded=False)
        else:
            for lengths in args.lengths:
                llm.row("plain", lengths, LENGTHS[lengths])
        if not args.only_short and model == args.models[0]:
            llm.row("plain, seeds", name, tokens, prompts=prompts)
            llm.row("plain, no seeds", name, tokens, prompts=prompts, seeded=False)
        llm.close()

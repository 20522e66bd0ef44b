"""Batches for pretraining: whole worked solutions, and drills of bare equations; train split only."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from overproof.demo.problems import DemoProblem, Style, endless, solution_in_style, split_of
from overproof.demo.tokenizer import ASSISTANT, END, INSTRUCTION, chat_prompt

IGNORED = -100  # the label that cross entropy skips
CHUNK_BATCHES = 16  # batches drawn and tokenized together, so that rows of like length meet and padding stays small
DRILL_TOKENS = 128
EQUATIONS_PER_DRILL = 14  # enough to fill a drill row

# how often a training prompt carries the instruction, and which system message it has
INSTRUCTION_SHARE = 0.65
SYSTEM_MESSAGES: Mapping[str, float] = {"": 0.8, ASSISTANT: 0.1, INSTRUCTION: 0.1}


class Batch(NamedTuple):
    """Token ids and labels, both (rows, tokens); labels are IGNORED on prompts and padding."""

    ids: torch.Tensor
    labels: torch.Tensor


class Piece(NamedTuple):
    """Token ids without loss, then token ids with loss."""

    given: list[int]
    taught: list[int]


def solution_batches(
    tokenizer: PreTrainedTokenizerFast, styles: Mapping[Style, float], rows: int, seed: int
) -> Iterator[Batch]:
    """Endless batches of whole solutions in `styles`, loss on the solution and its end token."""
    rng, problems, bpe = Random(f"solutions {seed}"), _train_problems(seed), _own_copy(tokenizer)

    def chunk() -> list[Batch]:
        drawn = [next(problems) for _ in range(rows * CHUNK_BATCHES)]
        mix = rng.choices(list(styles), list(styles.values()), k=len(drawn))
        prompts = _encode(bpe, [prompt(problem.problem, rng) for problem in drawn])
        texts = [solution_in_style(problem, style) + END for problem, style in zip(drawn, mix, strict=True)]
        pieces = sorted(map(Piece, prompts, _encode(bpe, texts)), key=lambda p: len(p.given) + len(p.taught))
        batches = [_collate([[piece] for piece in pieces[i : i + rows]]) for i in range(0, len(pieces), rows)]
        rng.shuffle(batches)
        return batches

    return _one_chunk_ahead(chunk)


def drill_batches(tokenizer: PreTrainedTokenizerFast, rows: int, seed: int) -> Iterator[Batch]:
    """Endless batches of rows full of equations out of solutions, loss on what follows the first equals sign."""
    rng, problems, bpe = Random(f"drills {seed}"), _train_problems(seed), _own_copy(tokenizer)

    def chunk() -> list[Batch]:
        equations: list[str] = []
        while len(equations) < rows * EQUATIONS_PER_DRILL:
            equations.extend(step.equation for step in next(problems).steps)
        rng.shuffle(equations)
        halves = [equation.partition("=") for equation in equations]
        questions = _encode(bpe, [f" ${left}=" for left, _, _ in halves])
        answers = _encode(bpe, [f"{right}$." for _, _, right in halves])
        pieces = list(map(Piece, questions, answers))
        return [_collate([_fitting(pieces[i::rows], DRILL_TOKENS) for i in range(rows)])]

    return _one_chunk_ahead(chunk)


def prompt(statement: str, rng: Random) -> str:
    """A chat prompt for a statement, with or without the instruction and a system message."""
    system = rng.choices(list(SYSTEM_MESSAGES), list(SYSTEM_MESSAGES.values()))[0]
    text = f"{statement}\n\n{INSTRUCTION}" if rng.random() < INSTRUCTION_SHARE else statement
    return chat_prompt([*([("system", system)] if system else []), ("user", text)])


def _train_problems(seed: int) -> Iterator[DemoProblem]:
    for problem in endless("train", seed):
        if split_of(problem.group) != "train":
            raise AssertionError(f"The group {problem.group} is not in the train split.")
        yield problem


def _encode(bpe: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in bpe.encode_batch(texts, add_special_tokens=False)]


def _own_copy(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A tokenizer of the thread's own: one that is shared keeps the padding that another caller has just asked for."""
    bpe = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bpe.no_padding()
    return bpe


def _collate(rows: list[list[Piece]]) -> Batch:
    """One tensor row per list of pieces, padded on the right; causal attention then needs no mask."""
    ids = [torch.tensor([i for piece in row for part in piece for i in part]) for row in rows]
    labels = [torch.tensor([i for p in row for i in [IGNORED] * len(p.given) + p.taught]) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    # the padding id does not matter: its label is ignored
    return Batch(pad(ids, batch_first=True), pad(labels, batch_first=True, padding_value=IGNORED))


def _fitting(row: list[Piece], n_tokens: int) -> list[Piece]:
    """The leading pieces that fit into `n_tokens`."""
    used, kept = 0, []
    for piece in row:
        used += len(piece.given) + len(piece.taught)
        if used > n_tokens:
            break
        kept.append(piece)
    return kept


def _one_chunk_ahead(chunk: Callable[[], list[Batch]]) -> Iterator[Batch]:
    """The batches of chunk after chunk; the next chunk is made in a thread while the last one is used."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = worker.submit(chunk)
        while True:
            batches = coming.result()
            coming = worker.submit(chunk)
            yield from batches

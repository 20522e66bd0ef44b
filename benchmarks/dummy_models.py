"""Checkpoints of Qwen2.5's shapes without weights, problems of an exact length, and lengths of completions.

The tokenizer is made up and as large as Qwen's: words of four letters, one token each with the space before them.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
from pathlib import Path
from typing import Any, NamedTuple

VOCABULARY = 151_643
FIRST = "abcdefghijklmABCDEFGHIJKLM"
SECOND = "nopqrstuvwxyzNOPQRSTUVWXYZ"
SPACE = "Ġ"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MEDIAN_TOKENS = 300
SIGMA = 0.6
"""Log-normal lengths of solutions: mean 359, one in a hundred above 1,211 tokens."""
LONGEST = 1_536


class Shape(NamedTuple):
    """What makes a Qwen2.5 of one size."""

    name: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    vocab_size: int
    tied: bool


SHAPES = {
    "7b": Shape("qwen2.5-7b", 3584, 18944, 28, 28, 4, 152_064, False),
    "1.5b": Shape("qwen2.5-1.5b", 1536, 8960, 28, 12, 2, 151_936, True),
    "tiny": Shape("tiny", 64, 128, 2, 2, 1, 151_936, True),
}


def save(folder: Path, shape: Shape) -> None:
    """Everything of a checkpoint but its weights, in whose place stands an empty file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
        "hidden_size": shape.hidden_size, "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocab_size, "tie_word_embeddings": shape.tied, "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "torch_dtype": "bfloat16", "use_sliding_window": False,
        "bos_token_id": VOCABULARY, "eos_token_id": VOCABULARY + 2, "initializer_range": 0.02,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [VOCABULARY, VOCABULARY + 2]}))
    header = b'{"__metadata__":{"format":"pt"}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(), ensure_ascii=False))
    names = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def words(n: int) -> list[str]:
    """The first n words, each one token."""
    pairs = [a + b for a, b in itertools.product(FIRST, SECOND)]
    return [a + b for a, b in itertools.islice(itertools.product(pairs, pairs), n)]


def problems(n: int, n_words: int, seed: int = 0) -> list[str]:
    """Random words; each problem differs from the others at its first word already."""
    known, chance = words(_n_words()), random.Random(seed)
    return [" ".join(chance.choices(known, k=n_words)) for _ in range(n)]


def length_of(seed: int) -> int:
    """Tokens of the completion with this seed, log-normal over seeds."""
    share = (random.Random(seed).random() * 0.999_98) + 0.000_01
    tokens = MEDIAN_TOKENS * math.exp(SIGMA * statistics.NormalDist().inv_cdf(share))
    return max(16, min(LONGEST, round(tokens)))


def _n_words() -> int:
    return (VOCABULARY - 256 - len(FIRST) * len(SECOND)) // 2


def _tokenizer() -> dict[str, Any]:
    pairs = [a + b for a, b in itertools.product(FIRST, SECOND)]
    known = words(_n_words())
    pieces = [*_bytes(), *pairs, *known, *(SPACE + word for word in known)]
    merges = [[pair[0], pair[1]] for pair in pairs]
    merges += [[word[:2], word[2:]] for word in known] + [[SPACE, word] for word in known]
    pieces += [f"{SPACE}{SPACE}{SPACE}"] * (VOCABULARY - len(pieces))
    special = [
        {"id": VOCABULARY + number, "content": name, "special": True, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for number, name in enumerate(SPECIAL)
    ]  # fmt: skip
    plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": plain, "post_processor": None, "decoder": plain,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {piece: number for number, piece in enumerate(pieces)}, "merges": merges,
        },
    }  # fmt: skip


def _bytes() -> list[str]:
    """The 256 characters that stand for bytes in a byte-level tokenizer."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(others))]

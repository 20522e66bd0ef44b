"""A small byte-level BPE with a ChatML template, saved as an ordinary Hugging Face fast tokenizer."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from overproof.demo.problems import Style, endless, solution_in_style

VOCABULARY_SIZE = 896  # a multiple of 64, so that it divides over tensor parallel ranks
CORPUS_PROBLEMS = 8_000
CORPUS_SEED = 11
NUMBERS_EVERY = 16  # every number below 100 this often, so that each becomes one piece with and without a space

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
ASSISTANT = "You are a helpful assistant."

# A word keeps its leading space, a LaTeX command is one piece, and digits go in pairs: a number below 100 is one
# token, so that a small model learns facts about numbers and not about spelling.
PIECES = r" ?\\[A-Za-z]+| ?\d{1,2}| ?[A-Za-z]+| ?[^\sA-Za-z\d\\]+|\s+|\\."

# The generation block marks what an assistant mask covers: the answer and the end token, which must be learnt too.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{- message['content'] + '<|im_end|>' }}{%- endif %}"
    "{{- '\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)

# transformers writes these for its own use; they only mislead other readers of the file
_INTERNAL_KEYS = ("backend", "is_local", "local_files_only")


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train on statements and solutions of the train split; the result is the same on every machine."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja under a class name every reader knows."""
    tokenizer.backend_tokenizer.no_padding()  # the last call's padding would be saved as if it were a property
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    kept = {key: value for key, value in config.items() if key not in _INTERNAL_KEYS}
    path.write_text(json.dumps(kept | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")


def chat_prompt(messages: Sequence[tuple[str, str]]) -> str:
    """What the chat template gives for (role, content) pairs, with the generation prompt; fast, for training."""
    turns = "".join(f"{START}{role}\n{content}{END}\n" for role, content in messages)
    return f"{turns}{START}assistant\n"


def _corpus() -> Iterator[str]:
    numbers = " ".join(f"{number} ${number}$" for number in range(100))
    for position, problem in enumerate(islice(endless("train", CORPUS_SEED), CORPUS_PROBLEMS)):
        style = tuple(Style)[position % len(Style)]
        yield f"{problem.problem}\n{solution_in_style(problem, style)}"
        yield INSTRUCTION
        if position % NUMBERS_EVERY == 0:
            yield numbers
        yield f"system\nuser\nassistant\n{ASSISTANT}"

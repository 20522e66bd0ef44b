"""Rows become tokens exactly as inference sends them, with the end of the completion inside the loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import DatasetError, ModelError
from overproof.shared.recipe import ProbeOptions
from overproof.training.adapters.chat import Chat
from overproof.training.adapters.tokens import TokenRows
from overproof.training.job import Job
from overproof.training.prepare import prepare

PROMPT, COMPLETION, END = "What is 1 + 2?", "1 + 2 = 3.\n\n<think> So \\boxed{3}", "<|im_end|>"


@pytest.fixture
def student(models: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(models / "tiny", tmp_path / "student"))


@pytest.fixture
def job(student: Path, tmp_path: Path, artifacts: Artifacts, train_spec: Callable[..., object]) -> Callable[..., Job]:
    def make(selected: str, context: int | None = 256, **options: object) -> Job:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        spec = train_spec(selected, **options)
        return Job(
            scratch=scratch, storage=artifacts.files.root, selected=selected, student=student, context=context, vocab_size=384,
            n_parameters=1, options=spec.options, threads=1,  # type: ignore[attr-defined]
        )  # fmt: skip

    return make


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_prompt_is_what_inference_sends_and_completion_ends_with_eos(student: Path, system: str | None) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(student))
    (row,) = Chat(student, 384).encode([{"prompt": PROMPT, "system": system, "completion": COMPLETION}])
    turns = [{"role": "system", "content": system}] if system else []
    sent = tokenizer.apply_chat_template([*turns, {"role": "user", "content": PROMPT}], add_generation_prompt=True)
    assert row.prompt == sent["input_ids"]
    assert tokenizer.decode(row.completion) == COMPLETION + END
    assert row.completion[-1] == tokenizer.eos_token_id


def test_labels_cover_the_completion_and_its_end_only() -> None:
    import numpy as np

    from overproof.training.adapters.collate import NO_LOSS, collate

    long, short = np.arange(10, 16, dtype=np.int32), np.arange(20, 24, dtype=np.int32)
    batch = collate([{"ids": long, "n_prompt": 4}, {"ids": short, "n_prompt": 2}])
    assert batch["input_ids"].tolist() == [[10, 11, 12, 13, 14, 15], [20, 21, 22, 23, 0, 0]]
    no = NO_LOSS
    # one column more than is supervised: the shortest prompt's last token predicts the first of them
    assert batch["logits_to_keep"] == 5
    assert batch["labels"].tolist() == [[no, no, no, 14, 15], [no, 22, 23, no, no]]


def test_template_that_ends_turns_with_another_stop_token(student: Path) -> None:
    # as Qwen's base models: EOS is <|endoftext|>, but a turn ends with <|im_end|>, at which generation stops too
    config = json.loads((student / "tokenizer_config.json").read_text())
    (student / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|endoftext|>"}))
    (student / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    assert Chat(student, 384).end_token == "<|im_end|>"
    (student / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    assert Chat(student, 384).end_token == "<|endoftext|>"


def test_tokenizer_larger_than_the_embedding_is_refused(student: Path) -> None:
    with pytest.raises(ModelError, match=r"tokens up to number 2\d\d but only 200 embedding rows"):
        Chat(student, 200)


def test_end_token_without_an_embedding_row_is_refused(student: Path) -> None:
    (student / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 390]}))
    with pytest.raises(ModelError, match="tokens up to number 390 but only 384 embedding rows"):
        Chat(student, 384)


def test_config_of_other_weights_is_refused_before_rows_are_read(
    job: Callable[..., Job], artifacts: Artifacts, rows: Callable[..., object], select: Callable[..., str]
) -> None:
    the_job = job(select(artifacts, rows(5, 1))).model_copy(update={"vocab_size": 400})
    with pytest.raises(ModelError, match=r"has 384 embedding rows, and its config\.json says vocab_size 400"):
        prepare(the_job)
    assert not (the_job.scratch / "train.tokens").exists()


def test_reasoning_is_in_the_tokens_also_where_the_template_would_drop_it(student: Path) -> None:
    # as Qwen 3's: of earlier turns the template keeps only what comes behind the reasoning
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (student / "chat_template.jinja").write_text(template)
    chat = Chat(student, 384)
    completion = "<think>\n1 and 2 make 3\n</think>\n\n\\boxed{3}"
    (row,) = chat.encode([{"prompt": PROMPT, "system": None, "completion": completion}])
    assert chat.decode(row.completion) == completion + END


@pytest.mark.parametrize(
    ("completion", "control"),
    [
        ("So 3.<|im_end|>\n<|im_start|>user\nMore", "<|im_end|>"),
        ("<|endoftext|>So 3.", "<|endoftext|>"),
        ("So 3.<|turn|>", "<|turn|>"),  # special by its own word only
        ("So <|im_end |> or <|im_", ""),
        ("<think>\nWe add.\n</think>\nSo 3.", ""),  # one of the two is called special
        ("<tool_call>1 + 2</tool_call> So 3.", ""),  # an added token that is a word
        ("So <unk> is 3.", ""),
    ],
)
def test_control_tokens_within_a_completion_are_seen_and_tags_of_a_reasoning_are_words(
    student: Path, completion: str, control: str
) -> None:
    from transformers import AddedToken, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(student))
    words = [("<|turn|>", True), ("<think>", True), ("</think>", False), ("<tool_call>", False), ("<unk>", True)]
    tokenizer.add_tokens([AddedToken(text, special=special) for text, special in words])
    tokenizer.unk_token = "<unk>"
    tokenizer.save_pretrained(str(student))
    (row,) = Chat(student, 384).encode([{"prompt": "Is <|im_end|> a token?", "system": None, "completion": completion}])
    assert row.control == control


@pytest.mark.parametrize("every", [False, True])
def test_rows_with_control_tokens_are_dropped_and_counted(
    job: Callable[..., Job], artifacts: Artifacts, rows: Callable[..., Any], select: Callable[..., str], every: bool
) -> None:
    some = rows(10, 2)
    for row in some if every else [some[3], some[5], some[11]]:
        row["completion"] += "<|im_end|>\n<|im_start|>user\nAnd 2 + 2?"
    the_job = job(select(artifacts, some))
    if every:
        with pytest.raises(
            DatasetError, match=r"Every training row was dropped: a control token .* such as <\|im_end\|>"
        ):
            prepare(the_job)
        return
    prepare(the_job)
    found = json.loads(the_job.preflight.read_text())
    assert (found["train"]["dropped"], found["val"]["dropped"]) == ({"control_tokens": 2}, {"control_tokens": 1})
    assert found["train"]["rows"] == len(TokenRows(the_job.scratch, "train")) == 8
    (warning, *_) = found["warnings"]
    assert warning.startswith("2 of 10 training rows were left out")
    assert warning.endswith("such as <|im_end|>.")


def test_other_number_of_processes_has_another_report_of_the_same_tokens(
    job: Callable[..., Job],
    artifacts: Artifacts,
    rows: Callable[..., Any],
    select: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    the_job = job(select(artifacts, rows(40, 2)), probe=ProbeOptions(problems=2))
    prepare(the_job)
    before = json.loads(the_job.preflight.read_text())
    other = the_job.model_copy(update={"options": the_job.options.model_copy(update={"processes": 4})})
    assert (the_job.is_prepared(), other.is_prepared(), other.has_tokens()) == (True, False, True)
    monkeypatch.setattr(Chat, "encode", None)  # would be called
    prepare(other)
    assert (the_job.is_prepared(), other.is_prepared()) == (False, True)
    found = json.loads(other.preflight.read_text())
    assert (before["batch"]["processes"], before["batch"]["micro"]) == (1, 8)
    assert (found["batch"]["processes"], found["batch"]["micro"]) == (4, 2)
    assert found["estimate"]["tokens_per_pass"] == before["estimate"]["tokens_per_pass"] // 4
    changed = {name for name in before if found[name] != before[name]}
    assert changed <= {"batch", "estimate"}
    assert found["probe_problems"] == 2


@pytest.mark.parametrize(
    ("n_val", "options", "said"),
    [
        (0, {"probe": ProbeOptions(problems=5)}, "no validation problems: training.probe watches nothing"),
        (2, {"probe": ProbeOptions(problems=5)}, "asks for 5 problems, and the selection holds out 2"),
        (2, {"probe": ProbeOptions(problems=2)}, None),
        (2, {"micro_batch_size": 7}, "micro_batch_size 7 does not divide a process' 8 rows of a step: it takes 4 at a time"),
        (2, {"micro_batch_size": 8, "processes": 2}, None),
        (2, {"gradient_checkpointing": "selective"}, None),
        (2, {"micro_batch_tokens": 128, "global_batch_tokens": 16}, "80 of 80 steps have more than training.global_batch_tokens 16"),
        (2, {"micro_batch_tokens": 128, "global_batch_tokens": 128}, None),
    ],
)  # fmt: skip
def test_what_will_not_be_as_asked_is_told(
    job: Callable[..., Job],
    artifacts: Artifacts,
    rows: Callable[..., Any],
    select: Callable[..., str],
    n_val: int,
    options: dict[str, Any],
    said: str | None,
) -> None:
    the_job = job(select(artifacts, rows(40, n_val)), **options)
    prepare(the_job)
    told = [one for one in json.loads(the_job.preflight.read_text())["warnings"] if "no validation rows" not in one]
    assert len(told) == (said is not None)
    assert all(str(said) in one for one in told)


@pytest.mark.parametrize(
    ("n_val", "options", "why"),
    [(0, {}, "There are no validation rows"), (4, {"evaluations_per_epoch": 0}, "evaluations_per_epoch is 0")],
)
def test_training_that_no_validation_loss_watches_is_told(
    n_val: int,
    options: dict[str, object],
    why: str,
    job: Callable[..., Job],
    artifacts: Artifacts,
    rows: Callable[..., object],
    select: Callable[..., str],
) -> None:
    the_job = job(select(artifacts, rows(20, n_val)), **options)
    prepare(the_job)
    (warning,) = json.loads(the_job.preflight.read_text())["warnings"]
    assert why in warning
    assert "training.patience stops nothing" in warning


def test_prepared_rows_read_back_and_are_counted(
    job: Callable[..., Job],
    artifacts: Artifacts,
    rows: Callable[..., list[dict[str, object]]],
    select: Callable[..., str],
) -> None:
    some = rows(20, 4)
    some[3]["completion"] = "long " * 300
    some[4]["completion"] = ""
    some[5]["completion"] = "longer " * 300
    the_job = job(select(artifacts, some))
    prepare(the_job)
    assert the_job.is_prepared()
    train, val = TokenRows(the_job.scratch, "train"), TokenRows(the_job.scratch, "val")
    assert (len(train), len(val)) == (17, 4)
    found = json.loads(the_job.preflight.read_text())
    assert found["train"]["dropped"] == {"empty": 1, "too_long": 2}
    assert found["batch"]["rows"] == 8
    assert found["end_token"] == END
    assert found["warnings"]
    samples = json.loads(the_job.samples.read_text())
    assert len(samples) == 3
    assert samples[0]["supervised"] == f"{some[0]['completion']}{END}"
    first = train[0]
    assert first["ids"].tolist() == samples[0]["prompt_ids"] + samples[0]["supervised_ids"]
    assert first["n_prompt"] == samples[0]["n_prompt_tokens"]


def test_rows_longer_than_the_context_name_the_context(
    job: Callable[..., Job], artifacts: Artifacts, rows: Callable[..., object], select: Callable[..., str]
) -> None:
    with pytest.raises(DatasetError, match="longer than 20 tokens \\(the student's context\\)"):
        prepare(job(select(artifacts, rows(5, 1)), context=20))


def test_selection_without_training_rows_is_refused(
    job: Callable[..., Job], artifacts: Artifacts, rows: Callable[..., object], select: Callable[..., str]
) -> None:
    the_job = job(select(artifacts, rows(0, 4)))
    with pytest.raises(DatasetError, match="no training rows"):
        prepare(the_job)
    assert not the_job.is_prepared()

"""Hugging Face checkpoint folders: where one is, whether it can be used, and what identifies its content.

Only files are read here, no model is built: this runs before anything is sent, and on machines without torch.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import EngineUnavailable, ModelError
from overproof.shared.local_copies import local_copy
from overproof.shared.settings import Settings
from overproof.shared.specs import ModelRef

CHECKPOINT = "checkpoint"
"""Folder of the student within a `train` artifact."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
HUB_FILES = [
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "README.md",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
]
"""What is fetched from the hub: no pickles, no code."""
LENGTH_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


class Checkpoint(NamedTuple):
    """What a checkpoint's own files say of it."""

    path: Path
    model_type: str
    architectures: tuple[str, ...]
    context: int | None
    """Tokens of prompt + completion that the model has positions for; None when its config does not say."""
    vocab_size: int | None
    hidden_size: int | None
    dtype: str | None
    quantization: str | None
    """How the weights are quantised (fp8, gptq, awq, ...); None: they are not."""
    bytes: int
    """Of the weights."""
    license: str | None
    """From the front matter of its README.md."""


def resolve(ref: ModelRef, settings: Settings, artifacts: Artifacts) -> Path:
    """The local folder of a model, fetched from the hub when that is allowed.

    Raises ModelError when it is not there, not allowed, or no longer what it was when the run was submitted; CorruptShard
    when a file of a trained student is damaged (it will be made again).
    """
    if ref.kind == "folder":
        return _folder(ref, settings)
    if ref.kind == "artifact":
        return _artifact(ref, settings, artifacts)
    return _from_hub(ref, settings)


def inspect(path: Path) -> Checkpoint:
    """What the files of a checkpoint say. Raises ModelError when it could not be used, with the reason and the remedy."""
    config = _config(path)
    size = _weights(path)
    _tokenizer(path)
    generation_config(path)
    text = config.get("text_config") or config
    return Checkpoint(
        path=path,
        model_type=str(config.get("model_type", "")),
        architectures=tuple(config.get("architectures") or ()),
        context=next((int(text[name]) for name in LENGTH_FIELDS if text.get(name)), None),
        vocab_size=text.get("vocab_size"),
        hidden_size=text.get("hidden_size"),
        dtype=text.get("dtype") or text.get("torch_dtype"),
        quantization=_quantization(config) or _quantization(text),
        bytes=size,
        license=_license(path),
    )


def check_trainable(checkpoint: Checkpoint) -> None:
    """Raises ModelError for a checkpoint that can write, but not learn: quantised weights."""
    if checkpoint.quantization:
        raise ModelError(
            f"The weights of {checkpoint.path.name} are quantised ({checkpoint.quantization}), and such weights are not trained.",
            "Take the checkpoint that they were made from, with its weights in bfloat16 or float32.",
        )


def generation_config(path: Path) -> dict[str, Any]:
    """What `generation_config.json` says; nothing where there is none. Raises ModelError when it is not JSON."""
    file = path / "generation_config.json"
    return _read_json(file) if file.is_file() else {}


def fingerprint(path: Path) -> str:
    """32 hex digits over names, sizes and content of the folder's files (hidden ones left out)."""
    return _fingerprint(path, _stamps(path))


def chat_template(path: Path) -> str | None:
    """The checkpoint's chat template, wherever its version of the library put it; None when it has none."""
    with contextlib.suppress(FileNotFoundError):
        return (path / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = _read_json(path / name).get("chat_template") if (path / name).is_file() else None
        if isinstance(template, list):  # several named templates
            template = next((one.get("template") for one in template if one.get("name") == "default"), None)
        if template:
            return str(template)
    return None


# --- where ----------------------------------------------------------------------------------------------------------


def _folder(ref: ModelRef, settings: Settings) -> Path:
    root = settings.model_root.resolve()
    path = (root / ref.location).resolve()
    if not path.is_relative_to(root):
        raise ModelError(
            f"The model {ref.name} lies outside the model root.", "Name a folder below OVERPROOF_MODEL_ROOT."
        )
    if not path.is_dir():
        raise ModelError(
            f"There is no model folder {ref.location} below the model root.",
            "Mend the name, or copy the checkpoint there.",
        )
    if ref.fingerprint and fingerprint(path) != ref.fingerprint:
        raise ModelError(
            f"The model folder {ref.location} changed after the run was submitted.",
            "Submit the run again, or restore the folder.",
        )
    return path


def _artifact(ref: ModelRef, settings: Settings, artifacts: Artifacts) -> Path:
    parts = tuple(part for part in artifacts.parts(ref.location) if part.name.startswith(f"{CHECKPOINT}/"))
    if not parts:
        raise ModelError(f"{ref.location} holds no checkpoint.", "Name the run of a trained student.")
    if not artifacts.files.is_local:
        return local_copy(artifacts, ref.location, parts, settings.scratch_root / "models") / CHECKPOINT
    _verify(artifacts, ref.location, parts)
    return artifacts.files.local(f"{artifacts.folder(ref.location)}/{CHECKPOINT}")


@functools.lru_cache(maxsize=32)
def _verify(artifacts: Artifacts, ref: str, parts: tuple[Any, ...]) -> None:
    """Check every file's SHA-256, once per process."""
    for part in parts:
        artifacts.verify(ref, part)


def _from_hub(ref: ModelRef, settings: Settings) -> Path:
    if not settings.allow_hub:
        raise ModelError(
            f"The model {ref.name} is on the Hugging Face hub, which this installation may not use.",
            "Set OVERPROOF_ALLOW_HUB=true, or name a folder below the model root.",
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise ModelError("huggingface_hub is not installed.", "Install it, or name a folder.") from None
    try:
        return Path(snapshot_download(ref.location, revision=ref.revision, allow_patterns=HUB_FILES))
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"The hub does not give {ref.location}: {reason}", "Mend the name, revision or token."
        ) from None
    except OSError as error:
        raise EngineUnavailable(f"{ref.location} could not be fetched from the hub: {error}.", "Try again.") from None


# --- what -----------------------------------------------------------------------------------------------------------


def _config(path: Path) -> dict[str, Any]:
    if not (path / "config.json").is_file():
        raise ModelError(f"{path.name} has no config.json.", "Name a Hugging Face checkpoint folder.")
    config = _read_json(path / "config.json")
    _refuse_code(path.name, "config.json", config)
    return config


def _quantization(config: dict[str, Any]) -> str | None:
    found = config.get("quantization_config")
    return str(found.get("quant_method", "unknown") if isinstance(found, dict) else found) if found else None


def _tokenizer(path: Path) -> None:
    if not any((path / name).is_file() for name in TOKENIZERS):
        raise ModelError(f"{path.name} has no tokenizer.", "Save one beside the weights (tokenizer.save_pretrained).")
    if (path / "tokenizer_config.json").is_file():
        _refuse_code(path.name, "tokenizer_config.json", _read_json(path / "tokenizer_config.json"))
    if not chat_template(path):
        raise ModelError(
            f"{path.name} has no chat template.", "Add chat_template.jinja, or name the instruct variant of the model."
        )


def _refuse_code(name: str, file: str, config: dict[str, Any]) -> None:
    if config.get("auto_map"):
        raise ModelError(
            f"{name} asks to run its own code (auto_map in {file}).",
            "Remote code is never trusted; use a checkpoint of an architecture that transformers knows.",
        )


def _weights(path: Path) -> int:
    """Bytes of the weights."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(_read_json(index).get("weight_map", {}).values()))
        missing = [name for name in shards if not (path / str(name)).is_file()]
        if missing or not shards:
            raise ModelError(f"{path.name} lacks {', '.join(missing) or 'its shards'}.", "Copy the whole checkpoint.")
        return sum((path / str(name)).stat().st_size for name in shards)
    if (path / "model.safetensors").is_file():
        return (path / "model.safetensors").stat().st_size
    raise ModelError(
        f"{path.name} has no model.safetensors.", "Convert it (save_pretrained); pickled weights are never loaded."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{path.parent.name}/{path.name} is not JSON: {error}.", "Restore the file.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path.parent.name}/{path.name} is not a JSON object.", "Restore the file.")
    return value


def _license(path: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        card = (path / "README.md").read_text(encoding="utf-8")
        front = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
        found = re.search(r"^license:\s*(\S.*)$", front[1], re.MULTILINE) if front else None
        return found[1].strip().strip("\"'") if found else None
    return None


Stamps = tuple[tuple[str, int, int], ...]


def _stamps(path: Path) -> Stamps:
    """(relative name, bytes, time of change in ns) of every visible file."""
    files = (file for file in path.rglob("*") if file.is_file())
    names = ((file.relative_to(path), file.stat()) for file in files)
    return tuple(
        sorted(
            (name.as_posix(), stat.st_size, stat.st_mtime_ns)
            for name, stat in names
            if not any(part.startswith(".") for part in name.parts)
        )
    )


@functools.lru_cache(maxsize=64)
def _fingerprint(path: Path, stamps: Stamps) -> str:
    """Remembered while no file changes: a worker asks at every shard, and weights are gigabytes."""
    whole = hashlib.sha256()
    for name, size, _ in stamps:
        with (path / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{name}\0{size}\0{content}\n".encode())
    return whole.hexdigest()[:32]

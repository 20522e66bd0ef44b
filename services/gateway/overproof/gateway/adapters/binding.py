"""Looks up what the names in a recipe stand for: model folders, earlier runs, uploads, files, artifacts."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from overproof.gateway.adapters.fingerprints import sha256_of
from overproof.gateway.context import Context
from overproof.gateway.domain.binding import (
    HUB_PATTERN,
    RUN_PREFIX,
    WantedData,
    WantedModel,
    binding_name,
    check_context,
    check_lengths,
    is_served,
    merged_evaluations,
    served,
    student_of,
    wanted_data,
    wanted_models,
)
from overproof.gateway.domain.columns import missing_columns
from overproof.gateway.domain.field_errors import FieldError, Invalid, invalid
from overproof.shared import checkpoints
from overproof.shared.artifacts import split_ref
from overproof.shared.errors import DatasetError, ModelError, RecipeError, StorageUnavailable, UserError
from overproof.shared.formats import format_of, rows_in
from overproof.shared.messages import RUN_PATTERN
from overproof.shared.packable import check_packing
from overproof.shared.recipe import DataSource, Recipe
from overproof.shared.runs import Bindings
from overproof.shared.specs import CompareSpec, ModelRef, PrepareSpec
from overproof.shared.topology import Stage

T = TypeVar("T")

TABLES_OF_STAGE = {Stage.SAMPLE: "completions", Stage.GRADE: "grades", Stage.SELECT: "selected"}
MAX_CONFIG_BYTES = 4 * 2**20
"""JSON files of a checkpoint that may ask for remote code are small; tokenizers and weight maps are not looked through."""


def bind(recipe: Recipe, context: Context) -> Bindings:
    """What the recipe's names stand for now. Raises Invalid with one error per field that names something unusable."""
    return _Binder(context, recipe).bind()


class _Binder:
    def __init__(self, context: Context, recipe: Recipe) -> None:
        self.context, self.recipe = context, recipe
        self.artifacts = context.artifacts()
        self.errors: list[FieldError] = []

    def bind(self) -> Bindings:
        models: dict[str, ModelRef] = {}
        data: dict[str, str] = {}
        evaluations: tuple[dict[str, Any], ...] = ()
        self._try("engine.max_model_len", lambda: check_lengths(self.recipe))
        for model in wanted_models(self.recipe):
            if (ref := self._try(model.field, functools.partial(self._model, model))) is not None:
                models[binding_name(model.source)] = ref
        for one in wanted_data(self.recipe):
            if (fingerprint := self._try(one.field, functools.partial(self._data, one))) is not None:
                data[one.source.name] = fingerprint
        if self.recipe.goal == "compare":
            evaluations = self._try("given.evaluations", self._evaluations) or ()
        if self.errors:
            raise invalid("The recipe", self.errors)
        return Bindings(models=models, data=data, evaluations=evaluations)

    def _try(self, field: str, look: Callable[[], T]) -> T | None:
        """The value, or None with the user's mistake noted; what is not the user's mistake goes on upwards."""
        try:
            return look()
        except Invalid as error:
            self.errors += [FieldError(f"{field}.{one.field}", one.message, one.remedy) for one in error.errors]
        except UserError as error:
            self.errors.append(FieldError(field, error.message, error.remedy))
        return None

    # --- models ------------------------------------------------------------------------------------------------------

    def _model(self, wanted: WantedModel) -> ModelRef:
        name = wanted.source.name
        if is_served(self.recipe, wanted):
            return served(wanted.source)
        if name.startswith(RUN_PREFIX):
            return self._student(wanted)
        if self.recipe.engine.kind == "canned" and not wanted.trained and not self._is_folder(name):
            return ModelRef(name=name, kind="folder", location=name, license=wanted.source.license)
        if self._is_folder(name):
            return self._folder(wanted)
        if not HUB_PATTERN.match(name) or not self.context.settings.allow_hub:
            raise ModelError(
                f"There is no model folder {name} below the model root.",
                "Mend the name or copy the checkpoint there; hub ids need OVERPROOF_ALLOW_HUB=true.",
            )
        source = wanted.source
        return ModelRef(name=name, kind="hub", location=name, revision=source.revision, license=source.license)

    def _is_folder(self, name: str) -> bool:
        root = self.context.settings.model_root.resolve()
        path = _below(root, name, "model")
        return path.is_dir() and path != root

    def _folder(self, wanted: WantedModel) -> ModelRef:
        source = wanted.source
        if source.revision:
            raise ModelError(f"{source.name} is a folder, which has no revision.", "Leave out @ and what follows it.")
        ref = ModelRef(name=source.name, kind="folder", location=source.name, license=source.license)
        path = checkpoints.resolve(ref, self.context.settings, self.artifacts)
        refuse_code(path)
        refuse_links(path, self.context.settings.model_root.resolve())
        checkpoint = self._inspected(path, wanted)
        return ref.model_copy(
            update={"fingerprint": checkpoints.fingerprint(path), "license": source.license or checkpoint.license}
        )

    def _student(self, wanted: WantedModel) -> ModelRef:
        run_id = wanted.source.name.removeprefix(RUN_PREFIX)
        if not re.match(RUN_PATTERN, run_id):
            raise ModelError("run: is not followed by the id of a run.", "List the runs with GET /v1/runs.")
        record = self.context.runs.record(run_id)
        ref = student_of(run_id, self.context.runs.status(run_id), record.recipe.selection[0].label)
        student = ModelRef(name=wanted.source.name, kind="artifact", location=ref, license=wanted.source.license)
        checkpoint = self._inspected(checkpoints.resolve(student, self.context.settings, self.artifacts), wanted)
        return student.model_copy(update={"license": wanted.source.license or checkpoint.license})

    def _inspected(self, path: Path, wanted: WantedModel) -> checkpoints.Checkpoint:
        checkpoint = checkpoints.inspect(path)
        check_context(checkpoint.context, wanted)
        if wanted.trained:
            checkpoints.check_trainable(checkpoint)
            if self.recipe.training.micro_batch_tokens:
                check_packing(checkpoint.model_type)
        return checkpoint

    # --- data --------------------------------------------------------------------------------------------------------

    def _data(self, wanted: WantedData) -> str | None:
        source = wanted.source
        if source.upload:
            record = self.context.runs.dataset(source.upload)
            self._check_columns(wanted, record.columns)
            return record.sha256
        if source.file:
            return self._file(wanted, source.file)
        if source.artifact:
            self._check_artifact(wanted, source.artifact)
            return None
        if source.hub:
            return self._hub(source)
        return None

    def _check_columns(self, wanted: WantedData, present: tuple[str, ...]) -> None:
        errors = missing_columns(wanted.table, present, wanted.source.columns)
        if errors:
            raise invalid("The data set", errors)

    def _file(self, wanted: WantedData, name: str) -> str:
        path = _below(self.context.settings.data_root.resolve(), name, "data file")
        if not path.is_file():
            raise DatasetError(f"There is no file {name} below the data root.", "Mend the name, or upload the file.")
        try:
            with path.open("rb") as file:
                first = next(iter(rows_in(file, format_of(path.name))), None)
            if first is None:
                raise DatasetError(f"{name} has no rows.", "Name a file with at least one.")
            self._check_columns(wanted, tuple(first.values))
            return sha256_of(path)
        except OSError as error:
            raise StorageUnavailable(f"{name} cannot be read: {error.strerror}.", "Give the permission.") from error

    def _check_artifact(self, wanted: WantedData, ref: str) -> None:
        if split_ref_or_none(ref) is None or not self.artifacts.is_complete(ref):
            raise DatasetError(
                f"There is no complete artifact {ref}.", "Look at the artifacts of the run that made it."
            )
        spec = self.artifacts.spec(ref)
        table = spec.table if isinstance(spec, PrepareSpec) else TABLES_OF_STAGE.get(spec.stage)
        if table != ("problems" if wanted.table == "questions" else wanted.table):
            raise DatasetError(f"{ref} holds {table or 'no table'}, not {wanted.table}.", f"Name {wanted.table}.")

    def _hub(self, source: DataSource) -> str | None:
        if not self.context.settings.allow_hub:
            raise DatasetError(
                f"The data set {source.hub} is on the Hugging Face hub, which this installation may not use.",
                "Upload the file, or set OVERPROOF_ALLOW_HUB=true.",
            )
        return source.revision

    # --- earlier runs ------------------------------------------------------------------------------------------------

    def _evaluations(self) -> tuple[dict[str, Any], ...]:
        return merged_evaluations([(run_id, self._comparison(run_id)) for run_id in self.recipe.given.evaluations])

    def _comparison(self, run_id: str) -> CompareSpec:
        status = self.context.runs.status(run_id)
        ref = status.artifacts.get("comparison") if status else None
        if ref is None or not self.artifacts.is_complete(ref):
            raise RecipeError(f"Run {run_id} has no finished comparison.", "Name runs that evaluated something.")
        spec = self.artifacts.spec(ref)
        if not isinstance(spec, CompareSpec):
            raise RecipeError(f"The comparison of run {run_id} is not one.", "Name another run.")
        return spec


def split_ref_or_none(ref: str) -> tuple[Stage, str] | None:
    """(stage, key), or None when the part before the slash is no stage."""
    try:
        return split_ref(ref)
    except ValueError:
        return None


def refuse_code(folder: Path) -> None:
    """Raises ModelError when any small JSON file of a checkpoint asks for code of its own, at whatever depth."""
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_size <= MAX_CONFIG_BYTES and _asks_for_code(path):
            raise ModelError(
                f"{folder.name} asks to run its own code (auto_map in {path.name}).",
                "Remote code is never trusted; use a checkpoint of an architecture that transformers knows.",
            )


def refuse_links(folder: Path, root: Path) -> None:
    """Raises ModelError when a file of a checkpoint is a link that leaves the model root."""
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ModelError(
                f"{path.name} of {folder.name} is a link that leaves the model root.", "Copy the file itself there."
            )


def _asks_for_code(path: Path) -> bool:
    try:
        return _has_key(json.loads(path.read_text(encoding="utf-8")), "auto_map")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} is not JSON: {type(error).__name__}.", "Restore the file.") from None


def _has_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return bool(value.get(key)) or any(_has_key(one, key) for one in value.values())
    return isinstance(value, list) and any(_has_key(one, key) for one in value)


def _below(root: Path, name: str, what: str) -> Path:
    """`root/name`. Raises RecipeError when that is not below the root, links followed."""
    path = Path(name)
    if path.is_absolute() or "\0" in name or not (root / path).resolve().is_relative_to(root):
        raise RecipeError(f"The {what} is named by a path that leaves its root.", "Name it relative to the root.")
    return (root / path).resolve()

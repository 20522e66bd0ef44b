"""What goes in: problem sets, models, and tables made elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from overproof.shared.recipe.part import Part


class DataSource(Part):
    """A data set, named in exactly one way: `generator`, `upload`, `file`, `hub` or `artifact`."""

    generator: Literal["demo-math"] | None = None
    """The generator of MATH-like problems that ships with Overproof."""
    upload: str | None = Field(None, pattern=r"^ds_[0-9a-f]{32}$")
    """Id of a data set sent to `POST /v1/datasets`."""
    file: str | None = None
    """A .jsonl, .csv or .parquet file below the data root of the installation."""
    hub: str | None = Field(None, pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """A data set of the Hugging Face hub."""
    artifact: str | None = Field(None, pattern=r"^[a-z_]+/[0-9a-f]{32}$")
    """A table that an earlier run made: `<stage>/<key>`."""
    config: str | None = None
    """Hub only: the configuration (subset)."""
    revision: str | None = None
    """Hub only: branch, tag or commit; a commit makes the run repeatable."""
    split: str | None = None
    """Generator: train, val or test. Hub: the split."""
    n: int | None = Field(None, ge=1)
    """How many rows: needed by the generator; elsewhere the first n."""
    seed: int = 0
    """Generator only."""
    columns: dict[str, str] = Field({})
    """Our column name → theirs, e.g. `{problem: question, answer: final}`."""
    license: str | None = None
    """SPDX id or a sentence; recorded in the report and the model card."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("generator", "upload", "file", "hub", "artifact") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"name the data set by exactly one of generator, upload, file, hub, artifact; got {given or 'none'}"
            )
        if self.generator and not (self.n and self.split):
            raise ValueError("a generator needs n (how many problems) and split (train, val or test)")
        return self

    @property
    def name(self) -> str:
        """A short name for reports."""
        return str(self.generator or self.upload or self.file or self.hub or self.artifact)


class ModelSource(Part):
    """A model: a hub id with a revision, a folder under the model root, or `run:<id>` (the student of an earlier run)."""

    name: str = Field(min_length=1, max_length=200)
    revision: str | None = None
    license: str | None = None
    """Overrides what the model card says."""


def _model(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name, _, revision = value.partition("@")
    return {"name": name, "revision": revision or None}


Model = Annotated[ModelSource, BeforeValidator(_model)]
"""`name@revision` or the fields of ModelSource."""


class Data(Part):
    """The problem sets."""

    train: DataSource | None = None
    """Problems that the teacher solves; the student never sees any other."""
    test: DataSource | None = None
    """Locked problems, used only to compare models."""
    on_overlap: Literal["error", "drop"] = "error"
    """What to do when a training problem shares a group with a test problem."""
    on_ungradable: Literal["error", "keep"] = "error"
    """What to do when a gold answer cannot be read: stop before sampling, or go on and count those rows as `ungradable`."""


class Models(Part):
    """Who teaches and who learns."""

    teacher: Model | None = None
    student: Model | None = None
    evaluate: tuple[Model, ...] = ()
    """Further checkpoints to evaluate (goal `evaluate`)."""


class Given(Part):
    """Tables made elsewhere, for a recipe that names only a part of the loop."""

    completions: DataSource | None = None
    further_completions: tuple[Annotated[str, Field(pattern=r"^[a-z_]+/[0-9a-f]{32}$")], ...] = ()
    """Artifacts with more completions of the same problems, e.g. the later sampling passes of the run that made `completions`."""
    grades: DataSource | None = None
    selected: DataSource | None = None
    evaluations: tuple[str, ...] = ()
    """Ids of earlier runs whose evaluations are compared (goal `compare`)."""
    regrade: bool = False
    """Goal `compare`: judge the runs' completions again, by `grading` and today's grader, before comparing; nothing is sampled."""

"""Where training runs. None of this changes a result, except that sums over other numbers of threads round differently."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from overproof.shared.errors import RecipeError
from overproof.shared.recipe import TrainingOptions
from overproof.shared.settings import Settings


class TrainingSettings(Settings):
    """The settings of all services, and those of training."""

    training_threads: int | None = Field(None, ge=1)
    """CPU threads per process; None: the cores divided by the processes of all trainings that run at once."""
    training_stall_seconds: float = Field(3600, gt=0)
    """A training that makes no step for this long hangs (a lost peer, a stuck disk): it is ended and resumed."""

    training_wait_seconds: float = Field(14_400, ge=0)
    """So long a training waits for room on its GPUs, which an inference worker may share; then it fails and says what is free. As long as
    inference waits for a training: the run's own evaluation of its base model may have the GPUs for hours."""

    training_report_to: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Boards that follow each training besides TensorBoard, as JSON: ["wandb"]. Their own variables (WANDB_..., MLFLOW_...) say where they are."""

    training_runner: Literal["process_group", "trainjob"] = "process_group"
    """Where the processes of a training run: on this machine, or on the nodes of a cluster (Kubeflow Trainer)."""
    trainjob_runtime: str = "overproof-deepspeed"
    """The TrainingRuntime in this pod's namespace that says image, volumes and restarts."""
    trainjob_processes_per_node: int = Field(8, ge=1)
    """Processes (GPUs) of one node; a training with fewer takes a part of one node."""
    trainjob_device: str = "nvidia.com/gpu"
    """Each process gets one of these; empty: a training on CPUs."""
    trainjob_resources: dict[str, str] = Field(default_factory=dict)
    """What else a node gives, as JSON, e.g. {"cpu": "32", "memory": "256Gi"}."""
    trainjob_queue: str = ""
    """Kueue's LocalQueue, which admits all nodes together or none; empty: no queue."""

    training_processes: int | None = Field(None, ge=1, le=4096)
    """Processes instead of the recipe's `training.processes`, where this machine has another number of GPUs than the recipe was written
    for. Batches and the order of the rows stay; sums are rounded otherwise. None: the recipe's."""
    training_gpus: str = ""
    """Which GPUs of the machine training may use, as CUDA_VISIBLE_DEVICES has them: `0,2` or UUIDs. Empty: as this process sees them."""

    def on_this_machine(self, options: TrainingOptions) -> TrainingOptions:
        """The options with this machine's number of processes. Raises RecipeError when they cannot share the global batch."""
        if self.training_processes in (None, options.processes):
            return options
        try:
            return TrainingOptions.model_validate(options.model_dump() | {"processes": self.training_processes})
        except ValidationError as error:
            raise RecipeError(
                f"OVERPROOF_TRAINING_PROCESSES {self.training_processes} does not suit the recipe: {error.errors()[0]['msg']}.",
                "Set it to a divisor of training.global_batch_size.",
            ) from None

    @field_validator("training_processes", mode="before")
    @classmethod
    def _none_where_empty(cls, value: object) -> object:
        """Compose hands on an empty string for what is not set."""
        return None if value == "" else value

    @field_validator("training_report_to")
    @classmethod
    def _installed(cls, boards: tuple[str, ...]) -> tuple[str, ...]:
        missing = [name for name in boards if find_spec(name) is None]
        if missing:
            raise ValueError(f"{missing[0]} is not installed: pip install {missing[0]}, or leave it out")
        return boards

    def threads(self, processes: int) -> int:
        """CPU threads per process."""
        return self.training_threads or max(1, len(os.sched_getaffinity(0)) // (processes * self.concurrency))

"""Which of the two runners the settings name."""

from __future__ import annotations

from overproof.shared.errors import UserError
from overproof.shared.recipe import TrainingOptions
from overproof.training.cluster import Cluster
from overproof.training.ports import Runner
from overproof.training.process_group import ProcessGroup
from overproof.training.settings import TrainingSettings
from overproof.training.trainjob import TrainJobs, nodes_of


class StorageNotShared(UserError):
    """The nodes of a cluster would not see what the worker wrote."""


def runner_of(settings: TrainingSettings) -> Runner:
    """Raises NotInACluster or StorageNotShared when the settings ask for what this process does not have."""
    if settings.training_runner == "process_group":
        return ProcessGroup(settings.training_stall_seconds)
    if settings.storage.partition("://")[1] and not settings.storage.startswith("file://"):
        raise StorageNotShared(
            f"Trainings as TrainJobs need a shared folder, and the storage is {settings.storage}.",
            "Mount a ReadWriteMany volume as OVERPROOF_STORAGE, or set OVERPROOF_TRAINING_RUNNER to process_group.",
        )
    return TrainJobs(Cluster.of_this_pod(), settings)


def check_runner(settings: TrainingSettings, options: TrainingOptions) -> None:
    """Before any row is read. Raises what `runner_of` raises, and RecipeError when the processes do not fill whole nodes."""
    runner_of(settings)
    if settings.training_runner == "trainjob":
        nodes_of(options.processes, settings)

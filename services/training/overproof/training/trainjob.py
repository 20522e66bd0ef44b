"""Trains on the nodes of a cluster: a Kubeflow TrainJob that this worker creates, follows and deletes.

The job's processes read and write the same storage as the worker, at the same path, so its figures and its failures arrive as
they do from a process group. A job that outlives its worker is found by its name and followed by the next one; a worker that
lost its lease leaves the job to that one, and a job is deleted by its uid, so never a later one of its name.
(Trainer v2, trainer.kubeflow.org/v1alpha1: https://www.kubeflow.org/docs/components/trainer)
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any, Literal, NamedTuple

from overproof.shared.errors import EngineUnavailable, OverproofError, RecipeError, Stopped, UserError
from overproof.training.cluster import Cluster, Refused
from overproof.training.failures import explain, final, forget, full_disk
from overproof.training.job import Job, write_whole
from overproof.training.settings import TrainingSettings

log = logging.getLogger(__name__)

GROUP = "trainer.kubeflow.org"
VERSION = "v1alpha1"
ARTIFACT = "overproof/artifact"
"""Annotation: which artifact a job makes."""
KUEUE = "kueue.x-k8s.io/queue-name"
NAME_DIGITS = 20
"""Of the artifact's key: pods are called after the job, with room for what Trainer appends (63 characters in all)."""
SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_TO_VANISH = 120.0
"""A job that was deleted keeps its name until its pods have ended."""

LED_BY = "trainjob.led_by"
"""In the job's folder: a mark of the worker that leads it now. One that has lost its lease leaves the job to that one."""

Phase = Literal["waiting", "running", "complete", "failed"]


class ClusterRefuses(UserError):
    """The cluster does not do what it is asked, and will not until somebody changes it."""


class State(NamedTuple):
    """What a TrainJob's status says."""

    phase: Phase
    message: str = ""


class TrainJobs:
    """A `Runner`."""

    def __init__(self, cluster: Cluster, settings: TrainingSettings, pause: float = SECONDS_BETWEEN_LOOKS) -> None:
        self._cluster = cluster
        self._settings = settings
        self._pause = pause
        self._path = f"/apis/{GROUP}/{VERSION}/namespaces/{cluster.namespace}/trainjobs"

    def run(self, ref: str, job: Job, stop: Event, look: Callable[[], bool]) -> None:
        """See `ports.Runner`. The nodes find the newest checkpoint themselves, since Trainer restarts them without us."""
        wanted = manifest(ref, job, self._settings)
        name, me = wanted["metadata"]["name"], uuid.uuid4().hex
        led_by = job.scratch / LED_BY
        write_whole(led_by, me)  # before the job is looked for: a worker that ends now leaves it to this one
        uid = self._begin(wanted, job, stop)
        try:
            self._follow(name, uid, job, stop, look)
        finally:
            if not led_by.is_file() or led_by.read_text() == me:
                self._delete(name, uid)
            else:
                log.info("TrainJob %s goes on under another worker", name)

    def _begin(self, wanted: dict[str, Any], job: Job, stop: Event) -> str | None:
        """Create the job, or find the one that another worker has begun; one that has failed makes room first. Returns its uid."""
        name, end = wanted["metadata"]["name"], time.monotonic() + SECONDS_TO_VANISH
        while time.monotonic() < end:
            found = self._get(name)
            if found is None:
                forget(job.scratch)
                if made := self._create(wanted):
                    return uid_of(made)
            elif not is_leaving(found) and state_of(found).phase != "failed":
                log.info("TrainJob %s goes on under this worker", name)
                return uid_of(found)
            else:
                self._delete(name, uid_of(found))
            if stop.wait(self._pause):
                raise Stopped("The training was stopped.")
        raise EngineUnavailable(f"The TrainJob {name} of an earlier attempt does not vanish.", "Look at its pods.")

    def _follow(self, name: str, uid: str | None, job: Job, stop: Event, look: Callable[[], bool]) -> None:
        heard = time.monotonic()
        while True:
            if stop.wait(self._pause):
                raise Stopped("The training was stopped.")
            state = self._state(name, uid)
            if look() or state.phase == "waiting":  # a job that waits for nodes does not hang
                heard = time.monotonic()
            if state.phase == "complete":
                look()
                return
            if state.phase == "failed":
                raise _failure(name, job, state.message)
            if error := final(job.scratch):  # Trainer would start the nodes again, to hear the same
                raise error
            if time.monotonic() - heard > self._settings.training_stall_seconds:
                raise EngineUnavailable(
                    f"The TrainJob {name} made no step for {self._settings.training_stall_seconds:.0f} s and was deleted.",
                    "It goes on from its last checkpoint; look for a hung node or disk.",
                )

    def _state(self, name: str, uid: str | None) -> State:
        """An API server that is away for a while ends no training: the stall does that."""
        try:
            found = self._get(name)
        except EngineUnavailable as error:
            log.warning("%s", error)
            return State("running")
        if found is None or is_leaving(found) or uid_of(found) != uid:
            raise EngineUnavailable(
                f"The TrainJob {name} was deleted by somebody else.", "It is made again, from its last checkpoint."
            )
        return state_of(found)

    def _get(self, name: str) -> dict[str, Any] | None:
        try:
            return self._cluster.ask("GET", f"{self._path}/{name}")
        except Refused as error:
            if error.status == 404:
                return None
            raise self._refusal("get", error) from None

    def _create(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """The job as it was created now; None when another worker was quicker."""
        try:
            return self._cluster.ask("POST", self._path, wanted)
        except Refused as error:
            if error.status == 409:
                return None
            raise self._refusal("create", error) from None

    def _delete(self, name: str, uid: str | None) -> None:
        """Its pods go with it; a later job of the same name stays. Not being able to is told, and leaves the outcome of the training as it is."""
        options = {"propagationPolicy": "Foreground"} | ({"preconditions": {"uid": uid}} if uid else {})
        try:
            with suppress(Refused):  # 404: gone already; 409: another one has its name
                self._cluster.ask("DELETE", f"{self._path}/{name}", options)
        except EngineUnavailable as error:
            log.warning("TrainJob %s may still run: %s", name, error)

    def _refusal(self, verb: str, error: Refused) -> OverproofError:
        where = f"namespace {self._cluster.namespace}"
        if error.status in (401, 403):
            return ClusterRefuses(
                f"The cluster does not let this worker {verb} TrainJobs in {where}: {error.message}",
                "Apply k8s/components/trainer: its Role `trainer` must be bound to training's service account.",
            )
        if error.status == 404:
            return ClusterRefuses(
                f"The cluster knows no TrainJobs ({GROUP}/{VERSION}).",
                "Install Kubeflow Trainer 2, or set OVERPROOF_TRAINING_RUNNER to process_group.",
            )
        return ClusterRefuses(
            f"The cluster refuses the TrainJob: {error.message}",
            f"Look at the TrainingRuntime {self._settings.trainjob_runtime} and at the OVERPROOF_TRAINJOB_ settings.",
        )


def manifest(ref: str, job: Job, settings: TrainingSettings) -> dict[str, Any]:
    """The TrainJob that makes the artifact `ref`. Raises RecipeError when the processes do not fill whole nodes."""
    nodes, per_node = nodes_of(job.options.processes, settings)
    resources = dict(settings.trainjob_resources)
    if settings.trainjob_device:
        resources[settings.trainjob_device] = str(per_node)
    labels = {"app.kubernetes.io/part-of": "overproof", "app.kubernetes.io/component": "train"}
    if settings.trainjob_queue:
        labels[KUEUE] = settings.trainjob_queue
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": f"train-{ref.rpartition('/')[2][:NAME_DIGITS]}",
            "labels": labels,
            "annotations": {ARTIFACT: ref},
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": settings.trainjob_runtime},
            "trainer": {
                "numNodes": nodes,
                "numProcPerNode": per_node,
                "command": ["python3", "-m", "overproof.training.node"],
                "args": [str(job.scratch / "job.json")],
                **({"resourcesPerNode": {"requests": resources, "limits": resources}} if resources else {}),
            },
        },
    }


class Nodes(NamedTuple):
    """How many there are, and how many processes each of them runs."""

    nodes: int
    per_node: int


def nodes_of(processes: int, settings: TrainingSettings) -> Nodes:
    """Raises RecipeError when the processes do not fill whole nodes."""
    per_node = min(processes, settings.trainjob_processes_per_node)
    nodes, rest = divmod(processes, per_node)
    if rest:
        raise RecipeError(
            f"training.processes {processes} do not fill nodes of {per_node} processes (OVERPROOF_TRAINJOB_PROCESSES_PER_NODE).",
            f"Set training.processes to {nodes * per_node} or {(nodes + 1) * per_node}.",
        )
    return Nodes(nodes, per_node)


def state_of(trainjob: dict[str, Any]) -> State:
    """From conditions (Complete, Failed, Suspended) and the child jobs' counts."""
    status = trainjob.get("status") or {}
    held = {one["type"]: one for one in status.get("conditions") or [] if one.get("status") == "True"}
    for kind, phase in (("Complete", "complete"), ("Failed", "failed")):
        if kind in held:
            return State("complete" if phase == "complete" else "failed", _words(held[kind]))
    if "Suspended" in held:
        return State("waiting", _words(held["Suspended"]))
    begun = any(one.get("active") or one.get("ready") for one in status.get("jobsStatus") or [])
    return State("running" if begun else "waiting")


def uid_of(trainjob: dict[str, Any]) -> str | None:
    """What the cluster tells it by from others of its name, before and after."""
    uid: str | None = trainjob["metadata"].get("uid")
    return uid


def is_leaving(trainjob: dict[str, Any]) -> bool:
    """Deleted, but its pods have not ended yet."""
    return bool(trainjob["metadata"].get("deletionTimestamp"))


def _words(condition: dict[str, Any]) -> str:
    return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")


def _failure(name: str, job: Job, message: str) -> OverproofError:
    """What a process left behind says more than the job's status."""
    if any(job.scratch.glob("error-*.json")):
        return explain(job.scratch, 1, "")
    said = f"The TrainJob {name} failed: {message or 'its status gives no reason'}"
    return full_disk(job.scratch, said) or EngineUnavailable(
        said,
        "It goes on from its last checkpoint; look at its pods and at the nodes' events.",
    )

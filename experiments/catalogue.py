"""What exists, read from the config folder and from docstrings without importing anything heavy.

A config file naming a class is the registration; the class's module says in its first line what
it is, in its `Paper:` line where it comes from.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from fedalign.core.errors import UnknownNameError

CONF = Path(__file__).parent / "conf"
ROOT = CONF.parent.parent
ALIASES = {"global_defense": "defense"}  # a key that takes the options of a group by another name


@dataclass(frozen=True)
class Entry:
    """One config file: group, name, the target class, its idea and its source."""

    group: str
    name: str
    target: str
    idea: str
    paper: str


@cache
def groups() -> tuple[str, ...]:
    """Every config group, sorted."""
    return tuple(sorted(path.name for path in CONF.iterdir() if any(path.glob("*.yaml"))))


def group_of(key: str) -> str | None:
    """The group whose options a key takes, None where it takes plain values."""
    group = ALIASES.get(key, key)
    return group if group in groups() else None


@cache
def names(group: str) -> tuple[str, ...]:
    """Every option of a group, sorted."""
    return tuple(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


def check(group: str, name: str) -> None:
    """Raise UnknownNameError unless every `+` part of `name` is an option of `group`."""
    for part in str(name).split("+"):
        if part not in names(group):
            raise UnknownNameError(group, part, names(group))


def entries(group: str) -> Iterator[Entry]:
    """The options of a group with their docstrings."""
    for name in names(group):
        if group == "scenario":
            yield Entry(group, name, "", _title(name), "")
            continue
        target = _target(group, name)
        module, _, attribute = target.rpartition(".")
        idea, paper = _docstring(module, attribute)
        yield Entry(group, name, target, idea + _difference(group, name), paper)


def markdown(group: str) -> str:
    """The options of a group as a Markdown table."""
    lines = ["| name | what | source |", "|---|---|---|"]
    lines += [f"| `{e.name}` | {e.idea} | {e.paper} |" for e in entries(group)]
    return "\n".join(lines)


def _title(scenario: str) -> str:
    return str(_yaml(CONF / "scenario" / f"{scenario}.yaml").get("title", ""))


def _target(group: str, name: str) -> str:
    node = _yaml(CONF / group / f"{name}.yaml")
    if "_target_" in node:
        return str(node["_target_"])
    base = next(option for option in node["defaults"] if option != "_self_")
    return _target(group, str(base))


def _difference(group: str, name: str) -> str:
    """What a variant changes, as ` [key=value]`."""
    node = _yaml(CONF / group / f"{name}.yaml")
    if "defaults" not in node:
        return _parts(group, name)
    changed = {k: v for k, v in node.items() if k not in ("defaults", "_target_")}
    return f" [{', '.join(f'{k}={_short(v)}' for k, v in changed.items())}]"


def _parts(group: str, name: str) -> str:
    """The nested objects by which an option differs from others of the same class."""
    node = _yaml(CONF / group / f"{name}.yaml")
    alike = [_yaml(CONF / group / f"{other}.yaml") for other in names(group)]
    alike = [other for other in alike if other.get("_target_") == node.get("_target_")]
    told = {
        key: str(part["_target_"]).rpartition(".")[2]
        for key, part in node.items()
        if isinstance(part, dict) and any(other.get(key) != part for other in alike)
    }
    return f" [{', '.join(f'{key}={part}' for key, part in told.items())}]" if told else ""


def _short(value: object) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


@cache
def _yaml(path: Path) -> dict:
    return yaml.load(
        path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )


@cache
def _docstring(module: str, attribute: str) -> tuple[str, str]:
    """First line without the leading name, and the `Paper:` or `Source:` paragraph."""
    base = ROOT / module.replace(".", "/")
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    idea = text.split("\n\n")[0].replace("\n", " ").strip()
    idea = idea.split(": ", 1)[1] if ": " in idea else idea
    for paragraph in text.split("\n\n"):
        for mark in ("Paper: ", "Papers: ", "Source: ", "Sources: "):
            if paragraph.startswith(mark):
                return idea, paragraph[len(mark) :].replace("\n", " ").strip()
    return idea, ""

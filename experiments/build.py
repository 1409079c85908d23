"""A config node with `_target_` becomes the object it names, its nested nodes first."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from fedalign.core.errors import ConfigError


def build(node: Any, **more: Any) -> Any:
    """{"_target_": "package.module.Class", **arguments} -> an instance; lists and plain values
    pass through. `more` are arguments that no config can hold."""
    if isinstance(node, list):
        return [build(item) for item in node]
    if not isinstance(node, Mapping) or "_target_" not in node:
        return node
    arguments = {key: build(value) for key, value in node.items() if key != "_target_"}
    for key, value in arguments.items():
        if value == "???":
            raise ConfigError(f"{node['_target_']} needs a value for {key}.")
    return locate(node["_target_"])(**arguments, **more)


def locate(target: str) -> Any:
    """The object behind a dotted path."""
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)

"""What a config may ask of Flower's modes: ranges, resources, a SuperLink elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedalign.core.errors import ConfigError
from fedalign.federation.runtimes.client_work import check_waiting

MODES = ("local", "ray", "deploy")


def count(mode: str, nodes: int | None) -> int:
    """How many SuperNodes a mode has where none are asked for."""
    return nodes if nodes is not None else 1 if mode == "local" else 2


def check(mode: str, nodes: int, timeout_s: float | None, quorum: float) -> None:
    """ConfigError where an argument of `Flower` is out of its range."""
    if mode not in MODES:
        raise ConfigError(f"runtime.mode must be one of {', '.join(MODES)}, got {mode!r}.")
    if nodes < 1:
        raise ConfigError(f"runtime.nodes must be 1 or more, got {nodes}.")
    check_waiting(timeout_s, quorum)
    if timeout_s is not None and mode == "local":
        raise ConfigError(
            "runtime.mode=local calls clients in this process, where a hanging one cannot be left "
            "behind: for runtime.timeout_s take runtime.mode=ray or deploy, or runtime=processes."
        )


def absent(package: str, requirement: str) -> str:
    """The sentence for a rim that is not installed."""
    return f"This needs {package}, which is absent: pip install '{requirement}'."


def check_resources(runtime: Mapping[str, Any], device: str) -> None:
    """ConfigError where client processes under Ray cannot be given what `runtime` asks for."""
    cpus, gpus = runtime["cpus"], runtime["gpus"]
    if cpus <= 0 or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise ConfigError(
            "runtime.cpus must be above 0, runtime.gpus 0 or more and whole above 1, got "
            f"{cpus:g} and {gpus:g}: gpus=0.25 lets four client processes share a device."
        )
    if runtime["mode"] == "ray" and device == "cuda" and gpus == 0:
        raise ConfigError(
            "device=cuda under runtime.mode=ray, but runtime.gpus=0 hides all devices from client "
            "processes: take runtime.gpus=1, or a fraction where several share a device."
        )


def check_superlink(runtime: Mapping[str, Any]) -> None:
    """ConfigError where a SuperLink elsewhere is asked for in a way that cannot work."""
    where, roots = runtime["superlink"], runtime["root_certificates"]
    if roots and not where:
        raise ConfigError(
            "runtime.root_certificates is for a SuperLink elsewhere: give runtime.superlink=HOST:PORT."
        )
    if not where:
        return
    if runtime["mode"] != "deploy":
        raise ConfigError("runtime.superlink=HOST:PORT needs runtime.mode=deploy.")
    name, _, port = str(where).rpartition(":")
    if not name or "/" in name or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"runtime.superlink must be HOST:PORT, such as 10.0.0.5:8000, got {where!r}."
        )
    if runtime["secure"] and not roots:
        raise ConfigError(
            "runtime.secure=true makes keys for a SuperLink of our own; one elsewhere has its own: "
            "give runtime.root_certificates=ca.crt, the file of its authority."
        )
    if roots and not Path(roots).is_file():
        raise ConfigError(f"There is no file {roots} (runtime.root_certificates).")

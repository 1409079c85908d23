"""Runs that move: under Ray and deployed, Flower's own engine starts a ServerApp that plays them.

The engine lives in a child process that ends itself and all it has started as soon as the pipe to
its parent closes. So nothing is left over after success, failure, Ctrl-C or `kill -9`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from fedalign.core.errors import ConfigError, FedalignError
from fedalign.federation.runtimes.flower.asked import (
    absent,
    check,
    check_resources,
    check_superlink,
    count,
)
from fedalign.federation.runtimes.flower.joined import present

QUIET = {  # no telemetry, no look for updates, no network
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "OMP_NUM_THREADS": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",  # seconds; Flower's own is 1
}
MODULE = "fedalign.federation.runtimes.flower.engine_process"
GRACE_S = 30.0

Play = Callable[[Mapping[str, Any], Path, Mapping[str, Any]], None]


def moved(
    play: Play, config: Mapping[str, Any], folder: Path, environment: Mapping[str, Any]
) -> bool:
    """Where `config["runtime"]` asks for an engine and this is no ServerApp yet: let the engine
    play the run to its end, and answer True. An error of the run is raised here as FedalignError."""
    runtime = dict(config["runtime"])
    mode = runtime.get("mode", "local")
    if mode not in ("ray", "deploy") or present() is not None:
        return False
    refuse(runtime, config["device"])
    runtime["nodes"] = count(mode, runtime["nodes"])
    cuda = torch.cuda.device_count() if config["device"] == "cuda" else 0
    runtime["cards"] = [f"cuda:{i}" for i in range(cuda)]
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    state = Path(runtime["state_dir"] or folder / "clients").resolve()
    with tempfile.TemporaryDirectory(prefix="fedalign-flower-") as scratch:
        report = Path(scratch) / "report.json"
        cell = {
            "play": f"{play.__module__}.{play.__qualname__}", "config": dict(config),
            "folder": str(folder), "environment": dict(environment), "report": str(report),
        }  # fmt: skip
        plan = {"cell": cell, "runtime": runtime, "state": str(state), "scratch": scratch}
        (Path(scratch) / "plan.json").write_text(json.dumps(plan))
        _supervised(Path(scratch), mode)
        _settle(report, Path(scratch) / "engine.log", mode)
    if not runtime["state_dir"]:
        shutil.rmtree(state, ignore_errors=True)
    if runtime["superlink"] and not (folder / "digest.txt").is_file():
        raise FedalignError(
            f"The run has ended, but not in {folder}: the ServerApp has written it to a folder of "
            "that name on the SuperLink's machine. Copy it here, or take an output_root that both "
            "machines share."
        )
    return True


def refuse(runtime: Mapping[str, Any], device: str = "cpu") -> None:
    """ConfigError where a config's `runtime` names a mode of Flower that cannot run here."""
    if "mode" not in runtime:
        return
    mode = runtime["mode"]
    check(mode, count(mode, runtime["nodes"]), runtime["timeout_s"], runtime["quorum"])
    check_resources(runtime, device)
    check_superlink(runtime)
    if find_spec("flwr") is None:
        raise ConfigError(absent("Flower", "flwr>=1.41,<1.43"))
    if mode == "ray" and find_spec("ray") is None:
        raise ConfigError(absent("Ray", "flwr[simulation]>=1.41,<1.43"))


def _supervised(scratch: Path, mode: str) -> None:
    """Run the engine's process to its end; if we are stopped, it ends first."""
    here = [str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(filter(None, here))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment["FLWR_HOME"] = str(scratch / "home")
    with open(scratch / "engine.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, mode, str(scratch / "plan.json")],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to answer
        )
        try:
            process.wait()
        finally:
            process.stdin.close()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _settle(report: Path, log: Path, mode: str) -> None:
    """Raise what the run raised, or say how the engine ended without a run."""
    if report.is_file():
        error = json.loads(report.read_text())["error"]
        if error:
            raise FedalignError(error)
        return
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b.*:", line)]
    raise FedalignError(
        f"Flower's engine (runtime.mode={mode}) ended without playing the run: "
        f"{(named or lines or ['it said nothing'])[0]}\nIts last lines:\n  "
        + "\n  ".join(lines[-8:])
    )

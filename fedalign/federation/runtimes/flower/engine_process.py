"""The process around an engine: `python -m ...engine_process ray|deploy plan.json`.

It watches its standard input: when that closes, the parent is done or dead, and all ends here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedalign.core.errors import FedalignError


def main(mode: str, plan_path: str) -> None:
    plan = json.loads(Path(plan_path).read_text())
    try:
        if mode == "ray":
            _watch(_end_ray, plan["scratch"])
            _play_under_ray(plan)
        else:
            from fedalign.federation.runtimes.flower.deploy import Deployment

            deployment = Deployment(plan)
            _watch(deployment.end, plan["scratch"])
            deployment.play()
    except BaseException as problem:  # a ServerApp's thread may still wait for nodes, in vain
        traceback.print_exc()
        sys.stderr.flush()
        if isinstance(problem, FedalignError) and not Path(plan["cell"]["report"]).is_file():
            Path(plan["cell"]["report"]).write_text(json.dumps({"error": str(problem)}))
        _end_ray()
        end_marked(plan["scratch"])
        os._exit(1)
    end_marked(plan["scratch"])


def _watch(end: Callable[[], None], scratch: str) -> None:
    """Call `end` and leave when standard input closes, or on SIGTERM."""

    def leave(*_: Any) -> None:
        try:
            end()
        finally:
            end_marked(scratch)
            shutil.rmtree(scratch, ignore_errors=True)
            os._exit(1)

    def wait() -> None:
        sys.stdin.buffer.read()
        leave()

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=wait, daemon=True).start()


def _play_under_ray(plan: dict[str, Any]) -> None:
    from fedalign.federation.runtimes.flower.apps import simulated

    os.environ["FEDALIGN_STATE_DIR"] = plan["state"]
    runtime = plan["runtime"]
    simulated(plan["cell"], runtime["nodes"], runtime["cpus"], runtime["gpus"])


def marked(scratch: str) -> list[int]:
    """Ids of living processes, but this one, that inherited this engine's FLWR_HOME; on Linux."""
    mark, found = f"FLWR_HOME={scratch}/".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if int(path.parent.name) != os.getpid() and mark in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
    return found


def end_marked(scratch: str) -> None:
    """SIGKILL what is still there of this engine once its programs were told to end."""
    for number in marked(scratch):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def _end_ray() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

"""The process around an engine: `python -m ...engine_process ray|deploy plan.json`.

It watches its standard input: when that closes, the parent is done or dead, and all ends here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main(mode: str, plan_path: str) -> None:
    plan = json.loads(Path(plan_path).read_text())
    if mode == "ray":
        _watch(_end_ray)
        _play_under_ray(plan)
    else:
        from fedalign.federation.runtimes.flower.deploy import Deployment

        deployment = Deployment(plan)
        _watch(deployment.end)
        deployment.play()


def _watch(end: Callable[[], None]) -> None:
    """Call `end` and leave when standard input closes, or on SIGTERM."""

    def leave(*_: Any) -> None:
        try:
            end()
        finally:
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


def _end_ray() -> None:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

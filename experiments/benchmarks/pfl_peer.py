"""pfl-research as a rival: its rounds, one at a time, in an interpreter of its own.

`pip install 'pfl[pytorch]' torch` into any environment (its pins clash with ours: attrs,
numpy) and say `pfl_python=/path/to/that/python`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedalign.core.errors import ConfigError

_DRIVER = Path(__file__).with_name("pfl_driver.py")


def absent(python: str | None) -> str:
    """Why pfl cannot run; "" where it can."""
    command = [python or sys.executable, "-c", "import pfl.model.pytorch"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        return f"pfl_python={python} does not run: {error}"
    if answer.returncode == 0:
        return ""
    return (
        "pfl is absent: python -m venv pfl && pfl/bin/pip install 'pfl[pytorch]' torch, then "
        "pfl_python=pfl/bin/python"
    )


class Pfl:
    """asked: as pfl_driver reads it. processes: >= 1, each with one thread and its share of the
    clients. Use as a context: what it started ends with it."""

    def __init__(self, python: str | None, asked: Mapping[str, Any], processes: int = 1):
        port = str(_free_port())
        self._children = []
        for rank in range(processes):
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
            if processes > 1:
                environment |= {
                    "TORCHELASTIC_RUN_ID": "fedalign", "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port, "RANK": str(rank), "WORLD_SIZE": str(processes),
                    "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes),
                }  # fmt: skip
            self._children.append(subprocess.Popen(
                [python or sys.executable, "-W", "ignore", str(_DRIVER)], env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            ))  # fmt: skip
        self._say(json.dumps(dict(asked)))

    def __enter__(self) -> Pfl:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
            child.communicate()

    def round(self) -> tuple[float, float]:
        """Wall seconds of the slowest process, CPU seconds of all."""
        answers = self._say("round")
        return max(a["wall"] for a in answers), sum(a["cpu"] for a in answers)

    def model(self) -> Path:
        """An .npz of the parameters by name."""
        return Path(self._say("model")[0]["model"])

    def _say(self, word: str) -> list[dict[str, Any]]:
        for child in self._children:
            child.stdin.write(word + "\n")
            child.stdin.flush()
        return [self._answer(child) for child in self._children]

    def _answer(self, child: subprocess.Popen) -> dict[str, Any]:
        while line := child.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        last = (child.stderr.read().strip().splitlines() or ["no reason given"])[-1]
        raise ConfigError(f"pfl ended early: {last}")


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]

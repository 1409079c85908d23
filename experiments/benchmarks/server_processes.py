"""Server processes that answer JSON commands: started, asked, killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedalign.core.errors import FedalignError

ROOT = Path(__file__).parents[2]


class ServerProcesses:
    """Processes of `module`, each with its own setting; a context that ends them all.

    module: run with one JSON argument. settings: by server id.
    """

    def __init__(self, module: str, settings: Mapping[int, Mapping[str, Any]]):
        self.module, self.settings = module, dict(settings)
        self.running: dict[int, subprocess.Popen] = {}

    def __enter__(self) -> ServerProcesses:
        for id in self.settings:
            self.start(id)
        return self

    def __exit__(self, *_) -> None:
        for id in list(self.running):
            self.kill(id)

    def start(self, id: int) -> None:
        """Start a server, or start it again."""
        self.running[id] = subprocess.Popen(
            [sys.executable, "-m", self.module, json.dumps(self.settings[id])],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def kill(self, id: int, how: signal.Signals = signal.SIGKILL) -> None:
        """End a server without a warning."""
        process = self.running.pop(id)
        process.send_signal(how)
        process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()

    def ask(self, id: int, **command: Any) -> dict[str, Any]:
        """One command, one answer."""
        process = self.running[id]
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise FedalignError(f"Server {id} of {self.module} ended while it was asked {command}.")
        return json.loads(line)

    def leader(self, within_s: float = 10.0) -> int:
        """The server that all running ones take for the leader; waits for it."""

        def agreed() -> int | None:
            told = {id: self.ask(id, do="status") for id in sorted(self.running)}
            best = max(told.values(), key=lambda status: status["term"])
            same = all(status["leader"] == best["leader"] for status in told.values())
            return best["leader"] if same and best["leader"] in self.running else None

        return until(agreed, within_s, f"servers of {self.module} to agree on a leader")


def until(answer: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first answer that is not None or False; FedalignError if there is none in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = answer()
        if found is not None and found is not False:
            return found
        time.sleep(0.02)
    raise FedalignError(f"Waited {within_s} s for {what}.")


def unix_addresses(count: int, folder: str | None = None) -> dict[int, str]:
    """A unix socket for each server, in a new folder with a short name."""
    folder = folder or tempfile.mkdtemp(prefix="raft-")
    return {id: f"unix:{folder}/{id}" for id in range(count)}


def same_status(processes: ServerProcesses, fields: Sequence[str]) -> bool:
    """Do all running servers answer the same in these fields?"""
    told = [processes.ask(id, do="status") for id in sorted(processes.running)]
    return len({tuple(status[field] for field in fields) for status in told}) == 1

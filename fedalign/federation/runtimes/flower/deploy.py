"""Flower's deployment engine on this machine: one SuperLink, SuperNodes, and a run, on loopback.

Everything listens on 127.0.0.1 and ends with the run. With `secure`, the SuperLink speaks TLS and
accepts only SuperNodes whose keys are registered; authority and keys are made for this run alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fedalign.core.errors import FedalignError
from fedalign.federation.runtimes.flower import keys

HOST = "127.0.0.1"
_APP = '''"""The bundle that Flower ships: everything in it is fedalign's, installed at every node."""

from fedalign.federation.runtimes.flower.apps import client, server

__all__ = ["client", "server"]
'''
_PROJECT = """[project]
name = "fedalign-run"
version = "1.0.0"
description = "One run of fedalign"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "fedalign"

[tool.flwr.app.components]
serverapp = "run_app:server"
clientapp = "run_app:client"

[tool.flwr.app.config]
cell = {cell}
"""


class Deployment:
    """plan: {"cell", "runtime", "state", "scratch"}, as the process around it was given."""

    def __init__(self, plan: dict[str, Any]):
        self._cell, self._runtime = plan["cell"], plan["runtime"]
        self._state, self._scratch = Path(plan["state"]), Path(plan["scratch"])
        self._secure, self._bin = self._runtime["secure"], Path(sys.executable).parent
        self._processes: list[subprocess.Popen] = []

    def play(self) -> None:
        """Start everything, run the app to its end, stop everything."""
        try:
            port = self._superlink()
            for number in range(self._runtime["nodes"]):
                self._supernode(number, port)
            app = self._bundle()
            self._call("run", str(app), "here", "--stream")
            self._await_report()
        finally:
            self.end()

    def end(self) -> None:
        """SIGTERM to SuperNodes and SuperLink, SIGKILL after 10 s; their children follow."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 10
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _superlink(self) -> int:
        """Its port, once it listens."""
        if self._secure:
            keys.make(self._keys, self._runtime["nodes"])
            how = [
                "--ssl-ca-certfile", self._key("ca.crt"), "--ssl-certfile", self._key("server.crt"),
                "--ssl-keyfile", self._key("server.key"), "--enable-supernode-auth",
            ]  # fmt: skip
        else:
            how = ["--insecure"]
        port = free_port()
        self._start(
            "flower-superlink", *how, "--host", HOST, "--port", str(port),
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        trust = (
            f'root-certificates = "{self._key("ca.crt")}"' if self._secure else "insecure = true"
        )
        home = Path(os.environ["FLWR_HOME"])
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{HOST}:{port}"\n{trust}\n'
        )
        self._await_port(port)
        return port

    def _supernode(self, number: int, superlink: int) -> None:
        if self._secure:
            self._call("supernode", "register", self._key(f"node_{number}.pub"), "here")
            how = [
                "--root-certificates", self._key("ca.crt"),
                "--auth-supernode-private-key", self._key(f"node_{number}"),
                "--ssl-ca-certfile", self._key("ca.crt"), "--ssl-certfile", self._key("server.crt"),
                "--ssl-keyfile", self._key("server.key"),
            ]  # fmt: skip
        else:
            how = ["--insecure"]
        told = {"partition-id": number, "num-partitions": self._runtime["nodes"]}
        words = [f"{key}={value}" for key, value in told.items()]
        words.append(f"state-dir={json.dumps(str(self._state))}")
        self._start(
            "flower-supernode", *how, "--superlink", f"{HOST}:{superlink}",
            "--host", HOST, "--port", str(free_port()), "--node-config", " ".join(words),
        )  # fmt: skip

    def _bundle(self) -> Path:
        """The app's folder: two small files; the cell travels in its run config."""
        folder = self._scratch / "app"
        folder.mkdir()
        (folder / "run_app.py").write_text(_APP)
        text = json.dumps(json.dumps(self._cell), ensure_ascii=False)
        (folder / "pyproject.toml").write_text(_PROJECT.format(cell=text))
        return folder

    def _await_report(self) -> None:
        """The stream may end before the ServerApp: wait for its word, as long as it lives."""
        report, deadline = Path(self._cell["report"]), time.monotonic() + 15
        while not report.is_file() and time.monotonic() < deadline:
            time.sleep(0.2)

    def _await_port(self, port: int) -> None:
        deadline = time.monotonic() + self._runtime["start_s"]
        while time.monotonic() < deadline:
            if self._processes[-1].poll() is not None:
                raise FedalignError("The SuperLink ended at once; its words are above.")
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex((HOST, port)) == 0:
                    return
            time.sleep(0.1)
        raise FedalignError(f"The SuperLink does not listen after {self._runtime['start_s']:g} s.")

    def _start(self, program: str, *words: str) -> None:
        process = subprocess.Popen([str(self._bin / program), *words], stdin=subprocess.DEVNULL)
        self._processes.append(process)

    def _call(self, *words: str) -> None:
        process = subprocess.Popen([str(self._bin / "flwr"), *words], stdin=subprocess.DEVNULL)
        self._processes.append(process)
        if process.wait() != 0:
            raise FedalignError(f"`flwr {words[0]}` failed; its words are above.")

    @property
    def _keys(self) -> Path:
        return self._scratch / "keys"

    def _key(self, name: str) -> str:
        return str(self._keys / name)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]

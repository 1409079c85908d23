"""Flower's deployment engine: a SuperLink and SuperNodes of our own on loopback, or one elsewhere.

Our own listen on 127.0.0.1 and end with the run. With `secure`, the SuperLink speaks TLS and
accepts only SuperNodes whose keys are registered; authority and keys are made for this run alone.
With `superlink`, the run is handed to a SuperLink that is there already, with the SuperNodes that
are connected to it; they stay when the run ends.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedalign.core.errors import FedalignError
from fedalign.federation.runtimes.flower import keys
from fedalign.federation.runtimes.flower.joined import REPORT

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
        self._elsewhere = self._runtime["superlink"]
        self._processes: list[subprocess.Popen] = []
        self._link: subprocess.Popen | None = None
        self._run_id, self._where = "", ""
        self._said: list[str] = []  # why `flwr` could not hand over the run

    def play(self) -> None:
        """Start everything, run the app to its end, stop everything."""
        try:
            if self._elsewhere:
                self._address(self._elsewhere, self._runtime["root_certificates"])
            else:
                port = self._superlink()
                for number in range(self._runtime["nodes"]):
                    self._supernode(number, port)
            self._await_end(self._submit(self._bundle()))
        finally:
            self.end()

    def end(self) -> None:
        """Stop a run that is still going on elsewhere; SIGTERM to our SuperNodes and SuperLink,
        SIGKILL after 10 s; their children follow."""
        if self._elsewhere and self._run_id and not self._report.is_file():
            with suppress(subprocess.TimeoutExpired):
                stop = [str(self._bin / "flwr"), "stop", self._run_id, "here"]
                subprocess.run(stop, stdin=subprocess.DEVNULL, timeout=10, check=False)
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

    def _submit(self, app: Path) -> subprocess.Popen:
        """Hand over the app; the process that answers shows the run's words until its end."""
        words = [str(self._bin / "flwr"), "run", str(app), "here", "--stream"]
        showing = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        self._processes.append(showing)
        self._listener = threading.Thread(target=self._listen, args=(showing,), daemon=True)
        self._listener.start()
        return showing

    def _listen(self, showing: subprocess.Popen) -> None:
        """Pass on what a run says; keep its number, and how it ended where no file tells us."""
        for line in showing.stdout:
            print(line, end="", flush=True)
            if line.startswith("│"):  # the frame in which `flwr` says what is wrong
                self._said.append(line.strip(" │\n"))
            if found := re.search(r"started run (\d+)", line):
                self._run_id = found[1]
            found = re.search(re.escape(REPORT) + r"(\{.*\})", line)
            if found and not self._report.is_file():
                self._report.write_text(found[1])

    def _await_end(self, showing: subprocess.Popen) -> None:
        """Until the run has reported; FedalignError where its SuperLink ends before."""
        lost: set[int] = set()
        while showing.poll() is None and not self._report.is_file():
            self._check_superlink()
            for number, process in enumerate(self._processes[1:-1]):
                if process.poll() is not None and number not in lost:
                    lost.add(number)
                    print(f"SuperNode {number} ended (exit code {process.returncode}).", flush=True)
            time.sleep(0.1)
        if not self._report.is_file():
            self._listener.join(5)  # to the last line
        if not self._run_id and not self._report.is_file():
            raise FedalignError(
                f"The SuperLink at {self._where} did not take the run: "
                + (" ".join(self._said) or "it gave no reason.")
            )
        deadline = time.monotonic() + 15  # the stream may end before the ServerApp
        while not self._report.is_file() and time.monotonic() < deadline:
            self._check_superlink()
            time.sleep(0.1)
        if not self._report.is_file():
            raise FedalignError(
                f"The SuperLink at {self._where} no longer tells of run {self._run_id}: it ended, or "
                "the run was stopped there. The same command continues it from its last checkpoint."
            )

    def _check_superlink(self) -> None:
        """FedalignError where a SuperLink of our own has ended."""
        if self._link is not None and self._link.poll() is not None:
            raise FedalignError(
                f"The SuperLink ended (exit code {self._link.returncode}) while the run was going "
                "on: the same command continues it from its last checkpoint."
            )

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
        self._link = self._start(
            "flower-superlink", *how, "--host", HOST, "--port", str(port),
            "--disable-runtime-dependency-installation",
        )  # fmt: skip
        self._address(f"{HOST}:{port}", self._key("ca.crt") if self._secure else None)
        self._await_port(port)
        return port

    def _address(self, where: str, root_certificates: str | None) -> None:
        """Tell the `flwr` program which SuperLink is `here`, and whose certificates it trusts."""
        self._where = where
        trust = "insecure = true"
        if root_certificates:
            trust = f"root-certificates = {json.dumps(str(Path(root_certificates).resolve()))}"
        home = Path(os.environ["FLWR_HOME"])
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{where}"\n{trust}\n'
        )

    def _supernode(self, number: int, superlink: int) -> None:
        if self._secure:
            self._call("supernode", "register", self._key(f"node_{number}.pub"), "here")
            how = [
                "--root-certificates", self._key("ca.crt"),
                "--auth-supernode-private-key", self._key(f"node_{number}"),
                "--ssl-ca-certfile", self._key("ca.crt"),
                "--ssl-certfile", self._key(f"local_{number}.crt"),
                "--ssl-keyfile", self._key(f"local_{number}.key"),
            ]  # fmt: skip
        else:
            how = ["--insecure"]
        told = {"partition-id": number, "num-partitions": self._runtime["nodes"]}
        words = [f"{key}={value}" for key, value in told.items()]
        words.append(f"state-dir={json.dumps(str(self._state))}")
        self._start(
            "flower-supernode", *how, "--superlink", f"{HOST}:{superlink}",
            "--host", HOST, "--port", str(free_port()), "--node-config", " ".join(words),
            **self._card(number),
        )  # fmt: skip

    def _card(self, number: int) -> dict[str, str]:
        """The GPU of a SuperNode's clients, dealt in turn, where there are any."""
        cards = self._runtime["cards"]
        return {"FEDALIGN_DEVICE": cards[number % len(cards)]} if cards else {}

    def _bundle(self) -> Path:
        """The app's folder: two small files; the cell travels in its run config."""
        folder = self._scratch / "app"
        folder.mkdir()
        (folder / "run_app.py").write_text(_APP)
        text = json.dumps(json.dumps(self._cell), ensure_ascii=False)
        (folder / "pyproject.toml").write_text(_PROJECT.format(cell=text))
        return folder

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

    def _start(self, program: str, *words: str, **more: str) -> subprocess.Popen:
        """more: environment variables of its own."""
        process = subprocess.Popen(
            [str(self._bin / program), *words],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **more},
        )
        self._processes.append(process)
        return process

    def _call(self, *words: str) -> None:
        command = [str(self._bin / "flwr"), *words]
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise FedalignError(f"`flwr {words[0]}` failed; its words are above.")

    @property
    def _report(self) -> Path:
        return Path(self._cell["report"])

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

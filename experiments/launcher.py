"""Launcher: starts a run's edge servers as processes, watches them, and hears what they report.

It plays no part in the federation: what it records it has replayed from the sealed blocks, and an
edge server that is killed is started again, as often as `consensus.processes.restarts` allows.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consensus.archive import Archive
from consensus.audit import last_block
from consensus.chain.deployment import free_ports
from consensus.encoding import unpack
from consensus.protocol import Chain
from experiments import edge, federation_cell
from experiments.recorder import Recorder, observed, watching
from experiments.run_folder import RunFolder
from fedalign.core.contracts import State
from fedalign.core.errors import ConfigError, FedalignError, QuorumLostError
from fedalign.core.log import Log
from fedalign.federation.hierarchy import EdgeRun

PAUSE_S, GRACE_S, END_S = 0.02, 2.0, 15.0
PLAN = "plan.yaml"


def play(config: Mapping[str, Any], folder: Path, environment: Mapping[str, Any]) -> None:
    """Run a cell to its end in `folder`, each edge server a process of its own."""
    files = RunFolder(folder, config, environment)
    parts, home = federation_cell.federation(watching(config)), (folder / "edges").resolve()
    launcher = Launcher(config, home, environment, files.log, parts.consensus)
    federation_cell.to_the_end(watching(config), config, files, observed(parts, launcher))
    shutil.rmtree(home, ignore_errors=True)  # all of it is in chain/ and in the log


class Launcher(Recorder):
    """The edge servers of one run.

    folder: each has its own below it. log: the run's, which is told who ended, when and why.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: Path,
        environment: Mapping[str, Any],
        log: Log,
        chain: Chain,
    ):
        super().__init__(folder, chain.servers)
        if chain.processes.identities:
            raise ConfigError(
                "Edge servers with identities have keys that no launcher has: start each by `fedalign "
                "edge --config FILE --index I --key KEY`, or leave consensus.processes.identities out."
            )
        self._log, self._chain = log, chain
        folder.mkdir(parents=True, exist_ok=True)
        (folder / edge.DONE).unlink(missing_ok=True)
        edge.write_plan(folder / PLAN, config, _addresses(self.count), environment)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._ended = dict.fromkeys(range(self.count), 0)  # how often each one did
        self._behind: set[int] = set()  # not waited for until they report again
        self._alone_s: float | None = None
        self._paused = False
        for index in range(self.count):
            self._start(index)

    def reports(self, state: State) -> dict[int, EdgeRun]:
        """As a recorder; what lies behind `state` is recorded for good."""
        (self.folder / edge.COLLECTED).write_text(str(state.round))
        return super().reports(state)

    def there(self, round: int) -> list[int]:
        """Waits until all that are there have told of a round, and for a moment for those whose
        model is in its block though they were behind. Raises QuorumLostError."""
        enough_s = None
        while True:
            told = [i for i in range(self.count) if self.path(i, round).exists()]
            self._watch()
            if told and not self._waited(told):
                enough_s = enough_s or time.monotonic()
                late = set(self._there()) & self._sealed(told[0]) - set(told)
                if not late or time.monotonic() - enough_s > GRACE_S:
                    self._behind -= set(told)
                    return told
            time.sleep(PAUSE_S)

    def _sealed(self, index: int) -> set[int]:
        """Whose models are in the next block, as an edge server has it."""
        record = Archive(self.folder / str(index) / "chain").read(self._chain.state.height + 1)
        place = self._chain.settings.members.index
        facts = unpack(last_block(record).content.facts)
        return {place(node) for node, _ in facts["aggregate"][2]}

    def command(self, index: int) -> Sequence[str]:
        """What starts an edge server; without --launched anybody may say it."""
        words = ["--config", str(self.folder / PLAN), "--index", str(index), "--launched"]
        return [sys.executable, "-m", "experiments.cli", "edge", *words]

    # ------------------------------------------------------------ processes

    def _start(self, index: int) -> None:
        here = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, here))}
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with open(self.folder / f"{index}.log", "ab") as log:
            self._running[index] = subprocess.Popen(
                self.command(index),
                stdin=subprocess.PIPE,  # it ends when this closes
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is ours to answer
            )

    def _watch(self) -> None:
        """Start again who ended; pause, and at last give up, where no quorum is left."""
        for index, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[index]
                process.stdin.close()
                self._lost(index, process.returncode)
        needs, there = self._chain.state.quorum(self._chain.settings), self._there()
        now = time.monotonic()
        if len(there) >= needs:
            if self._paused:
                self._say("resumed", f"{len(there)} of {self.count} edge servers are there again.")
            self._alone_s, self._paused = None, False
            return
        self._alone_s = now if self._alone_s is None else self._alone_s
        gone = ", ".join(str(i) for i in range(self.count) if i not in there)
        wait_s = self._chain.processes.wait_s
        lost = (
            f"{len(there)} of {self.count} edge servers are running, {needs} must: {gone} "
            f"{'is' if len(there) == self.count - 1 else 'are'} missing"
        )
        if not self._paused and now - self._alone_s > min(GRACE_S, wait_s):
            self._paused = True
            self._say(
                "paused",
                f"{lost}. The run waits up to {wait_s:g} s for them: fedalign edge --config "
                f"{self.folder / PLAN} --index I starts one by hand.",
            )
        if now - self._alone_s > wait_s:
            raise QuorumLostError(
                f"{lost}, and nobody came back in {wait_s:g} s. The same command continues the run."
            )

    def _lost(self, index: int, code: int) -> None:
        last = self._last_words(index)
        if code == edge.NO_QUORUM:
            raise QuorumLostError(f"Edge server {index}: {last}")
        first = not list((self.folder / str(index) / "checkpoint").glob("[0-9]*"))
        if code > 0 and first:  # what it was started with is wrong: it will not get better
            raise FedalignError(f"Edge server {index} could not start: {last}")
        why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}: {last}"
        again = self._ended[index] < self._chain.processes.restarts
        self._ended[index] += 1
        self._behind.add(index)
        fate = "is started again" if again else "is given up after its last restart"
        self._say("ended", f"Edge server {index} ended ({why}) and {fate}.", edge=index)
        if again:
            self._start(index)

    def _there(self) -> list[int]:
        """Those that run, also those that somebody started by hand."""
        others = set(range(self.count)) - set(self._running)
        return sorted([*self._running, *(i for i in others if _locked(self.folder, i))])

    def _waited(self, told: Sequence[int]) -> list[int]:
        return [i for i in self._there() if i not in told and i not in self._behind]

    def _say(self, what: str, why: str, **more: Any) -> None:
        self._log.append("incident", what=what, why=why, at=edge.now(), **more)
        print(why, file=sys.stderr, flush=True)

    def _last_words(self, index: int) -> str:
        try:
            text = (self.folder / f"{index}.log").read_text(errors="replace")
        except OSError:
            text = ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing."

    def close(self) -> None:
        """End all edge servers: first in their own time, where the run is complete."""
        if any(one["word"] is not None for one in self.heard.values()):
            (self.folder / edge.DONE).touch()
            self._await(END_S)
        for process in self._running.values():
            process.stdin.close()
        self._await(END_S)
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running = {}

    def _await(self, limit_s: float) -> None:
        until = time.monotonic() + limit_s
        for process in self._running.values():
            try:
                process.wait(max(0.05, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                return


def _addresses(count: int) -> list[str]:
    """Sockets without a file on Linux, so that nothing stays behind; else ports of the loopback."""
    if sys.platform == "linux":
        name = f"fedalign-{secrets.token_hex(8)}"
        return [f"unix:@{name}-{index}" for index in range(count)]
    return [f"tcp:127.0.0.1:{port}" for port in free_ports(count)]


def _locked(folder: Path, index: int) -> bool:
    """Whether an edge server holds its lock."""
    try:
        with open(folder / f"{index}.lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True

"""One edge server as a process: `fedalign edge --config FILE --index I`.

FILE says what all edge servers of a run have in common: the resolved config of the cell, where each
of them listens, and the folder below which each keeps its own. An edge server plays its own edge
rounds, holds its own server of the chain, and leaves a report of every round for whoever records
the run; on one machine that is the launcher, which starts it with this very command.
"""

from __future__ import annotations

import fcntl
import os
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from consensus.chain import keystore
from consensus.deployed import Deployed
from consensus.identity import Key
from consensus.network.tls import mutual
from consensus.seat import Tls
from experiments import federation_cell
from experiments.run_folder import RunFolder, dump_yaml, load_yaml
from fedalign.core import memory
from fedalign.core.contracts import State
from fedalign.core.digest import of_tensor
from fedalign.core.errors import ConfigError, FolderBusyError, QuorumLostError
from fedalign.federation import edge as edges
from fedalign.federation.hierarchy import sealed
from fedalign.federation.parts import Federation, Outcome
from fedalign.federation.runtimes.flower.engines import moved

NO_QUORUM = 75  # exit code: the others are gone; to be continued
DONE, COLLECTED = "done", "collected"  # files by which a launcher speaks to its edge servers
LINGER_S = 60.0  # started by hand, it serves those behind for so long after its last round
LOCK_S = 5.0
LAST_WORD_S = 0.5  # to tell the others so
SEEK_S = 3.0  # to find out whether the others went on meanwhile
SPARE = 8  # heights whose models are kept beyond what the launcher has recorded


def run(
    file: Path,
    index: int,
    launched: bool,
    key: Path | None = None,
    passphrase: Path | None = None,
    tls: Path | None = None,
) -> int:
    """Serve to the end of the run; the exit code. key, passphrase: files, where the plan names the
    servers' identities. tls: a folder with ca.crt, server.crt and server.key."""
    plan, folder = read(file), file.parent
    if not 0 <= index < len(plan["addresses"]):
        raise ConfigError(
            f"{file} names {len(plan['addresses'])} edge servers, 0 .. "
            f"{len(plan['addresses']) - 1}; there is no {index}."
        )
    given = plan["config"]["consensus"]["processes"]["identities"]
    if bool(given) != (key is not None):
        raise ConfigError(
            f"{file} names identities, so every edge server needs its own: --key FILE."
            if given
            else f"{file} names no identities, so --key {key} opens nothing: leave it out."
        )
    with locked(folder, index):
        if launched:
            threading.Thread(target=_end_with_launcher, daemon=True).start()
        files = {"key": key, "passphrase": passphrase, "tls": tls}
        named = {name: path and str(path.resolve()) for name, path in files.items()}
        mine = {"index": index, "addresses": plan["addresses"], "launched": launched, **named}
        try:
            play({**plan["config"], "edge": mine}, folder / str(index), plan["environment"])
        except QuorumLostError as error:
            print(error, file=sys.stderr, flush=True)
            return NO_QUORUM
    return 0


def read(file: Path) -> dict[str, Any]:
    """{"config", "addresses", "environment"}. Raises ConfigError."""
    try:
        plan = load_yaml(file)
        config, addresses = dict(plan["config"]), list(plan["addresses"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} is no plan of edge servers ({error}): fedalign edge plan makes one."
        ) from error
    return {"config": config, "addresses": addresses, "environment": plan.get("environment", {})}


def locked(folder: Path, index: int) -> IO[str]:
    """A lock that ends with the process: one key must not speak twice. An earlier process that is
    about to end is waited for."""
    file, until = open(folder / f"{index}.lock", "w"), time.monotonic() + LOCK_S  # noqa: SIM115
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() > until:
                file.close()
                raise FolderBusyError(f"Edge server {index} of {folder} runs already.") from None
            time.sleep(0.1)


def play(config: Mapping[str, Any], folder: Path, environment: Mapping[str, Any]) -> None:
    """The life of edge server `config["edge"]["index"]`, from its last checkpoint if there is one."""
    if moved(play, config, folder, environment):  # by a SuperLink of this edge server's own
        return
    server = _EdgeServer(config, folder, environment)
    try:
        server.play()
        server.linger()
    finally:
        server.close()


class _EdgeServer:
    """Rounds, reports and checkpoints of one edge server."""

    def __init__(self, config: Mapping[str, Any], folder: Path, environment: Mapping[str, Any]):
        self._config, self._folder = config, folder
        self._index, self._launched = config["edge"]["index"], config["edge"]["launched"]
        self._files = RunFolder(folder, config, environment)
        parts = federation_cell.federation(config)
        addresses = dict(enumerate(config["edge"]["addresses"]))
        self._consensus = Deployed(
            parts.consensus, self._index, addresses, self._tell, _key(config["edge"]),
            _tls(config["edge"]),
        )  # fmt: skip
        self._parts: Federation = replace(parts, consensus=self._consensus)

    def play(self) -> None:
        state = self._files.restore(self._parts.runtime)
        self._behind = state is not None  # others may have gone on while it was away
        if state is None:
            state = State(0, self._parts.workload.initial())
            self._files.log.append("begin", edge=self._index, model=of_tensor(state.model))
            self._files.save(state, self._parts.runtime)  # before it promises anything
        (self._folder / "reports").mkdir(exist_ok=True)
        height = state.memory.get("chain", {}).get("height", 0)
        self._consensus.open(self._folder / "chain", height)
        edges.play(
            self._parts, self._index, state, self._config["rounds"], self._missed, self._after
        )

    def linger(self) -> None:
        """Serve those that are behind until nobody needs it any more."""
        until = time.monotonic() + LINGER_S
        while not (self._folder.parent / DONE).exists():
            time.sleep(0.05)
            over = time.monotonic() > until or self._consensus.all_done()
            if not self._launched and over:
                time.sleep(LAST_WORD_S)
                return

    def close(self) -> None:
        self._consensus.close()
        self._parts.runtime.close()

    def _missed(self) -> bool:
        """Only who was away, or came too late, asks; that takes time."""
        if not (self._behind or self._consensus.adopted):
            return False
        without = self._consensus.final_without_it(SEEK_S if self._behind else SEEK_S / 3)
        self._behind = without is not None
        return bool(without)

    def _after(self, state: State, outcome: Outcome) -> None:
        """Report, then checkpoint: no round goes unreported."""
        verdict, run = outcome.verdict, outcome.runs.get(self._index)
        last = state.round == self._config["rounds"]
        whole = self._config["keep"] == "all" or (self._config["keep"] == "last" and last)
        report = {
            "edge": self._index,
            "round": state.round,
            "model": of_tensor(state.model),
            "run": None if run is None else edges.told(run, whole),
            "costs": {phase: dict(vars(cost)) for phase, cost in verdict.costs.items()},
            "word": self._consensus.word(sealed(state)) if last else None,
        }
        memory.write(report_path(self._folder, state.round), report)
        self._files.log.append(
            "round", round=state.round, model=report["model"], block=verdict.block.hash.hex(),
            played=run is not None,
        )  # fmt: skip
        self._files.save(state, self._parts.runtime)
        self._forget()

    def _forget(self) -> None:
        """What the launcher has recorded for good is needed by those behind only for a while."""
        try:
            recorded = int((self._folder.parent / COLLECTED).read_text())
        except (OSError, ValueError):
            return
        for path in (self._folder / "reports").glob("[0-9]*"):
            if int(path.stem) <= recorded:
                path.unlink()
        self._consensus.forget(recorded - SPARE)

    def _tell(self, what: str, why: str) -> None:
        self._files.log.append(what, why=why, at=now())
        print(f"edge server {self._index}: {why}", file=sys.stderr, flush=True)


def _key(mine: Mapping[str, Any]) -> Key | None:
    """The key of this edge server alone, if it has a file of its own."""
    if mine["key"] is None:
        return None
    passphrase = mine["passphrase"] and Path(mine["passphrase"]).read_text().strip()
    return keystore.load(Path(mine["key"]), passphrase or None)


def _tls(mine: Mapping[str, Any]) -> Tls | None:
    if mine["tls"] is None:
        return None
    home = Path(mine["tls"])
    try:
        return mutual(home / "server.crt", home / "server.key", home / "ca.crt")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{home} must hold ca.crt, server.crt and server.key that belong together: {error}."
        ) from error


def report_path(folder: Path, round: int) -> Path:
    """Where an edge server's report of a round lies, below its folder."""
    return folder / "reports" / f"{round:06d}.safetensors"


def now() -> str:
    """The time of day, for people."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _end_with_launcher() -> None:
    """Its end of our standard input closes when the launcher ends, however it ends. Our own
    children hang on pipes of ours and end likewise."""
    sys.stdin.buffer.read()
    os._exit(1)


def write_plan(
    file: Path, config: Mapping[str, Any], addresses: list[str], environment: Mapping[str, Any]
) -> None:
    """What `read` reads."""
    plan = {"config": dict(config), "addresses": addresses, "environment": dict(environment)}
    file.write_text(dump_yaml(plan))

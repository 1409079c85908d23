"""The words after `fedalign chain`: keygen, up, status, show.

A chain's folder holds a subfolder per server; `up` runs each as a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedalign.core.errors import ConfigError, FedalignError

HELP = """\
  fedalign chain keygen FILE [--passphrase-file F]     a server's key, for its owner only
  fedalign chain up --nodes 4 --dir D                  four server processes; ends with Ctrl-C
                    [--order raft|bft]                 who may fail: raft: less than half may stop;
                                                       bft: less than a third may lie
  fedalign chain status --dir D                        what every server says of itself
  fedalign chain show ROUND --dir D                    what is kept of a round; D is a chain's
                                                       folder or a run's
  fedalign chain serve D [--port P]                    a finished run's EVM chain over JSON-RPC
  fedalign chain verify FOLDER                         replay the log, compute aggregates again
"""


FAULTS = {
    "raft": "Raft orders the blocks: fewer than half of the servers may stop, none may lie.",
    "bft": "BFT orders the blocks: fewer than a third of the servers may do anything.",
}


def main(words: Sequence[str]) -> int:
    """Run one of them; returns the exit code. Raises FedalignError."""
    commands = {
        "keygen": _keygen, "up": _up, "status": _status, "show": _show, "serve": _serve,
    }  # fmt: skip
    if not words or words[0] not in commands:
        raise ConfigError("After 'fedalign chain' comes one of:\n" + HELP)
    return commands[words[0]](words[1:])


def _keygen(words: Sequence[str]) -> int:
    from consensus.chain import keystore
    from consensus.identity import Key

    parser = _parser("keygen")
    parser.add_argument("file", type=Path)
    parser.add_argument("--passphrase-file", type=Path)
    asked = parser.parse_args(words)
    key = Key(os.urandom(32))
    keystore.save(asked.file, key, _passphrase(asked.passphrase_file))
    print(f"0x{key.node_id.hex()}  {asked.file}")
    return 0


def _up(words: Sequence[str]) -> int:
    from consensus.chain.deployment import FILE, Deployment

    parser = _parser("up")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--passphrase-file", type=Path)
    parser.add_argument("--order", choices=list(FAULTS))
    asked = parser.parse_args(words)
    if (asked.dir / FILE).exists():
        deployment = Deployment.read(asked.dir)
    else:
        secret = _passphrase(asked.passphrase_file)
        deployment = Deployment.create(
            asked.dir, asked.nodes, int(time.time()), passphrase=secret, order=asked.order or "raft"
        )
    if len(deployment.members) != asked.nodes:
        raise ConfigError(
            f"{asked.dir} holds a chain of {len(deployment.members)} servers: --nodes "
            f"{len(deployment.members)}, or another --dir."
        )
    if asked.order not in (None, deployment.order):
        raise ConfigError(
            f"{asked.dir} holds a chain ordered by {deployment.order}: leave out --order, or give "
            "another --dir."
        )
    more = [str(asked.passphrase_file)] if asked.passphrase_file else []
    running = [_start(asked.dir, node, more) for node in range(asked.nodes)]
    signal.signal(signal.SIGTERM, _stop)
    try:
        for node, process in enumerate(running):
            url = process.stdout.readline().strip()
            if not url:
                raise FedalignError(f"Server {node} did not start: {process.stderr.read().strip()}")
            print(f"server {node}  0x{deployment.members[node]}  {url}", flush=True)
        print(FAULTS[deployment.order])
        print("Ctrl-C ends all of them.", flush=True)
        while all(process.poll() is None for process in running):
            time.sleep(0.2)
        ended = next(node for node, p in enumerate(running) if p.poll() is not None)
        raise FedalignError(f"Server {ended} ended: {running[ended].stderr.read().strip()}")
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
        return 0
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _start(folder: Path, node: int, more: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "consensus.chain.process", str(folder), str(node), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # a terminal's Ctrl-C reaches us alone, and we end them in order
    )


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _status(words: Sequence[str]) -> int:
    from consensus.chain.deployment import Deployment

    parser = _parser("status")
    parser.add_argument("--dir", type=Path, required=True)
    deployment = Deployment.read(parser.parse_args(words).dir)
    answering = 0
    for node, member in enumerate(deployment.members):
        try:
            told = ask(deployment.rpc_url(node), "fedalign_status")
        except OSError:
            print(f"server {node}  0x{member}  does not answer at {deployment.rpc_url(node)}")
            continue
        answering += 1
        print(
            f"server {node}  0x{member}  block {told['height']} {told['head'][:18]}  "
            f"{deployment.order} {told['role']} at {told['term']}  hears {len(told['connected'])} "
            f"servers  {told['waiting']} transactions wait{'' if told['ready'] else '  fetching'}"
        )
    print(f"{answering} of {len(deployment.members)} servers answer.")
    return 0 if answering >= deployment.genesis.needs(len(deployment.members)) else 1


def _show(words: Sequence[str]) -> int:
    parser = _parser("show")
    parser.add_argument("round", type=int)
    parser.add_argument("--dir", type=Path, required=True)
    asked = parser.parse_args(words)
    found, height = _kept(asked.dir, asked.round) or _round(asked.dir, asked.round)
    if found is None:
        print(f"Round {asked.round} is not settled; the head is block {height}.")
        return 1
    print(json.dumps({"round": asked.round, **found}, indent=1))
    return 0


def _kept(folder: Path, height: int) -> tuple[Any, int] | None:
    """(the block of a run without an EVM or None, the last block's height), if it is such a run."""
    if not (folder / "chain" / "blocks").is_dir() or _finished(folder) is not None:
        return None
    from consensus.archive import Archive
    from consensus.shown import shown

    archive = Archive(folder / "chain")
    heights = archive.heights()
    return shown(archive.read(height)) if height in heights else None, max(heights, default=0)


def _round(folder: Path, round_: int) -> tuple[Any, int]:
    """(what is kept of a round or None, the head's height): from a finished run's files, or from
    the first server that answers."""
    if (files := _finished(folder)) is not None:
        from consensus.chain import flat
        from consensus.rpc.rounds import RoundMethods

        node = flat.verify(files)
        return RoundMethods(node).round(hex(round_)), node.height
    from consensus.chain.deployment import Deployment

    deployment = Deployment.read(folder)
    for node in range(len(deployment.members)):
        try:
            found = ask(deployment.rpc_url(node), "pofel_getRound", hex(round_))
            return found, int(ask(deployment.rpc_url(node), "eth_blockNumber"), 16)
        except OSError:
            continue
    raise FedalignError(f"No server of {folder} answers: fedalign chain up --dir {folder}.")


def _finished(folder: Path) -> Path | None:
    """The plain files of a finished EVM chain in or below a folder, if there are any."""
    places = (folder, folder / "evm", folder / "chain" / "evm")
    return next((place for place in places if (place / "manifest.json").is_file()), None)


def _serve(words: Sequence[str]) -> int:
    from consensus.chain import flat
    from consensus.rpc.ethereum import EthereumMethods
    from consensus.rpc.jsonrpc import Endpoint
    from consensus.rpc.rounds import RoundMethods
    from consensus.rpc.server import ThreadedServer

    parser = _parser("serve")
    parser.add_argument("dir", type=Path)
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args(words)
    files = _finished(asked.dir)
    if files is None:
        raise ConfigError(
            f"{asked.dir} holds no finished EVM chain: give the folder of a run that ended with "
            "consensus=pofel_evm."
        )
    node = flat.verify(files)
    methods = EthereumMethods(node).methods() | RoundMethods(node).methods()
    signal.signal(signal.SIGTERM, _stop)
    with ThreadedServer(Endpoint(methods), port=asked.port) as server:
        print(f"{node.height} blocks verified; {server.url}  Ctrl-C ends it.", flush=True)
        try:
            while True:
                time.sleep(0.2)
        except KeyboardInterrupt:
            print("Stopped.", flush=True)
    return 0


def ask(url: str, method: str, *params: Any) -> Any:
    """One JSON-RPC request. Raises OSError where nobody answers, FedalignError for a refusal."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
    request = urllib.request.Request(
        url, data=body.encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        told = json.loads(answer.read())
    if "error" in told:
        raise FedalignError(f"{method}: {told['error']['message']}")
    return told["result"]


class _Parser(argparse.ArgumentParser):
    """Refuses with our own error: the command line prints it and ends with 1."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"fedalign chain: {message}. Write:\n{HELP}")


def _parser(name: str) -> argparse.ArgumentParser:
    return _Parser(prog=f"fedalign chain {name}")


def _passphrase(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error

"""The words after `fedalign keys`: authority, certificates and node keys of a Flower deployment."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fedalign.core.errors import ConfigError

HELP = """\
  fedalign keys --dir D --nodes N [--host NAME]...     keys of a SuperLink and N SuperNodes; prints
                                                       the commands that start them
"""
RECIPE = """\
Keys of one SuperLink and {nodes} SuperNodes are in {folder}. Secret ones are readable for you alone:
server.key (the SuperLink's), node_<i> and local_<i>.key (SuperNode i's). Whoever reaches the SuperLink's
port and has ca.crt can hand it runs: keep both inside your own network. On each machine, first:

  export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 OMP_NUM_THREADS=1

1. On the machine of the SuperLink ({host}), with ca.crt, server.crt and server.key:

  flower-superlink --host {listen} --port 8000 --disable-runtime-dependency-installation \\
    --ssl-ca-certfile {folder}/ca.crt --ssl-certfile {folder}/server.crt \\
    --ssl-keyfile {folder}/server.key --enable-supernode-auth

2. Where the study is started: tell `flwr` of it once, and let the nodes in. In ~/.flwr/config.toml:

  [superlink.lan]
  address = "{host}:8000"
  root-certificates = "{folder}/ca.crt"

  for i in $(seq 0 {last}); do flwr supernode register {folder}/node_$i.pub lan; done

3. On the machine of SuperNode i = 0 .. {last}, with ca.crt, node_<i>, local_<i>.crt and local_<i>.key:

  flower-supernode --superlink {host}:8000 --root-certificates {folder}/ca.crt \\
    --auth-supernode-private-key {folder}/node_$i --host 127.0.0.1 --port $((9094 + i)) \\
    --ssl-ca-certfile {folder}/ca.crt --ssl-certfile {folder}/local_$i.crt \\
    --ssl-keyfile {folder}/local_$i.key \\
    --node-config "partition-id=$i num-partitions={nodes} state-dir=\\"$HOME/.fedalign\\""

   state-dir keeps the memories of clients: remove it when no run that used it will be continued.

4. Any study on it; its folder is written by the SuperLink's machine:

  python run_experiment.py scenario=faker runtime=flower runtime.mode=deploy runtime.nodes={nodes} \\
    runtime.superlink={host}:8000 runtime.root_certificates={folder}/ca.crt
"""


def main(words: Sequence[str]) -> int:
    """Make the keys and print the recipe; returns the exit code. Raises FedalignError."""
    asked = _parser().parse_args(words)
    if asked.nodes < 1:
        raise ConfigError(f"--nodes must be 1 or more, got {asked.nodes}.")
    if asked.dir.is_dir() and any(asked.dir.iterdir()):
        raise ConfigError(f"{asked.dir} holds files already: take an empty --dir.")
    from fedalign.federation.runtimes.flower import keys

    folder, hosts = asked.dir.resolve(), asked.host or []
    keys.make(folder, asked.nodes, [*hosts, *(name for name in keys.LOCAL if name not in hosts)])
    where, listen = (hosts[0], "0.0.0.0") if hosts else (keys.LOCAL[1], keys.LOCAL[1])
    facts = {"host": where, "listen": listen, "nodes": asked.nodes, "last": asked.nodes - 1}
    print(RECIPE.format(folder=folder, **facts), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fedalign keys", add_help=False)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--host", action="append")
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise ConfigError(f"'fedalign keys': {message}. It takes:\n{HELP}")

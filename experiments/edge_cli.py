"""The words after `fedalign edge`: an edge server as a process, and the plan that all of them share."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedalign.core.errors import ConfigError

HELP = """\
  fedalign edge plan FILE --hosts HOST:PORT ... [--identities 0x... ...] -- scenario=single ...
                                                what all edge servers of one run share; identities
                                                are what `fedalign chain keygen` prints
  fedalign edge --config FILE --index I         edge server I; ends with the run or with Ctrl-C
      [--key FILE] [--passphrase-file FILE]     its key, where the plan names identities
      [--tls FOLDER]                            mutual TLS: ca.crt, server.crt, server.key there
  fedalign edge record FILE                     the run's folder, from what they left beside FILE
"""


def main(words: Sequence[str]) -> int:
    """Run one of them; returns the exit code. Raises FedalignError."""
    if words and words[0] == "plan":
        return _plan(words[1:])
    if words and words[0] == "record":
        return _record(words[1:])
    if not words or not words[0].startswith("--"):
        raise ConfigError("After 'fedalign edge' comes one of:\n" + HELP)
    parser = _Parser(prog="fedalign edge")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--launched", action="store_true", help="end when standard input closes")
    for name in ("--key", "--passphrase-file", "--tls"):
        parser.add_argument(name, type=Path)
    asked = parser.parse_args(words)
    from experiments import edge

    signal.signal(signal.SIGTERM, _stop)
    more = (asked.key, asked.passphrase_file, asked.tls)
    return edge.run(asked.config.resolve(), asked.index, asked.launched, *more)


def _plan(words: Sequence[str]) -> int:
    parser = _Parser(prog="fedalign edge plan")
    parser.add_argument("file", type=Path)
    parser.add_argument("--hosts", nargs="+", required=True)
    parser.add_argument("--identities", nargs="+", default=[])
    told = list(words)
    split = told.index("--") if "--" in told else len(told)
    asked = parser.parse_args(told[:split])
    from experiments import compose, edge
    from experiments import study as studies

    study = compose.study(told[split + 1 :])
    if len(study.cells) != 1:
        raise ConfigError(f"One run has one plan; these words name {len(study.cells)} runs.")
    config = {**study.cells[0].config, "keep": study.settings["keep"] or "last"}
    consensus = {**config["consensus"]}
    if "processes" in consensus:
        consensus["processes"] = {**consensus["processes"], "identities": asked.identities}
    config["consensus"] = consensus
    _check(config, asked.hosts)
    file = asked.file.resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    edge.write_plan(file, config, [f"tcp:{h}" for h in asked.hosts], studies.describe(study))
    for index, host in enumerate(asked.hosts):
        print(f"on {host}: fedalign edge --config {file.name} --index {index}")
    return 0


def _check(config: dict[str, Any], hosts: Sequence[str]) -> None:
    """Everything that can be refused is refused before anybody copies the plan."""
    from experiments import federation_cell

    if config["consensus"].get("transport") != "processes":
        raise ConfigError(
            "A plan is for edge servers as processes: add consensus.transport=processes."
        )
    edges = config["topology"]["edges"]
    if len(hosts) != edges:
        raise ConfigError(f"topology.edges={edges}, but --hosts names {len(hosts)}.")
    for host in hosts:
        name, _, port = host.rpartition(":")
        if not name or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"A host is HOST:PORT, got '{host}'.")
    federation_cell.validate(config)


def _record(words: Sequence[str]) -> int:
    parser = _Parser(prog="fedalign edge record")
    parser.add_argument("file", type=Path)
    asked = parser.parse_args(words)
    from experiments import recorder

    print(recorder.record(asked.file))
    return 0


class _Parser(argparse.ArgumentParser):
    """Refuses with our own error: the command line prints it and ends with 1."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"fedalign edge: {message}. Write:\n{HELP}")


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt

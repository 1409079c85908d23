"""Measurements as cells of a study: what they return becomes rows of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.run_folder import dump_yaml, write
from fedalign.core.digest import of_data

Config = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


def defenses(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=speed_defenses`: rules against Flower's and ByzFL's."""
    from experiments.benchmarks.defenses import measure

    write_rows(
        measure(config["n"], config["d"], config["repetitions"]), config, folder, environment
    )


def stragglers(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=speed_stragglers`: estimating the missing against averaging everybody."""
    from experiments.benchmarks.stragglers import measure

    asked = (config[key] for key in ("n", "d", "away", "repetitions"))
    write_rows(measure(*asked), config, folder, environment)


def crafting(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=crafting_cost`: what it costs to craft, in proportion to Faker."""
    from experiments.benchmarks.crafting import measure

    rows = measure(config["d"], config["n"], config["m"], config["repetitions"])
    write_rows(rows, config, folder, environment)


def runtime(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=speed_runtime`: overhead of a client-round, local training, whole rounds."""
    from experiments.benchmarks.runtime import measure

    asked = (config[key] for key in ("part", "repetitions", "pfl_python", "cifar_root", "runtimes"))
    write_rows(measure(*asked), config, folder, environment)


def alignment(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=speed_dpo`: federated DPO against trl's trainer."""
    from experiments.benchmarks.alignment import measure

    write_rows(measure(config["steps"], config["repetitions"]), config, folder, environment)


def gpu(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=speed_gpu`: SFT and DPO steps on a GPU against trl."""
    from experiments.benchmarks.gpu import Shape, measure

    shape = Shape(**config["shape"])
    settings = (config["steps"], config["repetitions"], config["peak_tflops"], config["device"])
    write_rows(measure(shape, *settings), config, folder, environment)


def memory(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=memory_dpo`: peak memory against the number of clients."""
    from experiments.benchmarks.memory import measure

    write_rows(measure(config["counts"]), config, folder, environment)


def games(config: Config, folder: Path, environment: Config) -> None:
    """`scenario=speed_games`: equilibria against cvxpy."""
    from experiments.benchmarks.games import measure

    rows = measure(*(config[key] for key in ("n", "sample", "stacked", "repetitions")))
    write_rows(rows, config, folder, environment)


def write_rows(rows: Rows, config: Config, folder: Path, environment: Config) -> None:
    """The folder of a finished measurement: rows.json is what the report shows, digest.txt last."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "config.yaml", dump_yaml(config))
    write(folder / "environment.json", json.dumps(environment, indent=1, sort_keys=True) + "\n")
    write(folder / "rows.json", json.dumps(list(rows), indent=1) + "\n")
    write(folder / "digest.txt", of_data([str(config)]) + "\n")

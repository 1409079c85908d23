"""Rounds through Flower's Ray simulation, with Flower's own FedAvg and client app."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

Train = Callable[[int, Sequence[np.ndarray]], Sequence[np.ndarray]]  # client, model -> model


def seconds_per_client_round(clients: int, parameters: int, rounds: int = 4) -> float:
    """Of work that trains nothing: clients send back what they have received."""
    start = [np.zeros(parameters, dtype=np.float32)]
    return _seconds(clients, start, None, rounds) / clients


def seconds_per_round(
    clients: int, start: Sequence[np.ndarray], train: Train, rounds: int = 4
) -> float:
    """start: the initial model, one array per tensor. train: what a client does, picklable."""
    return _seconds(clients, start, train, rounds)


def _seconds(clients: int, start: Sequence[np.ndarray], work: Train | None, rounds: int) -> float:
    """Mean over rounds 2 .. `rounds` (>= 2); the first starts the actors."""
    for name, value in {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }.items():
        os.environ.setdefault(name, value)
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    client, server, marks = ClientApp(), ServerApp(), []

    @client.train()
    def train(message, context):
        arrays = message.content["arrays"]
        if work is not None:
            place = int(context.node_config["partition-id"])
            arrays = ArrayRecord(list(work(place, arrays.to_numpy_ndarrays())))
        content = {"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}
        return Message(content=RecordDict(content), reply_to=message)

    class Timed(FedAvg):
        def aggregate_train(self, server_round, replies):
            result = super().aggregate_train(server_round, replies)
            marks.append(perf_counter())
            return result

    @server.main()
    def main(grid, context):
        strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=clients)
        strategy.start(grid=grid, initial_arrays=ArrayRecord(list(start)), num_rounds=rounds)

    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=clients,
        backend_config={
            "client_resources": {"num_cpus": 1.0, "num_gpus": 0.0},
            "init_args": {
                "include_dashboard": False,
                "num_cpus": 2,
                "logging_level": "error",
                "log_to_driver": False,
            },
        },
    )
    return (marks[-1] - marks[0]) / (len(marks) - 1)

"""Handwritten digits, softmax regression, a third of the clients lying, Krum against them.

Only the lines marked (fedalign) are not plain Flower.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy
from sklearn.datasets import load_digits
from torch import Tensor, nn

from attacks.sign_flip import SignFlip
from defenses.krum import Krum
from fedalign.federation.runtimes.flower.mods import Malicious
from fedalign.federation.runtimes.flower.strategy import Defended


def make_client(mods: Sequence[Mod] = ()) -> ClientApp:
    """Five steps of gradient descent on the client's own digits."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        number, parts = context.node_config["partition-id"], context.node_config["num-partitions"]
        inputs, labels = _digits("train")
        inputs, labels = inputs[number::parts], labels[number::parts]
        model = nn.Linear(64, 10)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
        metrics = {"num-examples": len(labels), "loss": loss.item()}
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
        return Message(RecordDict(content), reply_to=message)

    return app


def make_server(strategy: Strategy, rounds: int, results: list[Result] | None = None) -> ServerApp:
    """Plays `rounds` rounds from a model of zeros; the result is appended to `results`."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        zeros = {"weight": torch.zeros(10, 64), "bias": torch.zeros(10)}
        result = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(zeros),
            num_rounds=rounds,
            evaluate_fn=lambda _, arrays: MetricRecord({"accuracy": accuracy(arrays)}),
        )
        if results is not None:
            results.append(result)

    return app


def accuracy(arrays: ArrayRecord) -> float:
    """Share of the held-out digits that a model names rightly."""
    inputs, labels = _digits("test")
    state = arrays.to_torch_state_dict()
    guesses = (inputs @ state["weight"].T + state["bias"]).argmax(dim=1)
    return float((guesses == labels).float().mean())


@cache
def _digits(split: str) -> tuple[Tensor, Tensor]:
    data = load_digits()
    chosen = np.random.default_rng(0).permutation(len(data.target))
    chosen = chosen[:1500] if split == "train" else chosen[1500:]
    inputs = torch.from_numpy(data.data[chosen].astype(np.float32) / 16)
    return inputs, torch.from_numpy(data.target[chosen])


rule = Defended(Krum(byzantine_count=3), fraction_evaluate=0.0, min_train_nodes=9)  # (fedalign)
client = make_client([Malicious(SignFlip(scale=5.0), members={0, 3, 6})])  # (fedalign)
server = make_server(rule, rounds=5)

if __name__ == "__main__":
    from fedalign.federation.runtimes.flower.apps import run_local

    run_local(server, client, nodes=9)

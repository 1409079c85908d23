"""A round of pfl-research at a time, for another process: the interpreter that has `pfl` runs this
file, so it imports nothing of ours. One JSON object comes in, then a word per line.

`round` plays a round and answers {"wall": s, "cpu": s}; `model` answers the path of an .npz with
the parameters by name; `stop` ends. Several processes of one job share rounds as pfl does, by
torch.distributed with the environment of torchrun.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter, process_time

import numpy as np
import torch
from torch import nn


class Idle(nn.Module):
    """So many parameters, nothing to learn."""

    def __init__(self, parameters: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(parameters))

    def loss(self, x, y):
        return self.weights.sum() * 0


class Network(nn.Module):
    """The CIFAR-10 network of pfl's own benchmarks; parameters keep their place in `layers`."""

    def __init__(self, rates):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Dropout(rates[0]), nn.Flatten(), nn.Linear(12544, 128), nn.ReLU(),
            nn.Dropout(rates[1]), nn.Linear(128, 10),
        )  # fmt: skip

    def loss(self, x, y):
        return nn.functional.cross_entropy(self.layers(x), y)


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    torch.set_num_threads(1)
    play, model = _federation(asked)
    print(json.dumps({"ready": True}), flush=True)
    for word in sys.stdin:
        if word.strip() == "stop":
            return
        if word.strip() == "model":
            named = {name: p.detach().numpy() for name, p in model.named_parameters()}
            np.savez(asked["answer"], **named)
            print(json.dumps({"model": asked["answer"]}), flush=True)
            continue
        wall, cpu = perf_counter(), process_time()
        play()
        taken = {"wall": perf_counter() - wall, "cpu": process_time() - cpu}
        print(json.dumps(taken), flush=True)


def _federation(asked):
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    module, users = _problem(asked)
    module.metrics = lambda x, y: {}
    held = [PyTorchTensorDataset(user) for user in users]
    turn = iter(())

    def sampler():  # everybody once per round, in order
        nonlocal turn
        try:
            return next(turn)
        except StopIteration:
            turn = iter(range(len(held)))
            return next(turn)

    data = FederatedDataset(lambda user: held[user], sampler)
    backend = SimulatedBackend(data, data)
    model = PyTorchModel(
        module, torch.optim.SGD, torch.optim.SGD(module.parameters(), asked["server_lr"])
    )
    rounds = NNAlgorithmParams(1, 1_000_000, len(held), None)
    train = NNTrainHyperParams(
        local_num_epochs=asked["epochs"], local_learning_rate=asked["lr"],
        local_batch_size=asked["batch"],
    )  # fmt: skip

    def play() -> None:
        algorithm = _Unevaluated()
        algorithm.run(algorithm_params=rounds, backend=backend, model=model,
                      model_train_params=train, model_eval_params=NNEvalHyperParams(None),
                      callbacks=[], send_metrics_to_platform=False)  # fmt: skip

    class _Unevaluated(FederatedAveraging):
        def get_next_central_contexts(self, *arguments, **named):
            from dataclasses import replace

            contexts, *rest = super().get_next_central_contexts(*arguments, **named)
            if contexts is not None:  # round 0 would evaluate
                contexts = tuple(replace(context, do_evaluation=False) for context in contexts)
            return (contexts, *rest)

    return play, module


def _problem(asked):
    """Module and the tensors of every user."""
    if asked["kind"] == "noop":
        user = (torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
        return Idle(asked["parameters"]), [user] * asked["clients"]
    module = Network(asked["dropout"])
    with np.load(asked["problem"]) as file:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(torch.from_numpy(file[name]))
        inputs, labels = torch.from_numpy(file["inputs"]), torch.from_numpy(file["labels"])
        parts = [torch.from_numpy(file[f"part{i}"]) for i in range(asked["clients"])]
    return module, [(inputs[part], labels[part]) for part in parts]


if __name__ == "__main__":
    main()

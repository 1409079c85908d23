"""Any attack that knows only its own rows as a Flower client mod, in three lines of any app:

from attacks.sign_flip import SignFlip
from fedalign.federation.runtimes.flower.mods import Malicious
app = ClientApp(mods=[Malicious(SignFlip(), members={0, 3})])
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from fedalign.core import memory
from fedalign.core.contracts import DataAttack, Memory, UpdateAttack
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.core.threat import Family, Knowledge, Space, View
from fedalign.federation.runtimes.flower.records import alike, filled, flatten

_MODELS, _MEMORY = "fedalign.models", "fedalign.attack"


@dataclass(frozen=True)
class Malicious:
    """Replaces what controlled clients send after training; everybody else is left alone.

    attack: declares knowledge of its own rows alone, since a client sees no others. members: the
    `partition-id`s that the attacker controls. start: first attacked round (>= 1). seed: of the
    attack's randomness, addressed by round and client. space, family: what the attack assumes of
    the rule. The round is the config's `server-round`; memory lives in the context's state.
    """

    attack: UpdateAttack
    members: Collection[int]
    start: int = 1
    seed: int = 0
    space: Space = "update"
    family: Family = "other"

    def __post_init__(self) -> None:
        if isinstance(self.attack, DataAttack):
            raise ConfigError(
                f"{type(self.attack).__name__} poisons data, which no mod can reach: call its "
                "poison(dataset, rng, member) where the ClientApp loads its data."
            )
        if not isinstance(self.attack, UpdateAttack) or self.attack.knowledge != Knowledge.OWN:
            raise ConfigError(
                f"{type(self.attack).__name__} cannot run inside a client, which sees no rows but "
                "its own: take an attack of Knowledge.OWN (sign_flip, gaussian, zero ...), or "
                "attack=... of run_experiment.py, where the attacker is its own part."
            )

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type.split(".")[0] != "train" or not message.has_content():
            return call_next(message, context)
        if int(context.node_config["partition-id"]) not in self.members:
            return call_next(message, context)
        sent = next(iter(message.content.array_records.values()))
        config = next(iter(message.content.config_records.values()), {})
        round = int(config.get("server-round", 1))
        model = flatten(sent)
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        name, trained = next(iter(reply.content.array_records.items()))
        if not alike(sent, trained):
            raise ConfigError("The client answered with other arrays than it was sent.")
        initial, past = self._seen(context, model)
        if round >= self.start:
            row = self._craft(context, round, model, flatten(trained) - model, initial, past)
            reply.content[name] = filled(trained, model + row)
        return reply

    def _craft(
        self, context: Context, round: int, model: Tensor, own: Tensor, initial: Tensor,
        past: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """The row (d,) that is sent as an update."""
        client = int(context.node_config["partition-id"])
        view = View(
            round=round,
            clients=int(context.node_config.get("num-partitions", 1)),
            own=own[None],
            model=model,
            initial=initial,
            past=past,
            space=self.space,
            family=self.family,
            rng=Seeds(self.seed).at("attack", round=round, client=client),
            memory=_remembered(context),
        )
        crafted = self.attack(view)
        _remember(context, crafted.memory)
        return crafted.rows[0].to(own.dtype)

    @staticmethod
    def _seen(context: Context, model: Tensor) -> tuple[Tensor, Tensor | None]:
        """The first model this client saw, and the one before this round's."""
        known = context.state.get(_MODELS)
        past = None if known is None else torch.from_numpy(known["past"].numpy())
        initial = model if known is None else torch.from_numpy(known["initial"].numpy())
        context.state[_MODELS] = ArrayRecord(
            {"initial": Array(initial.numpy()), "past": Array(model.numpy())}
        )
        return initial, past


def _remembered(context: Context) -> Memory:
    if _MEMORY not in context.state:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attack"
        path.write_bytes(context.state[_MEMORY]["memory"])
        return memory.read(path)


def _remember(context: Context, content: Memory) -> None:
    if not content:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attack"
        memory.write(path, content)
        context.state[_MEMORY] = ConfigRecord({"memory": path.read_bytes()})

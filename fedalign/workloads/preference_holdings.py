"""Whose preference pairs are whose: clients', attackers' poisoned ones, the server's, the test's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fedalign.core.contracts import ROOT, ClientInfo, DataAttack
from fedalign.core.errors import ConfigError
from fedalign.core.preferences import PreferenceAttack, Preferences
from fedalign.core.seeds import Seeds
from fedalign.data.annotator import Annotator, Pool, annotate
from fedalign.data.graded_facts import WEIGHTS
from fedalign.data.graded_preferences import GradedFacts, Split

TEST = ROOT - 1  # the "client" that holds the test pairs


@dataclass(frozen=True)
class Owners:
    """partition: cuts the pool by topic. attackers: client ids whose data `attack` also poisons."""

    partition: Any
    clients: int
    attackers: Sequence[int] = ()
    attack: DataAttack | None = None


class PreferenceHoldings:
    """pairs: (client, whether poisoned) -> Preferences on the device; ROOT is the server, TEST the
    held-out pairs, both labelled by the gold weights. triggered: what the attack wants reported.
    """

    def __init__(
        self,
        data: GradedFacts,
        owners: Owners,
        seeds: Seeds,
        device: torch.device,
        pool: Callable[[Split, int], Pool],
    ):
        attack = owners.attack
        if attack is not None and not isinstance(attack, PreferenceAttack):
            raise ConfigError(
                f"{type(attack).__name__} poisons labelled inputs and this workload has preference "
                "pairs: take attack=preference_flip, or an attack on updates."
            )
        self._data, self._seeds, self._device = data, seeds, device
        everything = pool("train", data.pairs)
        labels = data.topics(everything.prompts)
        parts = owners.partition(labels, owners.clients, seeds.at("partition"))
        if empty := [client for client, part in enumerate(parts) if len(part) == 0]:
            raise ConfigError(
                f"Client {empty[0]} got none of the {len(everything)} pairs: raise data.pairs or "
                "lower clients."
            )
        self.pairs: dict[tuple[int, bool], Preferences] = {}
        for client, part in enumerate(parts):
            self._client(client, everything.take(part), owners)
        self.pairs[ROOT, False] = self._gold(ROOT, pool("public", data.root_samples))
        self.pairs[TEST, False] = self._gold(TEST, pool("eval", data.held_out))
        self.triggered = None if attack is None else attack.triggered(self.pairs[TEST, False])
        topics = data.world.entities if data.topic == "entity" else data.world.longest
        self.clients = [
            ClientInfo(c, len(p), tuple(np.bincount(labels[p], minlength=topics).tolist()))
            for c, p in enumerate(parts)
        ]

    def values(self, client: int) -> np.ndarray:
        """(5,), what a client thinks attributes are worth; the gold weights for the server."""
        if client < 0:
            return np.array(WEIGHTS)
        return self._data.annotator.weights(client, self._seeds.at("values", client=client))

    def _client(self, client: int, pool: Pool, owners: Owners) -> None:
        rng = self._seeds.at("annotator", client=client)
        values, annotator = self.values(client), self._data.annotator.of(client)
        own = annotate(self._data.world, pool, annotator, values, rng)
        self.pairs[client, False] = there(own, self._device)
        if owners.attack is not None and client in owners.attackers:
            member = list(owners.attackers).index(client)
            rng = self._seeds.at("poison", client=client)
            self.pairs[client, True] = there(owners.attack.poison(own, rng, member), self._device)

    def _gold(self, owner: int, pool: Pool) -> Preferences:
        """Labels of an annotator with the gold weights and no errors of its own."""
        clean, rng = Annotator(self._data.annotator.temperature), self._seeds
        labels = annotate(self._data.world, pool, clean, WEIGHTS, rng.at("annotator", client=owner))
        return there(labels, self._device)


def there(pairs: Preferences, device: torch.device) -> Preferences:
    """Pairs on another device."""
    names = ("chosen", "rejected", "scores", "strength", "topics", "flipped")
    return replace(pairs, **{name: getattr(pairs, name).to(device) for name in names})

"""Randomness that is addressed, never consumed: the number for this purpose, round and client.

The order in which workers finish cannot change a result, because nobody draws from a shared
stream. Generators are Philox (counter based); NumPy keeps its streams stable across versions.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

_TORCHS_OWN = threading.RLock()  # one generator per process: threads take turns


@dataclass(frozen=True)
class Seeds:
    """All randomness of one run.

    seed: any integer. Two runs with the same seed draw the same numbers at the same addresses.
    """

    seed: int

    def key(self, purpose: str, **address: int | str) -> bytes:
        """32 bytes for one address, e.g. `key("server_secret")`."""
        where = ",".join(f"{name}={address[name]}" for name in sorted(address))
        return hashlib.sha256(f"fedalign/1|{self.seed}|{purpose}|{where}".encode()).digest()

    def at(self, purpose: str, **address: int | str) -> np.random.Generator:
        """The generator at one address, e.g. `at("batch_order", round=3, client=7)`."""
        return generator(self.key(purpose, **address))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What torch draws inside, as modules do when they are built, follows from `seed` alone, in
    any thread; afterwards its generator is as it was. seed: below 2^63."""
    with _TORCHS_OWN, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def generator(key: bytes) -> np.random.Generator:
    """A Philox generator from the first 16 bytes of `key`."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "big")))


def derive(secret: bytes, *address: int | str) -> np.random.Generator:
    """The generator a holder of `secret` re-derives for an address: how a draw is checked later."""
    return generator(hashlib.sha256(secret + "|".join(map(str, address)).encode()).digest())

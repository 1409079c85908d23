"""Settings: what all servers of a chain agree on before its first block.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023; what the paper leaves open is a field here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from consensus.identity import NODE_ID_BYTES
from consensus.pofel.btsv import Btsv
from consensus.pofel.history import History
from consensus.pofel.rewards import RewardRule
from consensus.pofel.tally import Fairness
from fedalign.core.errors import ConfigError


def tolerated(servers: int, faults: Literal["byzantine", "crash"]) -> int:
    """f: below a third where servers may lie, below a half where they only stop."""
    return (servers - 1) // (3 if faults == "byzantine" else 2)


@dataclass(frozen=True)
class Timeouts:
    """Milliseconds a phase may take, each > 0: training, commit, reveal, availability, evaluation,
    vote, block (doubled with every rank up to the sixth).

    min_phase_ms: where servers may lie about the order, the least time before a phase may end for
    lack of it: 2 delays + (f + 2) heights of the order, > 0 and at most the shortest time-out (but
    for training and evaluation, which come on top); None: that one.
    """

    train_ms: int = 60_000
    commit_ms: int = 10_000
    reveal_ms: int = 10_000
    avail_ms: int = 20_000
    evaluate_ms: int = 10_000
    vote_ms: int = 5_000
    block_ms: int = 5_000
    min_phase_ms: int | None = None

    def __post_init__(self) -> None:
        if min(value for value in vars(self).values() if value is not None) <= 0:
            raise ConfigError(f"Timeouts are above 0 ms, got {vars(self)}.")
        if self.least_ms > self._shortest_ms:
            raise ConfigError(
                f"min_phase_ms={self.min_phase_ms} is above the shortest time-out, "
                f"{self._shortest_ms} ms: honest servers would end phases that others still refuse "
                "to end. Lower it, or raise the time-outs."
            )

    @property
    def least_ms(self) -> int:
        """The least time of a phase."""
        return self._shortest_ms if self.min_phase_ms is None else self.min_phase_ms

    @property
    def _shortest_ms(self) -> int:
        return min(self.commit_ms, self.reveal_ms, self.avail_ms, self.vote_ms, self.block_ms)

    def block(self, rank: int) -> int:
        """How long the author of this rank may take."""
        return self.block_ms << min(rank, 6)


@dataclass(frozen=True)
class Settings:
    """chain_id: u64. members: distinct 20-byte ids, their order counts; 2 .. 128 of them (a claim
    about liars needs 4). faults: which f is tolerated. floor_ppm: least share in a prediction.
    commit_votes: votes are hidden until all are in. self_votes: a server may vote for itself.
    exile: blocks an equivocator stays out, >= 1. size_cap: sample counts above this multiple of
    the lower median count as that much, 0 for no cap. max_model_bytes: > 0. scale: s of round 1.
    head, head_time_s: hash and time of the genesis block.
    """

    chain_id: int
    members: tuple[bytes, ...]
    faults: Literal["byzantine", "crash"] = "byzantine"
    btsv: Btsv = Btsv()
    history: History = History()
    fairness: Fairness = Fairness()
    rewards: RewardRule = RewardRule()
    timeouts: Timeouts = Timeouts()
    floor_ppm: int = 1000
    commit_votes: bool = True
    self_votes: bool = True
    exile: int = 3
    size_cap: int = 0
    max_model_bytes: int = 1 << 34
    scale: int = 16
    head: bytes = bytes(32)
    head_time_s: int = 0

    def __post_init__(self) -> None:
        n = len(self.members)
        if not 2 <= n <= 128 or len(set(self.members)) != n:
            raise ConfigError(f"A chain takes 2 .. 128 distinct servers, got {n}.")
        if any(len(node) != NODE_ID_BYTES for node in self.members):
            raise ConfigError("Every member is a 20-byte node id.")
        if not 0 <= self.chain_id < 2**64 or not 0 <= self.scale <= 40 or len(self.head) != 32:
            raise ConfigError("A chain needs a 64-bit id, a scale of 0 .. 40 and a 32-byte head.")
        if self.faults not in ("byzantine", "crash"):
            raise ConfigError(f"faults is 'byzantine' or 'crash', got '{self.faults}'.")
        if not 0 < self.floor_ppm * n <= 1_000_000:
            raise ConfigError(
                f"floor_ppm times {n} servers must be 1 .. 1000000 (default 1000), got "
                f"{self.floor_ppm}."
            )
        if self.exile < 1 or self.size_cap < 0 or self.max_model_bytes < 1:
            raise ConfigError("A chain needs exile >= 1, size_cap >= 0 and max_model_bytes >= 1.")
        longest = n - 2 * tolerated(n, self.faults) - 1
        if self.fairness.kind == "cooldown" and self.fairness.cooldown > longest:
            raise ConfigError(
                f"With {n} servers a cooldown of {self.fairness.cooldown} leaders may leave no "
                f"candidate: at most {longest} (n - 2f - 1)."
            )

"""BftConfig: the knobs of one BFT server, with their units and ranges.

Paper: Buchman, Kwon and Milosevic, arXiv 1807.04938, Section 3 (time-outs grow with the round).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class BftConfig:
    """How long a server waits and how much it takes.

    propose_tick: wait for a round's proposal (>= 1). vote_tick: wait for more votes once a quorum
    voted without agreeing (>= 1). growth_tick: added to both for every round (>= 1, or slow
    networks never agree). resend_tick: ticks without progress before all is said again (>= 1).
    max_batch_bytes, max_batch_items: of one height (>= 1; a larger single item still travels).
    max_pool_bytes, max_pool_items: what waits to be ordered before more is refused (>= 1).
    keep_heights: decisions kept for servers that fell behind (>= 1).
    """

    propose_tick: int = 6
    vote_tick: int = 3
    growth_tick: int = 2
    resend_tick: int = 6
    max_batch_bytes: int = 1 << 20
    max_batch_items: int = 4096
    max_pool_bytes: int = 64 << 20
    max_pool_items: int = 100_000
    keep_heights: int = 1000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ConfigError(f"{field.name} must be at least 1, got {value}.")

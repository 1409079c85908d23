"""Transport: where a chain's servers are: all in this process, or each in a process of its own.

Paper: none; our derivation (the same servers, orderings and machines behind either).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from consensus.actions import Action
from consensus.costs import Ledger
from consensus.group import Group
from consensus.identity import NODE_ID_BYTES
from consensus.network.simulated import SimulatedNetwork
from consensus.ordering import BftOrdering, Ordering, RaftOrdering
from consensus.pofel.messages import Entry, Final
from consensus.server import Server
from fedalign.core.contracts import Context, Updates
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds

if TYPE_CHECKING:
    from consensus.protocol import Chain

Transport = Literal["simulated", "processes"]


@dataclass(frozen=True)
class Processes:
    """Of servers in processes of their own.

    restarts: how often one that ended is started again, >= 0. wait_s: how long all wait for a
    quorum to return before they end, to be continued, > 0. identities: the servers' addresses
    (20 bytes, hexadecimal), each of whose keys only its server has; none: keys from the seed.
    """

    restarts: int = 3
    wait_s: float = 600.0
    identities: Sequence[str] = ()

    @property
    def nodes(self) -> tuple[bytes, ...]:
        """The identities as bytes."""
        return tuple(bytes.fromhex(name.removeprefix("0x")) for name in self.identities)

    def __post_init__(self) -> None:
        try:
            wrong = [node for node in self.nodes if len(node) != NODE_ID_BYTES]
        except ValueError:
            wrong = list(self.identities)
        if wrong or len(set(self.nodes)) != len(self.nodes):
            raise ConfigError(
                "identities are distinct addresses of 20 bytes in hexadecimal, as `fedalign chain "
                f"keygen` prints them; got {list(self.identities)}."
            )
        if self.restarts < 0 or self.wait_s <= 0:
            raise ConfigError(
                "Server processes need restarts >= 0 and wait_s > 0, got "
                f"{self.restarts} and {self.wait_s}."
            )


class Round(Protocol):
    """One height being agreed on. hosts: of the servers in this process."""

    hosts: Sequence[Any]

    def elect(self, limit_s: float) -> None: ...

    def begin(self, starts: Sequence[Callable[[Server], list[Action]]]) -> None: ...

    def finish(self, needs: int, limit_s: float, watch: Callable[[], None]) -> None: ...


class Wire(Protocol):
    """What a chain needs to know of where its servers are."""

    def round(self, chain: Chain, ledger: Ledger) -> Round:
        """The next height."""

    def asked(self, proposals: Updates, context: Context) -> tuple[Updates, Context]:
        """Who is asked, and about what: also servers whose rows this process does not know."""

    def words(self, chain: Chain, told: bytes) -> tuple[Entry, ...]:
        """The servers' signatures under the closing block."""


class Simulated:
    """All servers in this process, over a simulated network."""

    def round(self, chain: Chain, ledger: Ledger) -> Group:
        """A drained network and a new order for every height, so that a run can be continued."""
        seeds, height = Seeds(chain.seed or 0), chain.state.height + 1
        network = SimulatedNetwork(seeds.at("network", height=height), chain.link, chain.links)
        ordering = Seeds(int.from_bytes(seeds.key("ordering", height=height)[:8], "big"))
        return Group(
            chain.members, chain.ordering, network, ordering, ledger, chain.down, chain.cut,
            chain.heal_ms,
        )  # fmt: skip

    def asked(self, proposals: Updates, context: Context) -> tuple[Updates, Context]:
        return proposals, context

    def words(self, chain: Chain, told: bytes) -> tuple[Entry, ...]:
        there = [server for server in chain.members if server.index not in chain.down]
        return tuple(signed(chain, server, told) for server in there)


def check(transport: str, ordering: Ordering, processes: Processes, servers: int) -> None:
    """Raise ConfigError where a transport does not exist, or cannot carry this order."""
    given = len(processes.identities)
    if given and (transport != "processes" or given != servers):
        raise ConfigError(
            f"identities are of servers with keys of their own: one for each of {servers}, with "
            f"consensus.transport=processes; got {given} with {transport}."
        )
    if transport not in get_args(Transport):
        raise ConfigError(
            f"consensus.transport is one of {', '.join(get_args(Transport))}; got {transport!r}."
        )
    if transport == "processes" and not isinstance(ordering, BftOrdering | RaftOrdering):
        raise ConfigError(
            f"consensus.transport=processes runs Raft and BFT orders, not a "
            f"{type(ordering).__name__}: take consensus=pofel, pofel_raft or raft, or "
            "consensus.transport=simulated."
        )


def signed(chain: Chain, server: Server, told: bytes) -> Entry:
    """A server's word that this is how the run ended."""
    return Entry.sign(server.key, chain.chain_id, chain.state.round, Final(0, told))

"""Transport: where a chain's servers are: all in this process, or each in a process of its own.

Paper: none; our derivation (the same servers, orderings and machines behind either).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from consensus.actions import Action
from consensus.costs import Ledger
from consensus.group import Group
from consensus.identity import NODE_ID_BYTES
from consensus.network.simulated import SimulatedNetwork
from consensus.ordering import BftOrdering, RaftOrdering
from consensus.pofel.messages import Entry, Final
from consensus.server import Server
from fedalign.core.contracts import Context, Updates
from fedalign.core.errors import ConfigError, QuorumLostError
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


@dataclass(frozen=True)
class Outage:
    """Servers that are away in a simulation. servers: positions. first, last: heights, 1 <= first
    <= last. Where those that are left are no quorum, the height waits until all have returned.
    lasts_s: simulated seconds until then, > 0."""

    servers: Sequence[int]
    first: int
    last: int
    lasts_s: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last or self.lasts_s <= 0:
            raise ConfigError(
                "An outage needs heights 1 <= first <= last and lasts_s > 0, got "
                f"{self.first}, {self.last} and {self.lasts_s}."
            )


class Round(Protocol):
    """One height being agreed on. hosts: of the servers in this process."""

    hosts: Sequence[Any]

    def elect(self, limit_s: float) -> None: ...

    def begin(self, starts: Sequence[Callable[[Server], list[Action]]]) -> None: ...

    def finish(self, needs: int, limit_s: float, watch: Callable[[], None]) -> None: ...


class Wire(Protocol):
    """What a chain needs to know of where its servers are. paused: sentences about waiting for a
    quorum in the last round."""

    paused: tuple[str, ...]

    def round(self, chain: Chain, ledger: Ledger) -> Round:
        """The next height."""

    def asked(self, proposals: Updates, context: Context) -> tuple[Updates, Context]:
        """Who is asked, and about what: also servers whose rows this process does not know."""

    def words(self, chain: Chain, told: bytes) -> tuple[Entry, ...]:
        """The servers' signatures under the closing block."""


class Simulated:
    """All servers in this process, over a simulated network."""

    paused: tuple[str, ...] = ()

    def round(self, chain: Chain, ledger: Ledger) -> Group:
        """A drained network and a new order for every height, so that a run can be continued."""
        seeds, height = Seeds(chain.seed or 0), chain.state.height + 1
        network = SimulatedNetwork(seeds.at("network", height=height), chain.link, chain.links)
        ordering = Seeds(int.from_bytes(seeds.key("ordering", height=height)[:8], "big"))
        away = [outage for outage in chain.outages if outage.first <= height <= outage.last]
        down = {*chain.down, *(server for outage in away for server in outage.servers)}
        self.paused, needs = (), chain.state.quorum(chain.settings)
        if away and chain.servers - len(down) < needs:
            wait_s = max(outage.lasts_s for outage in away)
            self.paused = (_paused(chain, down, needs, wait_s),)
            ledger.lasted("paused", wait_s)
            down = set(chain.down)
        return Group(
            chain.members, chain.ordering, network, ordering, ledger, sorted(down), chain.cut,
            chain.heal_ms,
        )  # fmt: skip

    def asked(self, proposals: Updates, context: Context) -> tuple[Updates, Context]:
        return proposals, context

    def words(self, chain: Chain, told: bytes) -> tuple[Entry, ...]:
        there = [server for server in chain.members if server.index not in chain.down]
        return tuple(signed(chain, server, told) for server in there)


def _paused(chain: Chain, down: Collection[int], needs: int, wait_s: float) -> str:
    """What is said of a wait; raises QuorumLostError where it is too long for the run."""
    there, gone = chain.servers - len(down), ", ".join(map(str, sorted(down)))
    lost = f"{there} of {chain.servers} edge servers are there, {needs} must be: {gone} missing"
    if wait_s > chain.processes.wait_s:
        raise QuorumLostError(
            f"{lost}, and nobody came back in {chain.processes.wait_s:g} simulated seconds: the run "
            "ends here and can be continued."
        )
    return f"{lost}. The run waited {wait_s:g} simulated seconds for them."


def check(chain: Chain) -> None:
    """Raise ConfigError where a transport does not exist, or cannot do what the chain asks for."""
    transport, given, n = chain.transport, len(chain.processes.identities), chain.servers
    if transport not in get_args(Transport):
        raise ConfigError(
            f"consensus.transport is one of {', '.join(get_args(Transport))}; got {transport!r}."
        )
    if given and (transport != "processes" or given != n):
        raise ConfigError(
            f"identities are of servers with keys of their own: one for each of {n}, with "
            f"consensus.transport=processes; got {given} with {transport}."
        )
    if transport == "processes" and not isinstance(chain.ordering, BftOrdering | RaftOrdering):
        raise ConfigError(
            f"consensus.transport=processes runs Raft and BFT orders, not a "
            f"{type(chain.ordering).__name__}: take consensus=pofel, pofel_raft or raft, or "
            "consensus.transport=simulated."
        )
    for outage in chain.outages:
        if not outage.servers or not set(outage.servers) <= set(range(n)):
            raise ConfigError(f"An outage is of servers 0 .. {n - 1}, got {list(outage.servers)}.")


def signed(chain: Chain, server: Server, told: bytes) -> Entry:
    """A server's word that this is how the run ended."""
    return Entry.sign(server.key, chain.chain_id, chain.state.round, Final(0, told))

"""Deployed: edge servers that agree, each in a process of its own.

`Deployed` is the consensus of one of these processes: it brings its own row and learns of the
others' from the chain. `Observed` is that of whoever only watches: it replays what they sealed.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (no server in the middle); pausing without a
quorum is our derivation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from consensus.actions import Action
from consensus.archive import Record
from consensus.audit import replay
from consensus.costs import Ledger
from consensus.encoding import unpack
from consensus.identity import Key
from consensus.pofel.messages import Entry
from consensus.pofel.state import State
from consensus.pofel.task import Evaluated, Task
from consensus.protocol import Chain, Faulty
from consensus.seat import Seat, Tls
from consensus.server import Server
from consensus.transport import signed
from fedalign.core.agreement import Audited, Cost, Question, Sealed, SealedBlock, Verdict
from fedalign.core.contracts import Context, Defense, Updates
from fedalign.core.errors import ConfigError, DataError, IntegrityError, QuorumLostError

GRACE_S = 2.0  # a connection may break and come back without a word
Tell = Callable[[str, str], None]  # (what happened, a sentence)


class Deployed:
    """The consensus of server `index`; one row at most is proposed here, its own.

    chain: as configured. addresses: of all servers, "unix:PATH" or "tcp:HOST:PORT". tell: called
    with "paused" and "resumed". key: its own, None takes the one from the seed. tls: contexts
    (server, client) as of `mutual`, or None.
    """

    def __init__(
        self,
        chain: Chain,
        index: int,
        addresses: Mapping[int, str],
        tell: Tell,
        key: Key | None = None,
        tls: Tls | None = None,
    ):
        self.chain, self.index, self.tell, self._tls = chain, index, tell, tls
        server = chain.members[index]
        server.key = key or server.key
        wanted = chain.settings.members[index]
        if server.key.node_id != wanted:
            raise ConfigError(
                f"Server {index} is 0x{wanted.hex()}, but this key is of "
                f"0x{server.key.node_id.hex()}: give the key file of that server."
            )
        self._addresses, chain.wire = addresses, self
        self._lonely_s: float | None = None  # since when there is no quorum
        self._paused = False
        self.paused: tuple[str, ...] = ()
        self.adopted = False  # whether the last block had to be fetched from the others
        self.seat: Seat | None = None
        self.begins = b""  # digest of the model that the round began with

    @property
    def faults(self) -> Sequence[Faulty]:
        return self.chain.faults

    def open(self, folder: Path | None, height: int | None = None) -> SealedBlock | None:
        """As `Chain.open`; then this server takes part in the network."""
        last = self.chain.open(folder, height)
        server = self.chain.members[self.index]
        self.seat = Seat(server, self.chain.ordering, self._addresses, folder, self._tls)
        self.seat.open()
        return last

    def agree(
        self, proposals: Updates, rule: Defense, context: Context, sealed: Sealed = Sealed()
    ) -> Verdict:
        """One final round with the others; waits where too few of them are there. Raises
        QuorumLostError when they do not come back."""
        self.paused = ()
        self.begins = sealed.model
        verdict = self.chain.agree(proposals, rule, context, sealed)
        self.adopted = self.seat.late
        self.seat.advance()
        return replace(verdict, measured=True)

    def final_without_it(self, wait_s: float) -> bool | None:
        """Whether the others have finished the next height without this server's model; None where
        nobody hands out its block in time."""
        record = self.seat.sought(self.chain.state.height + 1, wait_s)
        if record is None:
            return None
        facts = unpack(record.stream[-1].content.facts)
        me = self.chain.settings.members[self.index]
        self.seat.mute = me not in [node for node, _ in facts["aggregate"][2]]
        return self.seat.mute

    def all_done(self) -> bool:
        """Whether all servers have the last block that this one has."""
        return self.seat.all_beyond(self.chain.state.height)

    def forget(self, height: int) -> None:
        """Models up to this height will not be asked for any more."""
        self.seat.forget(height)

    def word(self, sealed: Sealed) -> bytes:
        """This server's signature under how the run ended."""
        server = self.chain.members[self.index]
        return signed(self.chain, server, self.chain.ending(sealed)).encode()

    def close(self, sealed: Sealed = Sealed()) -> None:
        """Leave; nothing is sealed by one server alone, see `word`."""
        if self.seat is not None:
            self.seat.close()

    def audit(self, asked: Mapping[int, Question]) -> list[Audited]:
        return self.chain.audit(asked)

    # ------------------------------------------------------------ the wire

    def round(self, chain: Chain, ledger: Ledger) -> _Height:
        return _Height(self, ledger)

    def asked(self, proposals: Updates, context: Context) -> tuple[Updates, Context]:
        return everybody(self.chain, proposals, context)

    def words(self, chain: Chain, told: bytes) -> tuple[Entry, ...]:
        return (signed(chain, chain.members[self.index], told),)

    def watch(self) -> None:
        """Say so when there is no quorum, and when it is back; give up when it does not return, or
        can never agree."""
        chain, now = self.chain, time.monotonic()
        here, needs = self.seat.here(), chain.state.quorum(chain.settings)
        unlike = self.seat.unlike()
        if chain.servers - len(unlike) < needs:
            raise IntegrityError(
                f"Edge servers {', '.join(map(str, unlike))} begin round {self.seat.height} from "
                f"another model than server {self.index}, so that no {needs} of {chain.servers} "
                "can agree: start all with the same config, data and versions of fedalign and "
                "torch; where processors differ, give all the same cached models."
            )
        if len(here) >= needs:
            if self._paused:
                self.tell(
                    "resumed", f"{len(here)} of {chain.servers} edge servers are there again."
                )
            self._lonely_s, self._paused = None, False
            return
        self._lonely_s = now if self._lonely_s is None else self._lonely_s
        lonely_s, wait_s = now - self._lonely_s, chain.processes.wait_s
        gone = ", ".join(str(i) for i in range(chain.servers) if i not in here)
        lost = (
            f"{len(here)} of {chain.servers} edge servers hear each other, {needs} must: {gone} "
            f"{'is' if len(here) == chain.servers - 1 else 'are'} missing"
        )
        if not self._paused and lonely_s > min(GRACE_S, wait_s):
            self._paused = True
            self.paused = (f"{lost}. The run waits up to {wait_s:g} s for them.",)
            self.tell("paused", self.paused[0])
        if lonely_s > wait_s:
            raise QuorumLostError(
                f"{lost}, and nobody came back in {wait_s:g} s: start them again, then the same "
                "command continues."
            )


@dataclass
class _Host:
    server: Server
    alive: bool = True


class _Height:
    """One height, as this process sees it."""

    def __init__(self, deployed: Deployed, ledger: Ledger):
        self._deployed, self._ledger = deployed, ledger
        self.hosts = [_Host(deployed.chain.members[deployed.index])]

    def elect(self, limit_s: float) -> None:
        """The order is there since the height before was over."""

    def begin(self, starts: Sequence[Callable[[Server], list[Action]]]) -> None:
        mine = self._deployed
        self._done: Future[None] = mine.seat.begin(starts[mine.index], self._ledger, mine.begins)

    def finish(self, needs: int, limit_s: float, watch: Callable[[], None]) -> None:
        """Until the block is final here, as long as there is hope."""
        while True:
            try:
                return self._done.result(0.1)
            except TimeoutError:
                if self._done.done():
                    raise
            try:
                watch()
                self._deployed.watch()
            except (QuorumLostError, IntegrityError):
                self._deployed.seat.give_up()
                raise


@dataclass(frozen=True)
class Seen:
    """What became known of a height. models: root -> update (d,) int64. costs: of all servers."""

    record: Record
    models: Callable[[bytes], np.ndarray]
    costs: Mapping[str, Cost]


class Observed:
    """The consensus as seen by whoever records it. source: height -> what became known of it.
    ends: told -> the servers' signed words about the end."""

    def __init__(
        self, chain: Chain, source: Callable[[int], Seen], ends: Callable[[], Sequence[bytes]]
    ):
        self.chain, self._source, self._ends = chain, source, ends
        self.paused: tuple[str, ...] = ()  # its launcher knows
        chain.wire = self

    @property
    def faults(self) -> Sequence[Faulty]:
        return self.chain.faults

    def open(self, folder: Path | None, height: int | None = None) -> SealedBlock | None:
        return self.chain.open(folder, height)

    def agree(
        self, proposals: Updates, rule: Defense, context: Context, sealed: Sealed = Sealed()
    ) -> Verdict:
        """The round that the servers sealed: replayed, and decided once more on their models.
        Raises IntegrityError where it does not follow."""
        chain, before, decisions = self.chain, self.chain.state, []
        asked, context = everybody(chain, proposals, context)
        seen = self._source(before.height + 1)
        job = chain._job(asked, rule, context, chain._told(sealed, before.height + 1))

        def again(task: Task) -> Evaluated:
            found, decision = job.evaluate(task, {root: seen.models(root) for root in task.roots})
            decisions.append(decision)
            return found

        replica = chain.machine(chain.settings)
        after = replay(replica, before.encode(), seen.record, before.height + 1, again)
        block = chain.follow(seen.record)
        return replace(
            chain.verdict(seen.record, block, proposals, decisions[-1], _struck(before, after),
                          seen.costs),
            measured=True,
        )  # fmt: skip

    def close(self, sealed: Sealed = Sealed()) -> SealedBlock | None:
        """The closing block, under which a quorum's signatures must stand."""
        return self.chain.close(sealed)

    def audit(self, asked: Mapping[int, Question]) -> list[Audited]:
        return self.chain.audit(asked)

    def round(self, chain: Chain, ledger: Ledger) -> Any:
        raise DataError("Whoever only watches takes no part in a round.")

    def asked(self, proposals: Updates, context: Context) -> tuple[Updates, Context]:
        return everybody(self.chain, proposals, context)

    def words(self, chain: Chain, told: bytes) -> tuple[Entry, ...]:
        entries = [Entry.decode(word) for word in self._ends()]
        return tuple(entry for entry in entries if entry.content.header_hash == told)


def everybody(chain: Chain, proposals: Updates, context: Context) -> tuple[Updates, Context]:
    """All servers, for a process that knows the rows of some: `absent` holds the others' weights;
    who really is absent turns out on the chain."""
    worth = dict(context.absent)
    worth |= dict(zip(proposals.clients.tolist(), context.weights.tolist(), strict=True))
    clients = torch.arange(chain.servers)
    weights = torch.tensor([worth[i] for i in clients.tolist()], dtype=torch.float64)
    rows = proposals.rows.new_zeros(1, 1).expand(chain.servers, proposals.rows.shape[1])
    about = replace(context, clients=clients, weights=weights, absent={})
    return Updates(clients, rows, weights), about


def _struck(before: State, after: State) -> list[tuple[bytes, str]]:
    """(node, kind) of every strike between two states."""
    found = []
    for node, kinds in after.strikes.items():
        past = before.strikes.get(node, {})
        for kind, count in kinds.items():
            found += [(node, kind)] * (count - past.get(kind, 0))
    return found

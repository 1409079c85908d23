"""Protocol: edge servers agree on an aggregate over a simulated network, block by block.

Papers: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (PoFEL); Wang, Hu, Xu, Xiong, "HieAvg", arXiv
2308.01296, 2023 (Ordered over Raft: the leader of the order aggregates and nobody votes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import process_time
from typing import ClassVar, Literal

from consensus.actions import Action, Proposal
from consensus.archive import Archive, Record
from consensus.audit import audit, check_seal, last_block
from consensus.costs import Ledger, standing
from consensus.encoding import unpack
from consensus.fault import Fault
from consensus.identity import Key
from consensus.job import Desk, Job, in_order
from consensus.network.links import Link
from consensus.ordering import BftOrdering, Ordering, RaftOrdering
from consensus.pofel import effects as fx
from consensus.pofel import evaluation, payload, seal
from consensus.pofel.btsv import Btsv
from consensus.pofel.history import History
from consensus.pofel.machine import RoundMachine
from consensus.pofel.plain import PlainMachine
from consensus.pofel.prediction import PredictionRule
from consensus.pofel.rewards import RewardRule
from consensus.pofel.settings import Settings, Timeouts, tolerated
from consensus.pofel.state import State
from consensus.pofel.tally import Fairness
from consensus.pofel.task import Evaluated, Evaluator, Task
from consensus.server import Server
from consensus.told import Told, wallets
from consensus.transport import Outage, Processes, Round, Simulated, Transport, Wire, check
from fedalign.core.agreement import Audited, Cost, Question, Sealed, SealedBlock, Verdict
from fedalign.core.contracts import Aggregate, Context, Defense, Updates
from fedalign.core.errors import ConfigError, IntegrityError, QuorumLostError
from fedalign.core.seeds import Seeds


@dataclass(frozen=True)
class Faulty:
    """Which servers lie, and how. servers: positions 0 .. n-1, distinct."""

    fault: Fault
    servers: tuple[int, ...]


@dataclass
class Chain:
    """What all chains over a simulated network share; `PoFEL` and `Ordered` are the kinds.

    servers: n, 2 .. 128; in a federation None is one per edge. seed: of keys and of the network's
    chance, >= 0; in a federation None is the run's. ordering: who puts entries in order. tolerates:
    which f counts, that of "byzantine" servers (n >= 4) or of those that "crash". evaluator,
    rewards, timeouts, link: see there. links: single connections (sender, receiver) that differ.
    faults: Byzantine servers. down: servers that are not there. cut: groups of servers that do not
    hear each other until heal_ms after a round's beginning, or ever (None). recompute: every server
    evaluates by itself; otherwise, to save time, one does it for all. measure_cpu: costs say
    `cpu_s`, which itself takes time. max_aborts: rounds without a block in a row before
    `QuorumLostError`, >= 0. transport, processes, outages: see `consensus.transport`.
    """

    servers: int | None = None
    seed: int | None = None
    ordering: Ordering = RaftOrdering()
    tolerates: Literal["byzantine", "crash"] = "byzantine"
    evaluator: Evaluator = Evaluator()
    rewards: RewardRule = RewardRule()
    timeouts: Timeouts = Timeouts()
    link: Link = Link()
    links: Mapping[tuple[int, int], Link] | None = None
    faults: Sequence[Faulty] = ()
    down: Sequence[int] = ()
    cut: Sequence[Sequence[int]] = ()
    heal_ms: float | None = None
    recompute: bool = True
    measure_cpu: bool = True
    max_aborts: int = 3
    chain_id: int = 131_277
    transport: Transport = "simulated"
    processes: Processes = Processes()
    outages: Sequence[Outage] = ()

    machine: ClassVar[type[RoundMachine]] = RoundMachine

    def __post_init__(self) -> None:
        n, seed = self.servers, self.seed or 0
        if n is None or not 2 <= n <= 128:
            raise ConfigError(f"A chain has 2 .. 128 servers, got {n}.")
        if self.tolerates == "byzantine" and n < 4:
            raise ConfigError(
                f"A chain that stands a lying server needs 4 servers or more, got {n}: raise "
                "servers, or set tolerates=crash."
            )
        named = [i for group in self.faults for i in group.servers] + list(self.down)
        if len(set(named)) != len(named) or not set(named) <= set(range(n)):
            raise ConfigError(
                f"Lying and missing servers are distinct positions 0 .. {n - 1}, got {named}."
            )
        if self.max_aborts < 0:
            raise ConfigError(f"max_aborts is 0 or more, got {self.max_aborts}.")
        check(self)
        self.wire: Wire = Simulated()
        self._seeds = Seeds(seed)
        self.wallet = wallets(self._seeds)
        keys = [Key(self._seeds.key("server_key", server=i)) for i in range(n)]
        self.settings = self._settings(self.processes.nodes or tuple(k.node_id for k in keys))
        self.members = [self._server(i, key) for i, key in enumerate(keys)]
        self._archive, self._last, self._aborts = Archive(None), None, 0

    def _settings(self, nodes: tuple[bytes, ...]) -> Settings:
        return Settings(
            self.chain_id, nodes, faults=self.tolerates, rewards=self.rewards,
            timeouts=self.timeouts,
        )  # fmt: skip

    def _server(self, index: int, key: Key) -> Server:
        group = next((g for g in self.faults if index in g.servers), None)
        fault, coalition = (None, ()) if group is None else (group.fault, tuple(group.servers))
        return Server(index, key, self.machine(self.settings), fault=fault, coalition=coalition)

    # ------------------------------------------------------------ the contract

    def open(self, folder: Path | None, height: int | None = None) -> SealedBlock | None:
        """Continue behind block `height`, None the last final one in `folder`; raises IntegrityError
        if it is forged. What lies above it must come out the same when it is made again."""
        self._archive = Archive(folder)
        heights = self._archive.heights()
        height = height if height is not None else max(heights, default=0)
        if height == 0:
            return None
        if height not in heights:
            raise IntegrityError(
                f"Height {height} is missing: the chain has {len(heights)} blocks."
            )
        return self._at(self._archive.read(height))

    def follow(self, record: Record) -> SealedBlock:
        """Take over a height that was agreed on elsewhere; its seal is checked."""
        self._aborts = self._futile()
        self._keep(self._at(record), record)
        return self._last

    def _at(self, record: Record) -> SealedBlock:
        self._last = self._proved(record)
        for server in self.members:
            server.machine.restore(record.snapshot)
        return self._last

    def agree(
        self, proposals: Updates, rule: Defense, context: Context, sealed: Sealed = Sealed()
    ) -> Verdict:
        """One final round; see `Consensus`. Raises QuorumLostError."""
        asked, context = self.wire.asked(proposals, context)
        ledger = Ledger(process_time if self.measure_cpu else standing)
        told = self._told(sealed, self.state.height + 1)
        desk = Desk(self._job(asked, rule, context, told), ledger, self.recompute)
        group = self.wire.round(self, ledger)
        before, self._aborts = self.members[0].machine.snapshot(), self._futile()
        try:
            self._play(group, proposals, sealed, desk)
        except QuorumLostError:
            for server in self.members:  # an order that led to no block is void
                server.machine.restore(before)
            raise
        ready = [host.server for host in group.hosts if host.alive and host.server.done()]
        first = next((server for server in ready if server.fault is None), ready[0])
        self._same(ready, first)
        record = Record(
            tuple(first.stream), seal.Seal(first.seal()), first.machine.snapshot(), told.encode()
        )
        block = self._last = self._proved(record)
        self._keep(block, record)
        decision = desk.answers[first.index]
        strikes = [(e.node, e.kind) for e in first.seen if isinstance(e, fx.Strike)]
        return self.verdict(record, block, proposals, decision, strikes, ledger.costs())

    def audit(self, asked: Mapping[int, Question] | None = None) -> list[Audited]:
        """Replay every block in the folder (see `consensus.audit`); those of the heights in `asked`
        are decided once more. Raises IntegrityError or DataError naming the first lie."""
        answers: dict[int, Aggregate] = {}
        again = {h: self._again(h, question, answers) for h, question in (asked or {}).items()}
        heights = [h for h, _ in audit(self._archive, self.settings, self.machine, again)]
        return [Audited(self._proved(self._archive.read(h)), answers.get(h)) for h in heights]

    def close(self, sealed: Sealed = Sealed()) -> SealedBlock | None:
        """All servers that are there sign what the last round led to."""
        if self._last is None:
            return None
        state, told = self.state, self.ending(sealed)
        members, signed = state.members(self.settings), self.wire.words(self, told)
        seal.verify(
            seal.Seal(tuple(e for e in signed if e.sender in members)), chain_id=self.chain_id,
            round_=state.round, rank=0, header_hash=told, members=members,
            check=self.members[0].machine.check, needs=state.quorum(self.settings),
        )  # fmt: skip
        there = tuple(self.settings.members.index(entry.sender) for entry in signed)
        height, parent = self._last.height + 1, self._last.hash
        return SealedBlock(height, state.round, bytes(32), told, parent, there)

    def ending(self, sealed: Sealed) -> bytes:
        """What the closing block says, 32 bytes."""
        said = self._told(sealed, self._last.height + 1).digest
        return sha256(b"fedalign/closing/v1" + self._last.hash + said).digest()

    @property
    def state(self) -> State:
        """The replicated state behind the last final block."""
        return self.members[0].machine.state

    # ------------------------------------------------------------ one round

    def _job(self, proposals: Updates, rule: Defense, context: Context, told: Told) -> Job:
        positions = [int(i) for i in proposals.clients]
        if len(set(positions)) != len(positions) or not set(positions) <= set(range(self.servers)):
            raise ConfigError(
                f"Proposals come from distinct servers 0 .. {self.servers - 1}, got {positions}."
            )
        nodes = {self.settings.members[i]: (row, i) for row, i in enumerate(positions)}
        return Job(rule, context, nodes, self.evaluator, told.digest)

    def _start(
        self, server: Server, proposals: Updates, sealed: Sealed, desk: Desk
    ) -> Callable[[Server], list[Action]]:
        """Hand a server its proposal, and a lying one what it knows of the others'."""
        scale, columns = server.machine.state.scale, proposals.rows.shape[1]
        everybody = server.fault is not None and server.fault.omniscient
        known = {
            position: evaluation.quantize(proposals.rows[row].detach().cpu().numpy(), scale)
            for row, position in enumerate(proposals.clients.tolist())
            if everybody or position == server.index or position in server.coalition
        }
        samples = dict(zip(proposals.clients.tolist(), proposals.samples.tolist(), strict=True))
        size, clock_s = int(samples.get(server.index, 0)), int(sealed.clock_s) + 1
        proposal = Proposal(known.get(server.index), size, columns, clock_s)

        def start(server: Server) -> list[Action]:
            server.peek = known
            return server.begin(proposal, desk.of(server.index))

        return start

    def _play(self, group: Round, proposals: Updates, sealed: Sealed, desk: Desk) -> None:
        quorum = self.members[0].machine.state.quorum(self.settings)
        group.elect(self._patience_s())
        group.begin([self._start(server, proposals, sealed, desk) for server in self.members])
        group.finish(quorum, self._patience_s(), self._give_up)

    def _patience_s(self) -> float:
        """The longest that rounds can take, aborted ones included, while a quorum is there."""
        t, f = self.timeouts, tolerated(self.servers, self.tolerates)
        ranks = sum(t.block(rank) for rank in range(f + 1))
        waits = t.train_ms + t.commit_ms + t.reveal_ms + t.avail_ms + t.evaluate_ms + 2 * t.vote_ms
        return 10 + (self.max_aborts + 1) * (waits + ranks) / 1000

    def _give_up(self) -> None:
        aborts = self._futile() - self._aborts
        if aborts > self.max_aborts:
            raise QuorumLostError(
                f"{aborts} rounds in a row ended without a block (max_aborts={self.max_aborts}): "
                "more servers must bring a model, or more time be allowed."
            )

    def _futile(self) -> int:
        return max(server.machine.state.aborts for server in self.members)

    def _same(self, ready: Sequence[Server], first: Server) -> None:
        """All that finished hold the same state; those that did not are brought up to it."""
        told = first.machine.state_hash()
        forked = [s.index for s in ready if s.machine.state_hash() != told]
        if forked:
            raise IntegrityError(
                f"Servers {forked} finished the round with another state than {first.index}."
            )
        for server in self.members:
            if server not in ready:
                server.machine.restore(first.machine.snapshot())

    def _told(self, sealed: Sealed, height: int) -> Told:
        return Told.of(sealed, height, self.wallet)

    def _keep(self, block: SealedBlock, record: Record) -> None:
        """A block that was final before the run was stopped is final still."""
        height = block.height
        if height in self._archive.heights():
            before = last_block(self._archive.read(height)).content.header_hash
            if before != block.hash:
                raise IntegrityError(
                    f"Height {height} was sealed as {before.hex()[:16]} before the run stopped and "
                    f"is {block.hash.hex()[:16]} now: the folder holds another run's chain."
                )
            return
        self._archive.write(height, record)

    def _again(
        self, height: int, asked: Question, answers: dict[int, Aggregate]
    ) -> Callable[[Task], Evaluated | None]:
        """A round's evaluation from what it asked; `answers` takes the decision."""
        told = self._told(asked.sealed, height)
        job = self._job(asked.proposals, asked.rule, asked.context, told)

        def evaluate(task: Task) -> Evaluated | None:
            quantized = (
                evaluation.quantize(row, task.scale)
                for row in asked.proposals.rows.detach().cpu().numpy()
            )
            updates = {payload.root(row, task.scale): row for row in quantized}
            if not set(task.roots) <= set(updates):
                if self.faults:  # who lies may have sealed a model that nobody proposed
                    return None
                raise IntegrityError(f"Height {height}: the kept rows are not the sealed ones.")
            found, decision = job.evaluate(task, updates)
            roster = [job.nodes[node][1] for node, _, _ in task.servers]
            answers[height] = in_order(decision, roster, asked.proposals)
            return found

        return evaluate

    def _proved(self, record: Record) -> SealedBlock:
        """The record's block, its seal checked."""
        entry, state = last_block(record), State.decode(record.snapshot)
        block = entry.content
        if state.head != block.header_hash:
            raise IntegrityError(f"The snapshot of height {block.height} is of another block.")
        check_seal(state, self.settings, record, self.members[0].machine.check)
        facts = unpack(block.facts)
        place = self.settings.members.index
        signers = tuple(place(final.sender) for final in record.seal.finals)
        return SealedBlock(block.height, entry.round, facts["aggregate"][0], block.header_hash,
                           block.parent, signers)  # fmt: skip

    def verdict(
        self, record: Record, block: SealedBlock, proposals: Updates, decision: Aggregate,
        strikes: Sequence[tuple[bytes, str]], costs: Mapping[str, Cost],
    ) -> Verdict:  # fmt: skip
        """What a final record says, with the rule's decision on its servers."""
        entry, place = record.stream[-1], self.settings.members.index
        facts = unpack(entry.content.facts)
        roster = [place(node) for node, _ in facts["aggregate"][2]]
        return Verdict(
            aggregate=in_order(decision, roster, proposals),
            status="final",
            leader=place(entry.sender),
            block=block,
            members=tuple(sorted(roster)),
            votes={place(voter): place(choice) for voter, choice in facts["tally"][3]},
            scores={place(voter): total for voter, _, _, total in facts["scores"]},
            rewards={place(node): units for node, units in facts["rewards"][0]},
            strikes=tuple((place(node), kind) for node, kind in strikes),
            aborted=State.decode(record.snapshot).aborts - self._aborts,
            costs=costs,
            paused=self.wire.paused,
        )


@dataclass
class PoFEL(Chain):
    """Commit, reveal, evaluate, vote: the servers elect who writes the block.

    btsv, history, fairness, prediction: see there. commit_votes: votes are hidden until all are
    in. self_votes: a server may vote for itself. size_cap: see `Settings`.
    """

    ordering: Ordering = BftOrdering()
    btsv: Btsv = Btsv()
    history: History = History()
    fairness: Fairness = Fairness()
    prediction: PredictionRule = PredictionRule()
    commit_votes: bool = True
    self_votes: bool = True
    size_cap: int = 0

    def _settings(self, nodes: tuple[bytes, ...]) -> Settings:
        return replace(
            super()._settings(nodes), btsv=self.btsv, history=self.history,
            fairness=self.fairness, commit_votes=self.commit_votes, self_votes=self.self_votes,
            size_cap=self.size_cap,
        )  # fmt: skip

    def _server(self, index: int, key: Key) -> Server:
        server = super()._server(index, key)
        server.prediction = self.prediction
        return server


@dataclass
class Ordered(Chain):
    """The ordering protocol's leader aggregates; nobody votes. Every server still recomputes
    what the block says before it signs."""

    tolerates: Literal["byzantine", "crash"] = "crash"

    machine: ClassVar[type[RoundMachine]] = PlainMachine

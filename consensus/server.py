"""Server: one member of a chain: what it says, fetches, evaluates and signs.

No I/O and no clock: ordered entries, models and timers come in, actions go out.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (commit, reveal, evaluate, vote); the reactive
form is our derivation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from consensus.actions import Action, Evaluate, Fetch, Proposal, Propose, Tell, Wait
from consensus.fault import Fault, FaultView
from consensus.identity import Key
from consensus.pofel import effects as fx
from consensus.pofel import speech
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Avail, Body, Commit, Entry, Final, Kind, Mark, Vote
from consensus.pofel.plain import PlainMachine
from consensus.pofel.prediction import PredictionRule
from consensus.pofel.state import Phase
from consensus.pofel.task import Evaluated, Task
from consensus.store import Store
from consensus.witness import Witness
from fedalign.core.seeds import derive

FINALS_KEPT = 64  # of one server while one height lasts
PARTIAL = 1 << 30  # the rank of a timer that says: tell which models are here, though not all are


class Server:
    """A replica of the rounds, and the part that one member plays in them.

    index: position among the members. prediction: how it predicts votes. fault: None is honest;
    coalition: the servers that share it.
    """

    def __init__(
        self,
        index: int,
        key: Key,
        machine: RoundMachine,
        prediction: PredictionRule = PredictionRule(),
        fault: Fault | None = None,
        coalition: tuple[int, ...] = (),
    ):
        self.index, self.key, self.machine, self.prediction = index, key, machine, prediction
        self.fault, self.coalition = fault, coalition
        self.store = Store()
        self.leader = -1  # whom the ordering protocol takes for its leader, a position
        self.proposal, self._evaluate = Proposal(None, 0, 0), None
        self.peek: dict[int, np.ndarray] = {}  # proposals that its coalition knows beforehand
        self.seen: list[fx.Effect] = []
        self.stream: list[Entry] = []  # what had an effect; the accepted block is the last
        self._waiting: deque[Entry] = deque()
        self._outstanding: dict[bytes, Entry] = {}
        self._queue: list[Entry] = []
        self._finals: dict[bytes, dict[int, Entry]] = {}  # sender -> round -> its word
        self._witness = Witness(lambda entry: machine.admit(entry) is None)
        self._target = self._opened = 0
        self._forget()

    # ------------------------------------------------------------ what comes in

    def begin(self, proposal: Proposal, evaluate: Evaluate) -> list[Action]:
        """A new aggregate is to be agreed on."""
        self.proposal, self._evaluate = proposal, evaluate
        self._target = self.machine.state.height + 1
        self.seen, self.stream, self._finals = [], [], {}
        self._witness.forget()
        self.store.keep_only({root for _, root in self.machine.state.earlier})
        self._opened = 0  # a round that led nowhere may be played again
        self._waiting.clear()
        actions = self._follow(self.machine.opening())
        for fraud in self._witness.open:  # found too late for the block before
            self._say(fraud)
        return self._finish(actions)

    def ordered(self, entry: Entry) -> list[Action]:
        """The next entry of the stream; it waits while models that it needs are missing here."""
        fraud = self._witness.hear(entry)
        if fraud is not None:
            self._say(fraud)
        self._waiting.append(entry)
        return self._finish(self._drain())

    def fetched(self, root: bytes, data: bytes) -> list[Action]:
        """A model arrived."""
        if root not in self.store:
            columns, scale = self.proposal.columns, self.machine.state.scale
            self.store.take(root, data, columns, scale)
        self._compute()
        return self._finish(self._drain())

    def timeout(self, timer: fx.SetTimer) -> list[Action]:
        """Time is up: the phase ends for everybody, if it still lasts."""
        state, rank = self.machine.state, timer.rank
        if (timer.round, timer.phase) != (state.round, int(state.phase)) or self.over:
            return []
        if rank == PARTIAL:
            if self._wanted is not None:
                held, self._wanted = [r for r in self._wanted if r in self.store], None
                self._say(Avail(tuple(held)))
        elif rank == state.rank:
            self._say(Mark(int(state.phase), rank, 1), rank)
        return self._finish([])

    def led_by(self, leader: int) -> list[Action]:
        """The ordering protocol has another leader."""
        self.leader = leader
        return self._finish(self._said_again())

    def again(self) -> list[Action]:
        """What is worth asking and saying again, after a long silence."""
        return [*(Fetch(source, root) for source, root in self._missing()), *self._said_again()]

    def _said_again(self) -> list[Action]:
        self._outstanding = {
            d: e for d, e in self._outstanding.items() if self.machine._late(e) is None
        }
        return list(map(Propose, self._outstanding.values()))

    def final(self, entry: Entry) -> None:
        """A server says that it found a block valid; only its first word in a round counts."""
        if entry.kind is not Kind.FINAL or self.machine.admit(entry) is not None:
            return
        told = self._finals.setdefault(entry.sender, {})
        if len(told) < FINALS_KEPT:
            told.setdefault(entry.round, entry)

    # ------------------------------------------------------------ what is known

    def done(self) -> bool:
        """Whether the round's block is final here: applied, and signed by enough servers."""
        if not self.over:
            return False
        return len(self.seal()) >= self.machine.state.sealers(self.machine.settings)[1]

    def seal(self) -> tuple[Entry, ...]:
        """The FINAL messages over the head, in the order of the members."""
        state = self.machine.state
        members = state.sealers(self.machine.settings)[0]
        told = [final for node in members for final in self._finals.get(node, {}).values()]
        return tuple(final for final in told if final.content.header_hash == state.head)

    @property
    def over(self) -> bool:
        """Whether the round's block is applied here."""
        return self.machine.state.height >= self._target

    # ------------------------------------------------------------ the round

    def _forget(self) -> None:
        """A new round begins: nothing of the last one is left to do."""
        self.task: Task | None = None
        self.evaluated: Evaluated | None = None
        self.sent: set[Kind] = set()
        self._root, self._length = b"", 0
        self._wanted: tuple[bytes, ...] | None = None
        self._casts = self._builds = False
        self._marked = (0, 0)
        self._asked: dict[bytes, int] = {}

    def _drain(self) -> list[Action]:
        actions: list[Action] = []
        while self._waiting and not self.over:  # what follows the block is of no height
            entry = self._waiting[0]
            if self.machine.stalls(entry):
                if self.evaluated is None:
                    break  # until its models have arrived
                self.machine.provide(self.evaluated)
            self._waiting.popleft()
            self._outstanding.pop(entry.digest, None)
            before = self.machine.state
            effects = self.machine.apply(entry)
            if self.machine.state is not before:
                self.stream.append(entry)
            actions += self._follow(effects)
        return actions

    def _follow(self, effects: Sequence[fx.Effect]) -> list[Action]:
        self.seen += effects
        state = self.machine.state
        if state.round != self._opened and not self.over:
            self._opened = state.round
            self._forget()
            self._say(self._commit())
        actions = [action for effect in effects for action in self._obey(effect)]
        self._compute()
        return actions

    def _obey(self, effect: fx.Effect) -> Iterator[Action]:
        """Do what the machine asks for, or remember it for when the models are here."""
        state, settings = self.machine.state, self.machine.settings
        if isinstance(effect, fx.SetTimer) and not self.over:
            yield Wait(effect)
        elif isinstance(effect, fx.FetchModel):
            if effect.model_root not in self.store:
                yield Fetch(settings.members.index(effect.author), effect.model_root)
        elif isinstance(effect, fx.SendReveal):
            if self._root:
                self._say(speech.reveal(state, self._root, self._length, self.key.secret))
        elif isinstance(effect, fx.SendAvail):
            self._wanted = effect.roots
            half = settings.timeouts.avail_ms // 2
            yield Wait(fx.SetTimer(state.round, Phase.AVAIL, PARTIAL, half))
        elif isinstance(effect, fx.Evaluate):
            self.task = effect.task
        elif isinstance(effect, fx.CastVote):
            self._casts = True
        elif isinstance(effect, fx.OpenVote):
            if Kind.VOTE_COMMIT in self.sent and self.evaluated is not None:
                self._say(self._vote())
        elif isinstance(effect, fx.BuildBlock):
            self._builds = effect.author in (self.key.node_id, None)
        elif isinstance(effect, fx.Removed):
            self._witness.punished(effect.node)
        elif isinstance(effect, fx.SignFinal):
            final = Entry.sign(
                self.key, settings.chain_id, effect.round, Final(effect.rank, effect.header_hash)
            )
            self.final(final)
            yield Tell(final)

    def _compute(self) -> None:
        """Say and evaluate what had to wait for models."""
        if self._wanted is not None and all(root in self.store for root in self._wanted):
            self._say(Avail(self._wanted))
            self._wanted = None
        here = self.task is not None and all(root in self.store for root in self.task.roots)
        if here and self.evaluated is None:
            self.evaluated = self._evaluate(self.task, self.store.values)
            self.machine.provide(self.evaluated)
        if self._casts and self.evaluated is not None:
            self._casts = False
            vote, settings, state = self._vote(), self.machine.settings, self.machine.state
            hidden = settings.commit_votes
            self._say(speech.ballot(settings, state, self.key.node_id, vote) if hidden else vote)

    def _finish(self, actions: list[Action]) -> list[Action]:
        """The actions, and what the server says: through its fault, if it has one."""
        state = self.machine.state
        if self._builds and state.phase == Phase.BLOCK and self._may_build():
            self._builds = False
            self._say(self.machine.proposal(self.key.node_id), state.rank)
        here = (state.round, int(state.phase))
        if self._leads() and self.machine.complete and self._marked != here and not self.over:
            self._marked = here
            self._say(Mark(here[1], state.rank, 0), state.rank)
        outgoing, self._queue = self._queue, []
        if self.fault is not None:
            outgoing = self.fault(outgoing, self._view(), self.key)
        for entry in outgoing:
            self.sent.add(entry.kind)
            self._outstanding[entry.digest] = entry
        return [*actions, *map(Propose, outgoing)]

    def _leads(self) -> bool:
        """The order's leader ends phases; where it is no member any more, the first member does."""
        everybody = self.machine.settings.members
        members = self.machine.state.members(self.machine.settings)
        led = self.leader >= 0 and everybody[self.leader] in members
        return self.key.node_id == (everybody[self.leader] if led else members[0])

    def _may_build(self) -> bool:
        """Without votes the ordering protocol's leader writes, once it has evaluated."""
        if isinstance(self.machine, PlainMachine):
            return self._leads() and self.evaluated is not None
        return True

    def _missing(self) -> Iterator[tuple[int, bytes]]:
        """(whom to ask next, model) of all that the round needs and that is not here."""
        state, members = self.machine.state, self.machine.settings.members
        if self.over:
            return
        authors = {root: node for node, (root, _, _) in state.reveals.items()}
        authors |= {root: node for node, root in state.earlier}
        for root, author in authors.items():
            if root in self.store:
                continue
            tried = self._asked[root] = self._asked.get(root, -1) + 1
            source = (members.index(author) + tried) % len(members)
            if source != self.index:
                yield source, root

    # ------------------------------------------------------------ words

    def _say(self, body: Body, view: int = 0) -> None:
        machine = self.machine
        chain, round_ = machine.settings.chain_id, machine.state.round
        self._queue.append(Entry.sign(self.key, chain, round_, body, view))

    def _commit(self) -> Commit:
        machine, mine = self.machine, self.proposal
        if mine.values is not None:
            self._root, self._length = self.store.put(mine.values, machine.state.scale)
        if isinstance(machine, PlainMachine) and self._root:
            return Commit(self._root, mine.size, machine.state.head, mine.time_s)
        return speech.commit(
            machine.settings, machine.state, self.key.node_id, self._root, mine.size, mine.time_s,
            self.key.secret,
        )  # fmt: skip

    def _vote(self) -> Vote:
        machine, me = self.machine, self.key.node_id
        return speech.vote(
            machine.settings, machine.state, me, self.evaluated, self.prediction, self.key.secret
        )

    def _view(self) -> FaultView:
        machine, secret = self.machine, self.key.secret
        state, settings = machine.state, machine.settings

        def revealed() -> dict[bytes, np.ndarray]:
            roots = [root for root, _, _ in state.reveals.values()]
            return {root: self.store.values(root) for root in roots if root in self.store}

        def honest(choice: bytes | None) -> Vote:
            if choice is None:
                return self._vote()
            return speech.vote_for(settings, state, choice, self.evaluated, self.prediction, secret)

        return FaultView(
            server=self.index,
            coalition=self.coalition,
            settings=settings,
            state=state,
            evaluated=self.evaluated,
            sent=frozenset(self.sent),
            proposals=self.peek,
            models=revealed,
            own=self.proposal.values,
            nonce=lambda purpose: speech.nonce(secret, state.round, purpose),
            put=lambda values: self.store.put(values, state.scale),
            honest_vote=honest,
            rng=derive(secret, "fault", state.round),
        )

"""Machine: one chain's rounds as a pure function of an ordered stream of signed entries.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023; making it a function of an ordered stream is
our derivation: two servers that applied the same entries cannot disagree about a leader.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.identity import SignatureCheck
from consensus.pofel import blocks, fraud, marks, merkle
from consensus.pofel.blocks import CheckPayload
from consensus.pofel.effects import Effect, Ignored, ImportBlock, SignFinal, Strike
from consensus.pofel.items import ITEMS
from consensus.pofel.messages import Block, Entry, Kind, Mark
from consensus.pofel.outcome import Outcome
from consensus.pofel.settings import Settings
from consensus.pofel.state import Phase, State
from consensus.pofel.task import Evaluated
from fedalign.core.errors import ConfigError, DataError


class RoundMachine:
    """Apply entries in order; do what the effects ask; nothing else changes the state.

    check: signatures, shared with whoever admits messages so that none is checked twice.
    check_payload: the EVM's part of a block; the default knows blocks without one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        check: SignatureCheck | None = None,
        check_payload: CheckPayload = blocks.bare,
    ):
        self.settings = settings
        self.state = State.genesis(settings)
        self.check = SignatureCheck() if check is None else check
        self._check_payload = check_payload
        self._evaluated: Evaluated | None = None

    # ------------------------------------------------------------ the stream

    def apply(self, entry: Entry) -> list[Effect]:
        """The effects of one entry; [Ignored(reason)] where it changes nothing."""
        if reason := self.admit(entry) or self._late(entry):
            return [Ignored(reason)]
        if self.stalls(entry):
            raise ConfigError(
                f"Round {self.state.round} cannot go on: its models are not evaluated here yet. "
                "Answer the Evaluate effect with provide() first."
            )
        if entry.kind is Kind.MARK:
            return self._mark(entry, entry.content)
        if entry.kind is Kind.BLOCK:
            return self._block(entry)
        if entry.kind is Kind.FRAUD:
            step = fraud.accuse(self.state, self.settings, entry.content, self.check)
        else:
            accept = self._accepts()[entry.kind][1]
            step = accept(self.state, self.settings, entry.sender, entry.content)
        if isinstance(step, str):
            return [Ignored(step)]
        self.state, effects = step
        if entry.kind is not Kind.FRAUD:
            self._witness(entry)
        return effects

    def admit(self, entry: Entry) -> str | None:
        """Why an entry cannot belong to this chain at all, or None; for use before ordering too.

        Does not look at rounds and phases, which may have moved on when the entry is ordered.
        """
        if entry.chain_id != self.settings.chain_id:
            return "foreign_chain"
        if entry.sender not in self.settings.members:
            return "no_member"
        if reason := self.check(entry.digest, entry.signature, entry.sender):
            return reason
        if entry.kind is Kind.BLOCK:  # a malformed one convicts its author
            return None
        try:
            body = entry.content
        except DataError:
            return "malformed"
        view = body.rank if isinstance(body, Mark) else 0
        return None if entry.kind is Kind.FINAL or entry.view == view else "wrong_view"

    def stalls(self, entry: Entry) -> bool:
        """Whether this entry needs the round's evaluation first: `provide` it, then apply."""
        return (
            entry.kind is Kind.MARK
            and self.state.phase == Phase.VOTE
            and not self._ready()
            and (self.admit(entry) or self._late(entry) or self._closes(entry.content)) is None
        )

    def provide(self, evaluated: Evaluated) -> None:
        """The local answer to Evaluate. All servers compute the same one, so it adds nothing to
        the replicated state; it is consumed when the votes are counted."""
        if evaluated.round != self.state.round:
            raise ConfigError(
                f"An evaluation of round {self.state.round} is expected, got round "
                f"{evaluated.round}."
            )
        self._evaluated = evaluated

    @property
    def complete(self) -> bool:
        """Whether a MARK may end the phase before its time."""
        return marks.complete(self.state, self.settings)

    def proposal(self, author: bytes) -> Block:
        """The block that `author` may send now; the EVM part is the chain's to add."""
        return blocks.propose(self.state, self.settings, self._outcome(author), author)

    def opening(self) -> list[Effect]:
        """What the present phase asks for: after the start, and again after a restart."""
        return marks.opening(self.state, self.settings)

    # ------------------------------------------------------------ its state

    def state_hash(self) -> bytes:
        """32 bytes that are equal on two servers iff they applied the same stream."""
        return self.state.digest()

    def snapshot(self) -> bytes:
        """The replicated state; `restore` continues from it."""
        return self.state.encode()

    def restore(self, snapshot: bytes) -> None:
        """Raises DataError where the bytes are no snapshot."""
        self.state, self._evaluated = State.decode(snapshot), None

    # ------------------------------------------------------------ steps

    def _accepts(self):
        return ITEMS

    def _ready(self) -> bool:
        return self._evaluated is not None and self._evaluated.round == self.state.round

    def _late(self, entry: Entry) -> str | None:
        """Why an entry is not for this moment, or None."""
        if entry.sender not in self.state.members(self.settings):
            return "exiled"
        if entry.kind is Kind.FRAUD:
            return None
        if entry.round != self.state.round:
            return "other_round"
        if entry.kind in (Kind.MARK, Kind.BLOCK):
            return None
        if entry.kind not in self._accepts():
            return "not_ordered"
        return None if self.state.phase == self._accepts()[entry.kind][0] else "other_phase"

    def _closes(self, body: Mark) -> str | None:
        """Why this mark ends nothing, or None: it must name the current phase and rank."""
        if (body.phase, body.rank) != (self.state.phase, self.state.rank):
            return "stale_mark"
        return None if body.timeout or self.complete else "incomplete"

    def _mark(self, entry: Entry, body: Mark) -> list[Effect]:
        if reason := self._closes(body):
            return [Ignored(reason)]
        self._witness(entry)
        self.state, effects = marks.close(self.state, self.settings, self._evaluated)
        return effects

    def _block(self, entry: Entry) -> list[Effect]:
        state, settings = self.state, self.settings
        if state.phase != Phase.BLOCK:
            return [Ignored("other_phase")]
        outcome = self._outcome(entry.sender)
        if entry.view != state.rank or outcome.author(state.rank) != entry.sender:
            return [Ignored("not_the_leader")]
        try:
            block = entry.content
        except DataError:
            reason = "malformed"
        else:
            reason = blocks.refusal(
                state, settings, outcome, entry.sender, block, self._check_payload
            )
        if reason is None:
            return self._accept(outcome, entry.sender, block)
        return self._refuse(entry.sender, reason)

    def _accept(self, outcome: Outcome, author: bytes, block: Block) -> list[Effect]:
        round_, rank = self.state.round, self.state.rank
        self.state = blocks.accepted(self.state, self.settings, outcome, author, block)
        self._evaluated = None
        return [
            ImportBlock(block, author, rank),
            SignFinal(self.state.height, round_, rank, block.header_hash),
            *self.opening(),
        ]

    def _refuse(self, author: bytes, reason: str) -> list[Effect]:
        struck = self.state.struck(author, "bad_block")
        self.state, effects = marks.next_rank(struck, self.settings)
        return [Ignored(reason), Strike(author, "bad_block"), *effects]

    def _outcome(self, author: bytes) -> Outcome:
        """What the votes decided; the same whoever writes the block."""
        if self.state.phase != Phase.BLOCK:
            raise ConfigError("There is nothing to propose before the votes are counted.")
        return Outcome.decode(self.state.outcome)

    def _witness(self, entry: Entry) -> None:
        """Applied entries are the block's evidence."""
        leaf = merkle.leaf(entry.encode())
        self.state = replace(self.state, evidence=(*self.state.evidence, leaf))

"""Bft: one server of a Byzantine fault tolerant total order, without I/O, clock or chance.

Tendermint's algorithm: propose, prevote, precommit; a server that precommitted a batch is locked
on it until a newer quorum of prevotes says otherwise. Quorums are n - f. A server says all it
knows of its round again while nothing moves, so messages may be lost.

Paper: Buchman, Kwon and Milosevic, "The latest gossip on BFT consensus", arXiv 1807.04938,
Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from consensus.bft import catching_up, journal, rounds
from consensus.bft.config import BftConfig
from consensus.bft.journal import Lock
from consensus.bft.messages import (
    ALL,
    NO_ROUND,
    Ack,
    Batch,
    Bundle,
    Decision,
    Equivocation,
    Items,
    Message,
    Proposal,
    Ready,
    Status,
    Step,
    Vote,
    vote_of,
)  # fmt: skip
from consensus.bft.votes import MAX_ROUNDS_AHEAD, Votes
from consensus.orderer import Proposed
from consensus.work import sha256
from fedalign.core.errors import ConfigError

IDLE = 8  # times as long between statuses while there is nothing to order
ITEMS_REMEMBERED = 100_000  # ordered ones, so that late copies are not ordered again
EARLY_KEPT = 1024  # items that the judge refuses so far; who wants them ordered says them again
HEIGHTS_WATCHED = 2  # decided heights whose late votes are still compared for evidence


def accept_all(height: int, batch: Batch) -> bool:
    """The default judge."""
    return True


def forget_all(height: int) -> None:
    """The default archive."""


class Bft:
    """An `Orderer`.

    id, members: this server and the voters (integers >= 0). config: its knobs. records: its
    journal after a restart. sign: its signature on a vote. valid: may this batch be ordered at
    this height? Once it said yes it must stay with it. It is asked before prevoting, and an item
    that it refuses waits outside the pool until it does not; what a quorum has decided is decided.
    earlier: decisions that are not kept here any more (config.keep_heights), None where it has none.
    """

    def __init__(
        self,
        id: int,
        members: Sequence[int],
        config: BftConfig,
        records: Iterable[bytes],
        sign: Callable[[Vote], bytes],
        valid: Callable[[int, Batch], bool] = accept_all,
        earlier: Callable[[int], Decision | None] = forget_all,
    ):
        self.id, self.config, self.sign, self.valid = id, config, sign, valid
        self.earlier = earlier
        self._set_members(members)
        found = journal.read(records)
        self.height, self.signed = found.height, found.signed
        self.decisions = {decision.height: decision for decision in found.decisions}
        self._decided_records = {d.height: journal.to_bytes(d) for d in found.decisions}
        self.locked, self.valid_lock = journal.lock_of(found)
        self.pool: dict[bytes, bytes] = {}  # digest -> item, in order of arrival
        self._early: dict[bytes, bytes] = {}  # what may not be ordered yet
        self._pool_bytes = 0
        self._ordered: dict[bytes, None] = {}  # digests of items ordered lately, oldest first
        for decision in found.decisions:
            self._was_ordered(decision.batch)
        self.now = 0
        self.helped: dict[int, int] = {}  # tick at which a server was last sent decisions
        self.proofs: dict[int, tuple[int, Decision]] = {}  # of heights to come, and who sent them
        self.applied = self.height - 1
        self._handed = 0  # decisions given to the driver to apply: all of them after a restart
        self.records: list[bytes] = []
        self.messages: list[Message] = []
        self.after_persist: list[Message] = []
        self.evidence: list[Equivocation] = []
        self._past: dict[int, Votes] = {}
        self._ahead: dict[int, list[Vote | Proposal]] = {}  # of the next height
        self.start_height()
        for what in list(self.signed.values()):  # what was said before the crash is said again
            self.take(what)
        rounds.resume(self)

    # ------------------------------------------------------------------ inputs

    def propose(self, data: bytes) -> Proposed:
        """Ask for `data` to be ordered; every server hears of it, so no proposer can hide it."""
        reason = self._pool_refusal(data)
        if reason:
            return Proposed("dropped", reason, self.proposer(self.height, self.round))
        self._add_item(data)
        self.messages.append(Message(ALL, Items((data,))))
        self.advance_rounds()
        return Proposed("accepted", "", self.proposer(self.height, self.round))

    def step(self, message: Message) -> None:
        """A message that passed the gate arrived."""
        sender, body = message.sender, message.body
        if isinstance(body, Items):
            for data in body.data:
                if not self._pool_refusal(data):
                    self._add_item(data)
        elif isinstance(body, Status):
            catching_up.help_out(self, sender, body.height)
        elif isinstance(body, Decision):
            catching_up.take(self, sender, body)
        elif isinstance(body, Bundle):
            for part in (*body.proposals, *body.votes):
                self.take(part)
            for vote in body.votes:  # votes that count only beside others came too early above
                self.take(vote)
        else:
            if body.height < self.height - 1:
                catching_up.help_out(self, sender, body.height)
            elif body.height > self.height + 1:
                self.messages.append(Message(sender, Status(self.height)))
            self.take(body)
        self.advance_rounds()

    def tick(self) -> None:
        """One unit of time passed."""
        self.now += 1
        self._admit_early()
        rounds.time_outs(self)
        if self.now >= self.resend_at:
            busy = self.active() or self._ahead
            self.resend_at = self.now + self.config.resend_tick * (1 if busy else IDLE)
            self._say_again()
        self.advance_rounds()

    def advance(self, ack: Ack) -> None:
        """The driver applied decisions; the next height begins, perhaps with other members."""
        if ack.members is not None:
            self._set_members(ack.members)
            self.votes = Votes(len(self.members))
        if ack.applied > self.applied:
            self.applied = ack.applied
        self.advance_rounds()

    # ------------------------------------------------------------------ outputs

    def has_ready(self) -> bool:
        """Is there anything to persist, send or apply?"""
        return bool(
            self.records
            or self.messages
            or self.after_persist
            or self.evidence
            or self._handed < self.height - 1
        )

    def ready(self) -> Ready:
        """What to persist, then to send, then to apply."""
        decided = [
            self.decisions[h] for h in range(self._handed + 1, self.height) if h in self.decisions
        ]
        self._handed = self.height - 1
        ready = Ready(
            self.records, self.messages, self.after_persist, decided, self.evidence,
            bool(self.records),
        )  # fmt: skip
        self.records, self.messages, self.after_persist, self.evidence = [], [], [], []
        return ready

    # ------------------------------------------------------------------ questions

    def proposer(self, height: int, round: int) -> int:
        """Whose turn it is."""
        return self.members[(height + round) % len(self.members)]

    def waits(self, digest: bytes) -> bool:
        """Whether the item with this SHA-256 is still to be ordered."""
        return digest in self.pool or digest in self._early

    def active(self) -> bool:
        """Is this height under way? Nothing happens while there is nothing to order."""
        return self.applied >= self.height - 1 and bool(
            self.pool or self.votes.proposals or self.signed or self.round or self.heard
        )

    def checkpoint(self) -> list[bytes]:
        """Records that can stand for the whole journal: decisions kept, own words, locks."""
        kept = [self._decided_records[height] for height in sorted(self._decided_records)]
        locks = [lock for lock in (self.locked, self.valid_lock) if lock.round != NO_ROUND]
        return kept + [journal.to_bytes(what) for what in (*self.signed.values(), *locks)]

    # ------------------------------------------------------------------ used by the rounds

    def start_height(self) -> None:
        """Nothing is known of the new height but what came early."""
        self.votes = Votes(len(self.members))
        self.heard = False  # did anyone say anything about this height?
        self.prevoted_at = self.precommitted_at = NO_ROUND
        if self.locked.height != self.height:
            self.locked = self.valid_lock = Lock(self.height, NO_ROUND, (), False)
        rounds.begin(self, 0)
        for early in self._ahead.pop(self.height, []):
            self.take(early)

    def take(self, what: Vote | Proposal) -> None:
        """Note a vote or proposal; contradictions become evidence."""
        who = what.voter if isinstance(what, Vote) else what.proposer
        if who not in self.members:
            return
        if what.height == self.height:
            if what.round <= self.round + MAX_ROUNDS_AHEAD:
                self.heard = True
                self._note(self.votes, what)
        elif what.height == self.height + 1:
            early = self._ahead.setdefault(what.height, [])
            if len(early) < 16 * len(self.members):
                early.append(what)
        elif what.height in self._past:
            self._note(self._past[what.height], what)

    def _note(self, votes: Votes, what: Vote | Proposal) -> None:
        if isinstance(what, Vote):
            found = votes.add(what)
        elif what.proposer == self.proposer(what.height, what.round):
            found = votes.add_proposal(what)
        else:
            return
        if found is not None:
            self.evidence.append(found)

    def speak(self, what: Vote | Proposal) -> None:
        """Sign, remember, say: never twice for one height, round and step."""
        step = what.step if isinstance(what, Vote) else Step.PROPOSE
        if self.id not in self.members:
            return  # it only hears
        key = what.height, what.round, step
        known = self.signed.get(key)
        if known is None:
            unsigned = what if isinstance(what, Vote) else vote_of(what)
            known = self.signed[key] = what._replace(signature=self.sign(unsigned))
            self.records.append(journal.to_bytes(known))
            self.take(known)
        self.after_persist.append(Message(ALL, known))

    def lock(self, round: int, batch: Batch, locked: bool) -> None:
        """A quorum prevoted `batch` in `round`."""
        lock = Lock(self.height, round, batch, locked)
        self.valid_lock = lock
        if locked:
            self.locked = lock
        self.records.append(journal.to_bytes(lock))

    def decide(self, round: int, digest: bytes) -> None:
        """A quorum precommitted: this height is over."""
        batch = self.votes.proposals[round].batch
        certificate = self.votes.of(Step.PRECOMMIT, round, digest)
        if self.round or self.votes.dissent(digest):
            self._show_votes()  # somebody voted for something else: all see what each has seen
        self.decided(Decision(self.height, round, batch, certificate))

    def decided(self, decision: Decision) -> None:
        """This height is over."""
        self.decisions[decision.height] = decision
        self._decided_records[decision.height] = record = journal.to_bytes(decision)
        self.records.append(record)
        for kept in (self.decisions, self._decided_records):
            kept.pop(decision.height - self.config.keep_heights, None)
        self._was_ordered(decision.batch)
        self._past[decision.height] = self.votes
        self._past.pop(decision.height - HEIGHTS_WATCHED, None)
        self.height += 1
        self.signed = {}
        self.start_height()

    def advance_rounds(self) -> None:
        """Apply the rules of the algorithm until none applies."""
        while self.applied >= self.height - 1 and (
            catching_up.learn(self) or rounds.apply_rules(self)
        ):
            pass

    def next_batch(self) -> Batch:
        """The oldest items that wait, within the limits."""
        batch: list[bytes] = []
        size = 0
        for item in self.pool.values():
            size += len(item)
            if batch and size > self.config.max_batch_bytes:
                break
            batch.append(item)
            if len(batch) == self.config.max_batch_items:
                break
        return tuple(batch)

    # ------------------------------------------------------------------ private

    def _set_members(self, members: Sequence[int]) -> None:
        if not members or len(set(members)) != len(members) or min(members) < 0:
            raise ConfigError(f"Members are distinct integers >= 0, at least one; got {members}.")
        self.members = tuple(sorted(members))

    def _pool_refusal(self, data: bytes) -> str:
        digest = sha256(data)
        if self.waits(digest):
            return "it waits already"
        if digest in self._ordered:
            return "it was ordered already"  # a late copy: clients make their items distinct
        if len(self.pool) >= self.config.max_pool_items:
            return f"{len(self.pool)} items wait to be ordered: max_pool_items is reached"
        if self._pool_bytes + len(data) > self.config.max_pool_bytes:
            return (
                f"{self._pool_bytes} bytes wait to be ordered, {len(data)} more would exceed "
                f"max_pool_bytes={self.config.max_pool_bytes}"
            )
        return ""

    def _add_item(self, data: bytes) -> None:
        self._pool_bytes += len(data)
        if self.valid(self.height, (data,)):
            self.pool[sha256(data)] = data
            return
        self._early[sha256(data)] = data
        if len(self._early) > EARLY_KEPT:
            self._pool_bytes -= len(self._early.pop(next(iter(self._early))))

    def _admit_early(self) -> None:
        """Time has passed: what may be ordered by now joins the others."""
        for digest, data in list(self._early.items()):
            if self.valid(self.height, (data,)):
                self.pool[digest] = self._early.pop(digest)

    def _was_ordered(self, batch: Batch) -> None:
        for item in batch:
            digest = sha256(item)
            self._ordered[digest] = None
            if self.pool.pop(digest, None) or self._early.pop(digest, None):
                self._pool_bytes -= len(item)
        while len(self._ordered) > ITEMS_REMEMBERED:
            del self._ordered[next(iter(self._ordered))]

    def _say_again(self) -> None:
        """Nothing moves: tell everyone where this server is and all that it has seen lately."""
        self.messages.append(Message(ALL, Status(self.height)))
        self._show_votes()
        if self.pool:
            self.messages.append(Message(ALL, Items(self.next_batch())))

    def _show_votes(self) -> None:
        rounds_ = {self.round, self.round - 1, self.valid_lock.round}
        wanted = sorted(round for round in rounds_ if round >= 0)
        proposals = [self.votes.proposals[r] for r in wanted if r in self.votes.proposals]
        votes = [vote for r in wanted for vote in self.votes.in_round(r)]
        if proposals or votes:
            self.after_persist.append(Message(ALL, Bundle(tuple(proposals), tuple(votes))))

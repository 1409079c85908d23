"""A bench for one BFT core: the other servers' words are written by hand, signatures are names."""

from consensus.bft.config import BftConfig
from consensus.bft.core import Bft
from consensus.bft.messages import (
    NO_ROUND,
    Bundle,
    Decision,
    Message,
    Proposal,
    Step,
    Vote,
    digest_of,
)  # fmt: skip

A, B = (b"a",), (b"b",)


def sign(vote):
    """What stands for a signature: it says who, and nothing is checked by the core."""
    return b"signed by %d" % vote.voter


class Bench:
    """Server `id` of n. Its Readys are obeyed at once; what it says is collected in `said`."""

    def __init__(self, id=0, n=4, records=(), valid=lambda height, batch: True, **knobs):
        self.journal = list(records)
        self.core = Bft(id, range(n), BftConfig(**knobs), records, sign, valid)
        self.said, self.decided, self.evidence = [], [], []
        self.obey()

    def obey(self):
        while self.core.has_ready():
            ready = self.core.ready()
            self.journal += ready.records
            self.said += [m.body for m in (*ready.messages, *ready.messages_after_persist)]
            self.decided += ready.committed_entries
            self.evidence += ready.evidence
            if ready.committed_entries:
                self.core.advance(ready.ack)

    def ask(self, data=b"x"):
        proposed = self.core.propose(data)
        self.obey()
        return proposed

    def hear(self, *bodies):
        for body in bodies:
            who = getattr(body, "voter", getattr(body, "proposer", 1))
            self.core.step(Message(self.core.id, body, who))
            self.obey()

    def tick(self, count=1):
        for _ in range(count):
            self.core.tick()
            self.obey()

    def votes(self, step):
        """Own votes of one step, each once: (round, digest)."""
        found = []
        for body in self.said:
            own = isinstance(body, Vote) and body.step is step and body.voter == self.core.id
            if own and (body.round, body.digest) not in found:
                found.append((body.round, body.digest))
        return found

    def prevotes(self):
        return self.votes(Step.PREVOTE)

    def precommits(self):
        return self.votes(Step.PRECOMMIT)

    def proposals(self):
        mine = (b for b in self.said if isinstance(b, Proposal) and b.proposer == self.core.id)
        return list(dict.fromkeys(mine))


def proposal(round, batch, by, pol=NO_ROUND, height=1):
    return Proposal(height, round, batch, pol, by, b"signed by %d" % by)


def vote(step, round, what, by, pol=NO_ROUND, height=1):
    """what: a batch, or NIL."""
    digest = digest_of(what) if what else what
    return Vote(step, height, round, digest or b"", pol, by, b"signed by %d" % by)


def prevotes(round, what, *servers, height=1):
    return [vote(Step.PREVOTE, round, what, server, height=height) for server in servers]


def precommits(round, what, *servers, height=1):
    return [vote(Step.PRECOMMIT, round, what, server, height=height) for server in servers]


def decision(batch, *servers, height=1, round=0):
    return Decision(height, round, batch, tuple(precommits(round, batch, *servers, height=height)))


def bundle(*votes):
    return Bundle((), tuple(votes))

"""Catching up: decided heights, each with its proof, from whoever has them to whoever lacks them.

Paper: none; our derivation (a certificate convinces anybody, so the sender need not be trusted).
"""

from __future__ import annotations

from consensus.bft.messages import Decision, Message, Status, Step, digest_of
from consensus.bft.quorum import quorum

BURST = 8  # heights sent at once; one burst a tick, lest a server make others send without end


def help_out(core, server: int, height: int) -> None:
    """Send a server that is at `height` some of what it lacks: up to the next multiple of 8."""
    if core.helped.get(server) == core.now:
        return
    core.helped[server] = core.now
    for number in range(height, min(core.height, height - height % BURST + BURST)):
        decision = core.decisions.get(number) or core.earlier(number)
        if decision is not None:
            core.messages.append(Message(server, decision))


def take(core, sender: int, decision: Decision) -> None:
    """Another server proves what was decided; a burst may run ahead of what is applied here."""
    if core.height <= decision.height < core.height + 2 * BURST and _proves(core, decision):
        core.proofs.setdefault(decision.height, (sender, decision))


def learn(core) -> bool:
    """Decide this height by a proof that waits; False if there is none."""
    sender, decision = core.proofs.pop(core.height, (0, None))
    if decision is None or not _proves(core, decision):
        return False
    for vote in decision.certificate:
        core.take(vote)
    core.decided(decision)
    for height in [height for height in core.proofs if height < core.height]:
        del core.proofs[height]
    if not core.height % BURST:  # a whole burst: there may be more
        core.messages.append(Message(sender, Status(core.height)))
    return True


def _proves(core, decision: Decision) -> bool:
    digest = digest_of(decision.batch)
    voters = {
        vote.voter
        for vote in decision.certificate
        if vote[:4] == (Step.PRECOMMIT, decision.height, decision.round, digest)
    }
    return len(voters & set(core.members)) >= quorum(len(core.members))

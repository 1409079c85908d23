"""Rounds: the rules by which a server votes, line by line of the algorithm.

Paper: Buchman, Kwon and Milosevic, "The latest gossip on BFT consensus", arXiv 1807.04938,
Algorithm 1 (line numbers in the comments).
"""

from __future__ import annotations

from consensus.bft.messages import NIL, NO_ROUND, Proposal, Step, Vote, digest_of


def begin(core, round: int) -> None:
    """Lines 11-21, StartRound; the proposer speaks in `apply_rules`, once it has something."""
    core.round, core.step_now = round, Step.PROPOSE
    core.timer = None  # (due, step) of the time-out that runs
    core.resend_at = core.now + core.config.resend_tick


def resume(core) -> None:
    """After a restart: go on in the latest round that this server had signed anything of."""
    mine = [key for key in core.signed if key[0] == core.height]
    if mine:
        last = max(key[1] for key in mine)
        begin(core, last)
        core.step_now = max(
            (step for _, round, step in mine if round == last), default=Step.PROPOSE
        )


def time_outs(core) -> None:
    """Lines 57-67."""
    if core.timer is None or core.now < core.timer[0]:
        return
    step, core.timer = core.timer[1], None
    if step is Step.PROPOSE and core.step_now is Step.PROPOSE:
        _prevote(core, NIL, NO_ROUND)
    elif step is Step.PREVOTE and core.step_now is Step.PREVOTE:
        _precommit(core, NIL)
    elif step is Step.PRECOMMIT:
        begin(core, core.round + 1)


def apply_rules(core) -> bool:
    """One rule that applies; False if none does."""
    if not core.active():
        return False
    decided = core.votes.decided()
    if decided is not None:  # lines 49-54
        core.decide(*decided)
        return True
    later = core.votes.later_round(core.round)
    if later is not None:  # lines 55-56
        begin(core, later)
        return True
    if core.step_now is Step.PROPOSE and _propose(core):
        return True
    return _on_prevotes(core) or _on_precommits(core)


def _propose(core) -> bool:
    """Lines 14-33: propose in one's turn, prevote what is proposed."""
    votes, round = core.votes, core.round
    if core.proposer(core.height, round) == core.id and round not in votes.proposals:
        known = core.valid_lock
        batch = known.batch if known.round != NO_ROUND else core.next_batch()
        core.speak(Proposal(core.height, round, batch, known.round, core.id))
        return True
    proposal = votes.proposals.get(round)
    if proposal is None:
        _start_timer(core, Step.PROPOSE)
        return False
    digest, pol = votes.digests[round], proposal.pol_round
    if pol == NO_ROUND:  # lines 22-27
        free = core.locked.round == NO_ROUND
    elif votes.has_quorum(Step.PREVOTE, pol, digest):  # lines 28-33
        free = core.locked.round <= pol
    else:
        _start_timer(core, Step.PROPOSE)
        return False
    same = core.locked.round != NO_ROUND and digest_of(core.locked.batch) == digest
    good = (free or same) and core.valid(core.height, proposal.batch)
    _prevote(core, digest if good else NIL, pol if good else NO_ROUND)
    return True


def _on_prevotes(core) -> bool:
    """Lines 34-46."""
    votes, round = core.votes, core.round
    digest = votes.digests.get(round)
    if (
        digest is not None
        and core.step_now >= Step.PREVOTE
        and core.valid_lock.round < round
        and votes.has_quorum(Step.PREVOTE, round, digest)
    ):
        batch = votes.proposals[round].batch
        locks = core.step_now is Step.PREVOTE
        core.lock(round, batch, locks)
        if locks:
            _precommit(core, digest)
        return True
    if core.step_now is Step.PREVOTE:
        if votes.has_quorum(Step.PREVOTE, round, NIL):
            _precommit(core, NIL)
            return True
        if votes.quorum_voted(Step.PREVOTE, round):
            _start_timer(core, Step.PREVOTE)
    return False


def _on_precommits(core) -> bool:
    """Lines 47-48."""
    if core.votes.quorum_voted(Step.PRECOMMIT, core.round):
        _start_timer(core, Step.PRECOMMIT)
    return False


def _prevote(core, digest: bytes, pol_round: int) -> None:
    core.step_now = Step.PREVOTE
    core.speak(Vote(Step.PREVOTE, core.height, core.round, digest, pol_round, core.id))


def _precommit(core, digest: bytes) -> None:
    core.step_now = Step.PRECOMMIT
    core.speak(Vote(Step.PRECOMMIT, core.height, core.round, digest, NO_ROUND, core.id))


def _start_timer(core, step: Step) -> None:
    """Unless it, or the one of a later step, runs already in this round."""
    if core.timer is not None and core.timer[1] >= step:
        return
    wait = core.config.propose_tick if step is Step.PROPOSE else core.config.vote_tick
    core.timer = (core.now + wait + core.round * core.config.growth_tick, step)

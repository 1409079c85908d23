"""Election: campaigns, votes and pre-votes.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Sections 3.4, 3.6.1, 9.6.
"""

from __future__ import annotations

from consensus.raft import leading
from consensus.raft.messages import NONE, TRANSFER, EntryKind, Kind, Message, Role
from consensus.raft.quorum import VoteResult
from consensus.raft.state import State


def campaign(raft: State, transfer: bool = False) -> None:
    """Stand for election, unless that could only do harm.

    A committed configuration change that is not applied yet would be voted on by the wrong
    servers. A transferred leadership skips the pre-vote and the leases.
    """
    if raft.is_leader() or not raft.promotable() or unapplied_conf_change(raft):
        return
    if raft.config.pre_vote and not transfer:
        _ask(raft, Kind.PREVOTE)
    else:
        _ask(raft, Kind.VOTE, TRANSFER if transfer else b"")


def unapplied_conf_change(raft: State) -> bool:
    """Is a configuration change committed but not applied?"""
    log = raft.log
    first = max(log.applied, log.offset) + 1
    entries = log.entries[first - log.offset - 1 : log.committed - log.offset]
    return any(entry.kind is EntryKind.CONFIG for entry in entries)


def _ask(raft: State, kind: Kind, context: bytes = b"") -> None:
    """Become (pre-)candidate and ask every voter, oneself through one's own disk."""
    if kind is Kind.PREVOTE:
        raft.become_precandidate()
        term, answer = raft.term + 1, Kind.PREVOTE_RESP
    else:
        raft.become_candidate()
        term, answer = raft.term, Kind.VOTE_RESP
    log = raft.log
    request = Message(
        kind,
        NONE,
        term=term,
        index=log.last,
        log_term=log.last_term,
        context=context,
        commit=log.committed,
        commit_term=log.term(log.committed),
    )
    for voter in raft.tracker.voters:
        if voter == raft.id:
            raft.send(Message(answer, voter, term=term))
        else:
            raft.send(request._replace(to=voter))


def ignored_in_lease(raft: State, message: Message) -> bool:
    """Voters loyal to a live leader do not even look at requests, transfers excepted."""
    return raft.in_lease() and message.context != TRANSFER


def answer(raft: State, message: Message) -> None:
    """Answer a request of a term >= one's own.

    A grant carries the term asked for (a pre-vote's future one), a refusal one's own. A server
    that takes itself for a learner answers too: it may have been made a voter without knowing,
    and candidates count voters only.
    """
    prevote = message.kind is Kind.PREVOTE
    kind = Kind.PREVOTE_RESP if prevote else Kind.VOTE_RESP
    free = (
        raft.vote == message.sender
        or (raft.vote == NONE and raft.leader == NONE)
        or (prevote and message.term > raft.term)
    )
    if not (free and raft.log.up_to_date(message.index, message.log_term)):
        log = raft.log
        refusal = Message(kind, message.sender, term=raft.term, reject=True, commit=log.committed)
        raft.send(refusal._replace(commit_term=log.term(log.committed)))
        _learn_commit(raft, message)
        return
    raft.send(Message(kind, message.sender, term=message.term))
    if not prevote:
        raft.election_elapsed, raft.vote = 0, message.sender


def count(raft: State, message: Message) -> None:
    """An answer to the running (pre-)election."""
    raft.tracker.record_vote(message.sender, not message.reject)
    if message.reject:
        _learn_commit(raft, message)
    result = raft.tracker.election()
    if result is VoteResult.LOST:
        raft.become_follower(raft.term, NONE)
    elif result is VoteResult.WON and raft.role is Role.PRECANDIDATE:
        _ask(raft, Kind.VOTE)
    elif result is VoteResult.WON:
        leading.begin(raft)


def _learn_commit(raft: State, message: Message) -> None:
    """Whoever refuses a vote, or is refused one, learns what the other knows to be committed.

    Otherwise a server that does not know that it left a joint configuration could need the vote
    of one that left with a longer log and will never stand for election again.
    """
    if message.commit <= raft.log.committed:
        return
    if not raft.log.has(message.commit, message.commit_term):
        return
    raft.log.commit_to(message.commit)
    if raft.role is not Role.FOLLOWER and unapplied_conf_change(raft):
        raft.become_follower(raft.term, NONE)

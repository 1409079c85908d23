"""One test per sentence of the thesis' condensed summary, Figure 3.1, in its order.

Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014. Pre-vote and check-quorum, which
come later in the thesis, are off.
"""

import pytest

from consensus.raft.messages import NONE, Entry, EntryKind, Kind, Message, Role
from tests.consensus.raft.bench import Trio, elect, flush, log_of, of, server

PLAIN = {"pre_vote": False, "check_quorum": False}


def plain(**more):
    return server(**{**PLAIN, **more})


def append(term, index, log_term, entries=(), commit=0, sender=1):
    return Message(Kind.APP, 0, sender, term, log_term, index, commit=commit, entries=list(entries))


def vote(term, index=9, log_term=9, sender=1):
    return Message(Kind.VOTE, 0, sender, term, log_term, index)


def answered(core, message, kind):
    core.step(message)
    return of(flush(core), kind)


# ---------------------------------------------------------------------- RequestVote, receiver


def test_request_vote_1_no_vote_for_an_older_term():
    core = plain(term=5)
    assert answered(core, vote(4), Kind.VOTE_RESP) == [] and core.vote == NONE


@pytest.mark.parametrize(
    ("voted", "index", "log_term", "granted"),
    [
        (NONE, 3, 2, True), (1, 3, 2, True), (2, 3, 2, False),  # votedFor null or the candidate
        (NONE, 2, 2, False), (NONE, 9, 1, False), (NONE, 1, 3, True),  # at least as up to date
    ],
)  # fmt: skip
def test_request_vote_2_one_vote_for_a_log_at_least_as_up_to_date(voted, index, log_term, granted):
    """Its own log: terms 1, 2, 2."""
    core = plain(terms=(1, 2, 2), term=4, vote=voted)
    (answer,) = answered(core, vote(4, index, log_term), Kind.VOTE_RESP)
    assert answer.reject is not granted
    assert core.vote == (1 if granted else voted)


# ---------------------------------------------------------------------- AppendEntries, receiver


def test_append_entries_1_nothing_of_an_older_term_is_taken():
    core = plain(terms=(1,), term=3)
    assert (
        answered(core, append(2, 1, 1, [Entry(2, 2, EntryKind.NORMAL, b"")]), Kind.APP_RESP) == []
    )
    assert core.log.last == 1


@pytest.mark.parametrize(("index", "log_term"), [(3, 1), (2, 2)])
def test_append_entries_2_refused_without_the_entry_before(index, log_term):
    core = plain(terms=(1, 1), term=2)
    (answer,) = answered(core, append(2, index, log_term), Kind.APP_RESP)
    assert answer.reject and core.log.last == 2


def test_append_entries_3_a_conflict_and_all_that_follows_is_deleted():
    core = plain(terms=(1, 1, 1), term=2)
    core.step(append(2, 1, 1, [Entry(2, 2, EntryKind.NORMAL, b"")]))
    assert [entry.term for entry in core.log.entries] == [1, 2]


def test_append_entries_4_what_is_not_in_the_log_is_appended():
    core = plain(terms=(1,), term=1)
    core.step(append(1, 0, 0, log_of(1, 1, 1)))
    assert core.log.last == 3


@pytest.mark.parametrize(("told", "commit"), [(2, 2), (9, 3)])
def test_append_entries_5_commit_is_the_lesser_of_the_leaders_and_the_last_new(told, commit):
    """Entries 1 .. 3 are proved equal by this append; 4 and 5 are not."""
    core = plain(terms=(1, 1, 1, 1, 1), term=1)
    core.step(append(1, 0, 0, log_of(1, 1, 1), commit=told))
    assert core.log.committed == commit


# ---------------------------------------------------------------------- all servers


def test_all_what_is_committed_is_applied_in_order():
    trio = Trio(**PLAIN)
    trio.cores[0].campaign()
    trio.settle()
    for data in (b"a", b"b", b"c"):
        trio.cores[0].propose(data)
        trio.settle()
    applied = [[entry.data for entry in each if entry.data] for each in trio.applied]
    assert applied == [[b"a", b"b", b"c"]] * 3


@pytest.mark.parametrize(
    "kind", [Kind.VOTE, Kind.APP, Kind.HEARTBEAT, Kind.APP_RESP, Kind.VOTE_RESP]
)
@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_all_a_newer_term_is_adopted_and_makes_a_follower(kind, role):
    core = plain(term=1)
    if role == "candidate":
        core.campaign()
    elif role == "leader":
        elect(core)
    flush(core)
    core.step(Message(kind, 0, 1, 9, log_term=0, index=0))
    assert (core.term, core.role) == (9, Role.FOLLOWER)


# ---------------------------------------------------------------------- followers


def test_followers_answer_candidates_and_leaders():
    core = plain(term=1)
    assert answered(core, append(1, 0, 0), Kind.APP_RESP)
    assert answered(core, Message(Kind.HEARTBEAT, 0, 1, 1), Kind.HEARTBEAT_RESP)
    assert answered(core, vote(2), Kind.VOTE_RESP)


@pytest.mark.parametrize(
    ("message", "candidate"),
    [(None, True), (append(1, 0, 0), False), (Message(Kind.HEARTBEAT, 0, 1, 1), False), (vote(1), False)],
)  # fmt: skip
def test_followers_that_hear_nothing_and_vote_for_nobody_campaign(message, candidate):
    """Time-out 10 ticks; something is heard, or not, after 9."""
    core = plain(term=1)
    for _ in range(9):
        core.tick()
    if message is not None:
        core.step(message)
    core.tick()
    assert (core.role is Role.CANDIDATE) is candidate


def test_a_refused_vote_does_not_reset_the_time_out():
    core = plain(terms=(1, 1), term=2)
    for _ in range(9):
        core.tick()
    core.step(vote(3, index=0, log_term=0))
    core.tick()
    assert core.role is Role.CANDIDATE


# ---------------------------------------------------------------------- candidates


def test_candidates_raise_the_term_vote_for_themselves_and_ask_all():
    core = plain(term=4)
    core.election_elapsed = 7
    core.campaign()
    requests = of(flush(core), Kind.VOTE)
    assert (core.term, core.vote, core.election_elapsed) == (5, 0, 0)
    assert [(m.to, m.term) for m in requests] == [(1, 5), (2, 5)]


def test_candidates_with_a_majority_lead():
    core = plain(voters=range(5))
    core.campaign()
    flush(core)
    for voter, leads in ((1, False), (2, True)):
        core.step(Message(Kind.VOTE_RESP, 0, voter, core.term))
        assert core.is_leader() is leads


def test_candidates_follow_a_leader_of_their_term():
    core = plain()
    core.campaign()
    flush(core)
    core.step(append(core.term, 0, 0, sender=2))
    assert (core.role, core.leader) == (Role.FOLLOWER, 2)


def test_candidates_whose_time_runs_out_begin_again():
    core = plain()
    core.campaign()
    term = core.term
    for _ in range(core.timeout):
        core.tick()
    assert (core.role, core.term) == (Role.CANDIDATE, term + 1)


# ---------------------------------------------------------------------- leaders


def test_leaders_send_to_all_at_once_and_again_while_idle():
    core = plain()
    assert [m.to for m in of(elect(core), Kind.APP)] == [1, 2]
    core.tick()
    assert [m.to for m in of(flush(core), Kind.HEARTBEAT)] == [1, 2]


def test_leaders_append_a_command_and_answer_once_it_is_applied():
    trio = Trio(**PLAIN)
    trio.cores[0].campaign()
    trio.settle()
    proposed = trio.cores[0].propose(b"x")
    assert (proposed.status, proposed.index) == ("accepted", 2)
    trio.obey()
    assert b"x" not in [entry.data for entry in trio.applied[0]]
    trio.settle()
    assert b"x" in [entry.data for entry in trio.applied[0]]


def test_leaders_send_what_follows_next_index_and_move_it_on_success():
    core = plain()
    elect(core)
    core.step(Message(Kind.APP_RESP, 0, 1, core.term, index=1))
    flush(core)
    core.propose_many([b"a", b"b"])
    (sent,) = (m for m in of(flush(core), Kind.APP) if m.to == 1)
    assert [entry.index for entry in sent.entries] == [2, 3]
    core.step(Message(Kind.APP_RESP, 0, 1, core.term, index=3))
    progress = core.tracker.progress[1]
    assert (progress.match, progress.next) == (3, 4)


def test_leaders_go_back_and_try_again_on_refusal():
    core = plain(terms=(1, 1, 1))
    elect(core)
    refusal = Message(
        Kind.APP_RESP, 0, 1, core.term, log_term=1, index=3, reject=True, reject_hint=1
    )
    core.step(refusal)
    again = [m for m in of(flush(core), Kind.APP) if m.to == 1]
    assert [(m.index, m.log_term) for m in again] == [(1, 1)]


def test_leaders_commit_what_a_majority_matches_if_it_is_of_their_term():
    core = plain(terms=(1, 1))
    elect(core)
    assert core.term == 2
    core.step(Message(Kind.APP_RESP, 0, 1, core.term, index=2))
    flush(core)
    assert core.log.committed == 0
    core.step(Message(Kind.APP_RESP, 0, 1, core.term, index=3))
    assert core.log.committed == 3

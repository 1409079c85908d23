"""The fifteen rules that implementations get wrong, one or more tests each.

`test_mutations` breaks every rule on purpose and demands that these tests notice.
"""

import pytest

from consensus.raft.confchange import ConfChange, Op, Transition, decode_conf, encode_conf
from consensus.raft.messages import (
    NONE,
    TRANSFER,
    Ack,
    ConfState,
    Entry,
    EntryKind,
    Kind,
    Message,
    Role,
    Snapshot,
)  # fmt: skip
from consensus.raft.progress import Pace
from fedalign.core.errors import IntegrityError
from tests.consensus.raft.bench import Trio, elect, flush, log_of, of, server


def append(term, index, log_term, entries=(), commit=0, sender=1, to=0):
    return Message(
        Kind.APP, to, sender, term, log_term, index, commit=commit, entries=list(entries)
    )


def acked(core, follower, index):
    core.step(Message(Kind.APP_RESP, core.id, follower, core.term, index=index))
    return flush(core)


# ---------------------------------------------------------------------- 1: truncate only at conflict


def test_rule_01_an_old_append_that_matches_does_not_shorten_the_log():
    """Entries 1-5 are here; a late copy of the append with entries 2-3 must leave 4 and 5."""
    entries = log_of(1, 1, 1, 1, 1)
    core = server(terms=(1, 1, 1, 1, 1))
    core.step(append(1, 1, 1, entries[1:3]))
    assert core.log.last == 5
    assert of(flush(core), Kind.APP_RESP)[0].index == 3  # and no more than it proves is claimed


def test_rule_01_an_empty_append_does_not_shorten_the_log():
    core = server(terms=(1, 1, 1))
    core.step(append(1, 1, 1))
    assert core.log.last == 3


def test_rule_01_the_first_conflict_and_all_after_it_are_replaced():
    """Terms 1 1 2 2 2 against 1 1 3: entries 3-5 go, 1-2 stay the same objects."""
    core = server(terms=(1, 1, 2, 2, 2))
    kept = core.log.entries[:2]
    core.step(append(3, 0, 0, log_of(1, 1, 3)))
    assert [entry.term for entry in core.log.entries] == [1, 1, 3]
    assert all(a is b for a, b in zip(core.log.entries, kept, strict=False))


# ---------------------------------------------------------------------- 2: never below commit


def test_rule_02_a_cut_at_or_below_commit_stops_the_server():
    core = server(terms=(1, 1, 1), commit=2)
    with pytest.raises(IntegrityError, match="cut at 2, but entries up to 2 are committed"):
        core.log.append([Entry(2, 2, EntryKind.NORMAL, b"")])


def test_rule_02_an_append_that_contradicts_committed_entries_stops_the_server():
    """Commit 2; a leader says entry 3 follows entry 2 but resends 2 with another term."""
    core = server(terms=(1, 1, 1), commit=2)
    with pytest.raises(IntegrityError):
        core.log.accept(1, 1, [Entry(2, 2, EntryKind.NORMAL, b"")])


# ---------------------------------------------------------------------- 3: only own-term entries


def test_rule_03_figure_8_an_old_entry_on_a_majority_is_not_committed():
    """Thesis Figure 3.7: entry (2, term 2) is on 3 of 5, leader of term 4 may not commit it.

    Once its own entry (3, term 4) is on three servers, both are.
    """
    core = server(voters=range(5), terms=(1, 2), term=3, pre_vote=False)
    elect(core)
    assert (core.term, core.log.last) == (4, 3)
    acked(core, 1, 2)
    acked(core, 2, 2)
    assert core.log.committed == 0
    acked(core, 1, 3)
    assert core.log.committed == 0
    acked(core, 2, 3)
    assert core.log.committed == 3


def test_rule_03_a_new_leader_appends_an_empty_entry():
    core = server(terms=(1, 1))
    sent = of(elect(core), Kind.APP)
    assert core.log.entries[-1] == Entry(core.term, 3, EntryKind.NORMAL, b"")
    assert [(m.to, m.index, len(m.entries)) for m in sent] == [(1, 2, 1), (2, 2, 1)]


# ---------------------------------------------------------------------- 4: disk before promise


def test_rule_04_a_vote_leaves_after_the_disk_has_it():
    core = server()
    core.step(Message(Kind.VOTE, 0, 1, 1))
    ready = core.ready()
    assert ready.messages == [] and ready.must_sync
    assert ready.hard_state[:2] == (1, 1)
    assert [m.kind for m in ready.messages_after_persist] == [Kind.VOTE_RESP]


def test_rule_04_an_append_is_acknowledged_after_the_disk_has_it():
    core = server(term=1)
    core.step(append(1, 0, 0, log_of(1)))
    ready = core.ready()
    assert ready.messages == [] and ready.must_sync and len(ready.entries) == 1
    assert [m.kind for m in ready.messages_after_persist] == [Kind.APP_RESP]


def test_rule_04_a_candidates_own_vote_counts_after_its_disk_has_it():
    core = server(voters=(0,), pre_vote=False)
    core.campaign()
    ready = core.ready()
    assert core.role is Role.CANDIDATE and ready.must_sync
    core.advance(ready.ack)
    assert core.is_leader()


def test_rule_04_a_leaders_own_entry_counts_after_its_disk_has_it():
    """Three servers, one follower has entry 2: with the leader's disk that is two, without one."""
    core = server()
    elect(core)
    acked(core, 1, 1)
    assert core.log.committed == 1
    core.propose(b"x")
    ready = core.ready()
    core.step(Message(Kind.APP_RESP, 0, 1, core.term, index=2))
    assert core.log.committed == 1
    core.advance(ready.ack)
    assert core.log.committed == 2


# ---------------------------------------------------------------------- 5: stale disk reports


def test_rule_05_an_acknowledgement_of_an_earlier_term_is_ignored():
    """Write A = (1, term 1) is under way, B = (1, term 2) and then A again overtake it.

    A's first report names exactly what the log holds again, but the disk may hold B by now.
    """
    core = server(term=1, check_quorum=False, pre_vote=False)
    first, second = log_of(1), log_of(2)
    core.step(append(1, 0, 0, first))
    write_a = core.ready()
    core.step(append(2, 0, 0, second, sender=2))
    write_b = core.ready()
    core.step(append(3, 0, 0, first, sender=1))
    write_a_again = core.ready()
    core.advance(write_a.persisted)
    assert core.log.stable == 0
    core.advance(write_b.persisted)
    assert core.log.stable == 0
    core.advance(write_a_again.persisted)
    assert core.log.stable == 1


def test_rule_05_an_acknowledgement_of_overwritten_entries_is_ignored():
    """Same term, other content: the report names (1, term 1), the log holds (1, term 2)."""
    core = server(terms=(), term=2)
    core.log.append(log_of(1))
    ready = core.ready()
    core.log.append(log_of(2))
    core.advance(ready.persisted)
    assert core.log.stable == 0


# ---------------------------------------------------------------------- 6: pre-vote terms


def test_rule_06_a_pre_vote_changes_no_term():
    asked, asking = server(term=1), server(id=1, term=1)
    asking.campaign()
    assert (asking.term, asking.role) == (1, Role.PRECANDIDATE)
    request = of(flush(asking), Kind.PREVOTE)[0]
    assert request.term == 2
    asked.step(request)
    assert (asked.term, asked.vote) == (1, NONE)
    answer = of(flush(asked), Kind.PREVOTE_RESP)[0]
    assert (answer.term, answer.reject) == (2, False)  # a grant carries the future term


def test_rule_06_a_refused_pre_vote_carries_the_refusers_term():
    """Its log is longer; and one of a later term makes the asker a follower of that term."""
    core = server(terms=(1, 3), term=5)
    core.step(Message(Kind.PREVOTE, 0, 1, 6, log_term=1, index=9))
    answer = of(flush(core), Kind.PREVOTE_RESP)[0]
    assert (answer.term, answer.reject) == (5, True)
    core.step(Message(Kind.PREVOTE, 0, 1, 3))
    assert of(flush(core), Kind.PREVOTE_RESP)[0].term == 5


# ---------------------------------------------------------------------- 7: the lease


@pytest.mark.parametrize("kind", [Kind.VOTE, Kind.PREVOTE])
def test_rule_07_requests_within_the_lease_are_ignored(kind):
    core = server(term=1)
    core.step(Message(Kind.HEARTBEAT, 0, 2, 1))
    flush(core)
    core.step(Message(kind, 0, 1, 2))
    assert flush(core) == [] and core.term == 1
    for _ in range(core.config.election_tick):  # the lease runs out
        core.election_elapsed += 1
    core.step(Message(kind, 0, 1, 2))
    assert not flush(core)[0].reject


def test_rule_07_a_transfer_ignores_the_lease():
    core = server(term=1)
    core.step(Message(Kind.HEARTBEAT, 0, 2, 1))
    flush(core)
    core.step(Message(Kind.VOTE, 0, 1, 2, context=TRANSFER))
    assert [m.kind for m in flush(core)] == [Kind.VOTE_RESP] and core.vote == 1


# ---------------------------------------------------------------------- 8: leaders of the past


@pytest.mark.parametrize("knobs", [{"check_quorum": False}, {"pre_vote": False}, {}])
@pytest.mark.parametrize("kind", [Kind.APP, Kind.HEARTBEAT])
def test_rule_08_a_leader_of_an_older_term_is_answered(kind, knobs):
    core = server(term=5, **knobs)
    core.step(Message(kind, 0, 1, 3))
    answer = flush(core)
    assert [(m.kind, m.to, m.term, m.entries) for m in answer] == [(Kind.APP_RESP, 1, 5, ())]


def test_rule_08_a_server_that_was_cut_off_in_a_higher_term_gets_back():
    """Without pre-vote, server 2 counts terms up alone; the answer deposes the old leader."""
    trio = Trio(pre_vote=False)
    trio.cores[0].campaign()
    trio.settle()
    trio.isolate(2)
    for _ in range(3):
        trio.cores[2].campaign()
        trio.settle()
    trio.cut.clear()
    trio.cores[0].propose(b"x")
    for _ in range(40):
        for core in trio.cores:
            core.tick()
        trio.settle()
    assert len({core.log.last for core in trio.cores}) == 1
    assert len({core.term for core in trio.cores}) == 1


# ---------------------------------------------------------------------- 9: who may not campaign


def test_rule_09_no_campaign_with_a_committed_change_not_applied():
    change = Entry(1, 1, EntryKind.CONFIG, encode_conf(ConfState((0, 1, 2, 3))))
    core = server(term=1)
    core.step(append(1, 0, 0, [change], commit=1))
    ready = core.ready()
    assert ready.committed_entries == [change]
    core.advance(ready.persisted)
    core.campaign()
    assert core.role is Role.FOLLOWER
    core.advance(ready.applied)
    core.campaign()
    assert core.role is Role.PRECANDIDATE and core.tracker.voters == (0, 1, 2, 3)


def test_rule_09_no_campaign_while_a_snapshot_is_installed():
    core = server(term=2)
    snapshot = Snapshot(7, 2, ConfState((0, 1, 2)), b"state")
    core.step(Message(Kind.SNAP, 0, 1, 2, snapshot=snapshot))
    ready = core.ready()
    core.campaign()
    assert core.role is Role.FOLLOWER
    core.advance(ready.ack)
    core.campaign()
    assert core.role is Role.PRECANDIDATE


# ---------------------------------------------------------------------- 10: one change at a time


def test_rule_10_a_second_change_is_refused_until_the_first_is_applied():
    core = server(terms=(1,))
    elect(core)
    assert core.propose_conf_change(ConfChange(((Op.ADD_VOTER, 3),))).status == "dropped"
    acked(core, 1, 2)  # inherited entries may hold a change: wait until they are applied
    assert core.propose_conf_change(ConfChange(((Op.ADD_VOTER, 3),))).status == "accepted"
    flush(core)
    again = core.propose_conf_change(ConfChange(((Op.ADD_VOTER, 4),)))
    assert again.status == "dropped" and "pending up to index 3" in again.reason
    acked(core, 1, 3)
    assert core.conf.voters == (0, 1, 2, 3)
    assert core.propose_conf_change(ConfChange(((Op.ADD_VOTER, 4),))).status == "accepted"


@pytest.mark.parametrize("first", [(1, 2), (3, 4)])
def test_rule_10_a_joint_change_needs_both_majorities_and_leaves_by_itself(first):
    """{0,1,2} -> {0,3,4}: entry 3 on one whole half is not committed, with one of the other it is."""
    core = server()
    elect(core)
    acked(core, 1, 1)
    change = ConfChange(
        ((Op.REMOVE, 1), (Op.REMOVE, 2), (Op.ADD_VOTER, 3), (Op.ADD_VOTER, 4)), Transition.AUTO
    )
    core.propose_conf_change(change)
    flush(core)
    acked(core, 1, 2)
    assert core.conf == ConfState((0, 3, 4), (0, 1, 2), (), (), True)
    assert decode_conf(core.log.entries[-1].data) == ConfState((0, 3, 4))  # already proposed
    for follower in first:
        acked(core, follower, 3)
        assert core.log.committed == 2
    acked(core, 3 if first == (1, 2) else 1, 3)
    assert core.log.committed == 3 and core.conf == ConfState((0, 3, 4))


def test_rule_10_votes_of_learners_are_not_counted():
    """One voter of two and two learners say yes: pending, not won."""
    core = server(conf=ConfState((0, 1, 4), learners=(2, 3)), pre_vote=False)
    core.campaign()
    flush(core)
    for learner in (2, 3):
        core.step(Message(Kind.VOTE_RESP, 0, learner, core.term))
    assert core.role is Role.CANDIDATE
    core.step(Message(Kind.VOTE_RESP, 0, 4, core.term))
    assert core.is_leader()


def test_rule_10_learners_do_not_campaign_and_do_not_count_for_commits():
    learner = server(id=2, conf=ConfState((0, 1), learners=(2,)))
    learner.campaign()
    assert learner.role is Role.FOLLOWER
    leader = server(conf=ConfState((0, 1), learners=(2,)))
    elect(leader)
    acked(leader, 2, 1)
    assert leader.log.committed == 0


# ---------------------------------------------------------------------- 11: leadership transfer


def test_rule_11_proposals_are_refused_while_leadership_is_transferred():
    core = server()
    elect(core)
    core.transfer_leadership(1)
    proposed = core.propose(b"x")
    assert proposed.status == "dropped" and "transferred to server 1" in proposed.reason


def test_rule_11_the_target_campaigns_once_its_log_is_complete():
    core = server()
    elect(core)
    core.transfer_leadership(1)
    assert of(flush(core), Kind.TIMEOUT_NOW) == []
    assert [m.to for m in of(acked(core, 1, 1), Kind.TIMEOUT_NOW)] == [1]


def test_rule_11_a_transfer_is_given_up_after_an_election_time_out():
    core = server(check_quorum=False)
    elect(core)
    core.transfer_leadership(1)
    for _ in range(core.config.election_tick):
        assert core.transferee == 1
        core.tick()
    assert core.transferee == NONE
    assert core.propose(b"x").status == "accepted"


# ---------------------------------------------------------------------- 12: reads


def test_rule_12_no_read_before_an_entry_of_the_term_is_committed():
    core = server(terms=(1, 1), commit=1)
    elect(core)
    core.read_index(b"read")
    assert not core.pending_reads and of(flush(core), Kind.HEARTBEAT) == []
    beats = of(acked(core, 1, 3), Kind.HEARTBEAT)
    assert [m.context for m in beats] == [b"read", b"read"]
    core.step(Message(Kind.HEARTBEAT_RESP, 0, 2, core.term, context=b"read"))
    assert core.ready().read_states == [(3, b"read")]


def test_rule_12_lease_reads_answer_at_once_but_not_before_that_either():
    core = server(read_only="lease")
    elect(core)
    core.read_index(b"early")
    assert not core.read_states
    core.step(Message(Kind.APP_RESP, 0, 1, core.term, index=1))
    core.read_index(b"later")
    assert core.ready().read_states == [(1, b"early"), (1, b"later")]


# ---------------------------------------------------------------------- 13: hints and pace


def test_rule_13_a_hint_skips_whole_terms():
    """Leader 1,1,4,4,4,6,6 probes at (7, 6); follower 1,1,2,2,3,3,3 hints (7, 3).

    The leader's last entry of a term <= 3 at or before 7 is (2, 1), which matches.
    """
    follower = server(id=1, terms=(1, 1, 2, 2, 3, 3, 3))
    follower.step(append(7, 7, 6, sender=0, to=1))
    refused = of(flush(follower), Kind.APP_RESP)[0]
    assert (refused.reject, refused.reject_hint, refused.log_term) == (True, 7, 3)
    leader = server(terms=(1, 1, 4, 4, 4, 6, 6))
    probe = of(elect(leader, term=7), Kind.APP)[0]
    assert (probe.index, probe.log_term) == (7, 6)
    leader.step(refused)
    second = of(flush(leader), Kind.APP)[0]
    assert (second.to, second.index, second.log_term) == (1, 2, 1)
    follower.step(second)
    assert of(flush(follower), Kind.APP_RESP)[0] == Message(Kind.APP_RESP, 0, 1, 7, index=8)


def test_rule_13_probing_sends_one_message_at_a_time():
    core = server()
    elect(core)
    for _ in range(3):
        core.propose(b"x")
    assert of(flush(core), Kind.APP) == []  # the empty entry's append is not answered yet
    sent = of(acked(core, 1, 1), Kind.APP)
    assert [(m.to, len(m.entries), m.commit) for m in sent] == [(1, 3, 1)]
    core.propose(b"y")
    core.propose(b"z")
    assert [m.to for m in of(flush(core), Kind.APP)] == [1, 1]  # pipelined; 2 is still probed


def test_rule_13_a_snapshot_under_way_pauses_appends():
    core = server(snapshot=Snapshot(9, 1, ConfState((0, 1, 2))), terms=(1,))
    elect(core)
    core.tracker.progress[1].recent_active = True
    core.step(
        Message(Kind.APP_RESP, 0, 1, core.term, index=10, reject=True, reject_hint=3, log_term=1)
    )
    sent = [m for m in flush(core) if m.to == 1]
    assert [m.kind for m in sent] == [Kind.SNAP]
    core.propose(b"x")
    assert [m for m in of(flush(core), Kind.APP) if m.to == 1] == []
    acked(core, 1, 9)
    assert core.tracker.progress[1].pace is Pace.REPLICATE


# ---------------------------------------------------------------------- 14: snapshots that match


def test_rule_14_a_snapshot_of_what_is_here_only_moves_commit():
    """Log 1..5, snapshot of (3, term 1): commit 3, entries 4 and 5 stay, nothing to install."""
    core = server(terms=(1, 1, 1, 1, 1), commit=1)
    core.step(Message(Kind.SNAP, 0, 1, 1, snapshot=Snapshot(3, 1, ConfState((0, 1, 2)))))
    assert (core.log.committed, core.log.last) == (3, 5)
    ready = core.ready()
    assert ready.snapshot is None
    assert ready.messages_after_persist == [Message(Kind.APP_RESP, 1, 0, 1, index=3)]


def test_rule_14_a_snapshot_behind_commit_is_ignored():
    core = server(terms=(1, 1, 1), commit=3)
    core.step(Message(Kind.SNAP, 0, 1, 1, snapshot=Snapshot(2, 1, ConfState((7,)))))
    assert core.log.last == 3 and core.conf.voters == (0, 1, 2)
    assert core.ready().messages_after_persist[0].index == 3


def test_rule_14_a_snapshot_that_differs_replaces_the_log():
    core = server(terms=(1, 1, 1), commit=1)
    snapshot = Snapshot(3, 2, ConfState((0, 1)), b"state")
    core.step(Message(Kind.SNAP, 0, 1, 2, snapshot=snapshot))
    ready = core.ready()
    assert ready.snapshot == snapshot and ready.must_sync and not ready.committed_entries
    assert (core.log.offset, core.log.last, core.conf.voters) == (3, 3, (0, 1))


# ---------------------------------------------------------------------- 15: repeats and overtakers


def test_rule_15_match_never_falls():
    core = server()
    elect(core)
    core.propose_many([b"a", b"b", b"c"])
    flush(core)
    acked(core, 1, 4)
    acked(core, 1, 2)
    assert core.tracker.progress[1].match == 4 and core.log.committed == 4


def test_rule_15_a_stale_refusal_does_not_go_back():
    """match = 4; the refusal of index 3 was overtaken by the acceptance of 4."""
    core = server()
    elect(core)
    core.propose_many([b"a", b"b", b"c"])
    flush(core)
    acked(core, 1, 4)
    core.step(Message(Kind.APP_RESP, 0, 1, core.term, index=3, reject=True, reject_hint=0))
    progress = core.tracker.progress[1]
    assert (progress.pace, progress.match, progress.next) == (Pace.REPLICATE, 4, 5)
    assert flush(core) == []


def test_rule_15_repeated_messages_change_nothing():
    core = server(term=1)
    message = append(1, 0, 0, log_of(1, 1))
    core.step(message)
    first = flush(core)
    core.step(message)
    assert flush(core) == first and (core.log.last, core.log.committed) == (2, 0)


def test_rule_15_an_empty_ack_says_nothing():
    assert Ack() == Ack(term=0, stable=None, snapshot=0, responses=(), applied=0)
    core = server(terms=(1,))
    core.advance(Ack())
    assert (core.log.stable, core.log.applied) == (1, 0)

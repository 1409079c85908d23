"""The measure of the suite itself: fifteen seeded bugs, one per rule, and more; all are caught.

Each bug is put in by replacing a function for the length of one test. A bug counts as caught when
a test of its rule fails with it; the swarm is the second line, and must find the worst ones alone.
"""

import inspect

import pytest

from consensus.raft import election, leading, membership, progress, state, transfer
from consensus.raft.core import Raft
from consensus.raft.log import Log
from consensus.raft.messages import NONE, Kind, Message
from consensus.raft.progress import Progress
from consensus.raft.swarm import SwarmError, draw, play
from consensus.raft.tracker import Tracker
from tests.consensus.raft import test_rules


def cut_at_every_append(patch):
    def accept(self, index, term, entries):
        if not self.has(index, term):
            return None
        del self.entries[index - self.offset :]
        del self._bytes[index - self.offset + 1 :]
        self.stable, self.handed = min(self.stable, index), min(self.handed, index)
        self._extend(entries)
        return index + len(entries)

    patch.setattr(Log, "accept", accept)


def cut_below_commit(patch):
    def cut(self, index):
        del self.entries[index - self.offset - 1 :]
        del self._bytes[index - self.offset :]
        self.stable, self.handed = min(self.stable, index - 1), min(self.handed, index - 1)

    patch.setattr(Log, "_cut", cut)


def commit_entries_of_old_terms(patch):
    def maybe_commit(raft):
        index = raft.tracker.committed()
        if index <= raft.log.committed:
            return False
        raft.log.commit_to(index)
        leading.broadcast(raft)
        return True

    patch.setattr(leading, "maybe_commit", maybe_commit)


def promise_before_the_disk_has_it(patch):
    patch.setattr(state, "WAITS_FOR_DISK", frozenset())


def count_own_entries_at_once(patch):
    append = leading.append

    def eager(raft, items):
        append(raft, items)
        if raft.id in raft.tracker.progress:
            raft.tracker.progress[raft.id].update(raft.log.last)

    patch.setattr(leading, "append", eager)


def believe_stale_disk_reports(patch):
    advance = Raft.advance
    patch.setattr(Raft, "advance", lambda self, ack: advance(self, ack._replace(term=self.term)))


def raise_the_term_on_pre_votes(patch):
    newer = Raft._newer_term

    def mistaken(self, message):
        if message.kind is Kind.PREVOTE:
            self.become_follower(message.term, NONE)
            return True
        return newer(self, message)

    patch.setattr(Raft, "_newer_term", mistaken)


def ignore_the_lease(patch):
    patch.setattr(election, "ignored_in_lease", lambda raft, message: False)


def keep_silent_to_old_leaders(patch):
    patch.setattr(Raft, "_older_term", lambda self, message: None)


def campaign_with_unapplied_changes(patch):
    patch.setattr(election, "unapplied_conf_change", lambda raft: False)


def several_changes_at_a_time(patch):
    patch.setattr(membership, "refusal", lambda raft, items: "")


def one_majority_in_joint_changes(patch):
    patch.setattr(
        Tracker,
        "committed",
        lambda self: leading_quorum(self.conf.voters, self.progress),
    )


def leading_quorum(voters, progress_of):
    held = sorted((progress_of[v].match for v in voters), reverse=True)
    return held[len(held) // 2]


def count_votes_of_learners(patch):
    def election_of(self):
        members = tuple(self.progress)
        yes = sum(self.votes.get(m) is True for m in members)
        won = yes >= len(self.voters) // 2 + 1
        return election.VoteResult.WON if won else election.VoteResult.PENDING

    patch.setattr(Tracker, "election", election_of)


def accept_proposals_during_transfers(patch):
    refusal = leading.refusal

    def careless(raft, items):
        keep, raft.transferee = raft.transferee, NONE
        reason = refusal(raft, items)
        raft.transferee = keep
        return reason

    patch.setattr(leading, "refusal", careless)


def hand_over_to_an_incomplete_log(patch):
    def hasty(raft, follower):
        if follower != raft.transferee:
            return False
        raft.send(Message(Kind.TIMEOUT_NOW, follower))
        return True

    patch.setattr(transfer, "maybe_complete", hasty)


def read_before_the_term_has_a_commit(patch):
    patch.setattr(state.State, "committed_in_term", lambda self: True)


def ignore_hints(patch):
    refused = leading._on_refusal

    def blind(raft, message, follower):
        refused(raft, message._replace(reject_hint=message.index - 1, log_term=0), follower)

    patch.setattr(leading, "_on_refusal", blind)


def probe_without_waiting(patch):
    def sent(self, count, size):
        if self.pace is progress.Pace.REPLICATE and count:
            self.next += count

    patch.setattr(Progress, "sent", sent)


def discard_the_log_for_any_snapshot(patch):
    has = Log.has

    def forgetful(self, index, term):
        caller = inspect.currentframe().f_back.f_code.co_name
        return False if caller == "on_snapshot" else has(self, index, term)

    patch.setattr(Log, "has", forgetful)


def let_match_fall(patch):
    def update(self, index):
        self.match, self.next, self.paused = index, index + 1, False
        return True

    patch.setattr(Progress, "update", update)


def believe_stale_refusals(patch):
    def decrease(self, rejected, hint):
        self.next, self.paused = max(1, min(rejected, hint + 1)), False
        self.match = min(self.match, self.next - 1)
        return True

    patch.setattr(Progress, "decrease", decrease)


BUGS = [
    (1, cut_at_every_append),
    (2, cut_below_commit),
    (3, commit_entries_of_old_terms),
    (4, promise_before_the_disk_has_it),
    (4, count_own_entries_at_once),
    (5, believe_stale_disk_reports),
    (6, raise_the_term_on_pre_votes),
    (7, ignore_the_lease),
    (8, keep_silent_to_old_leaders),
    (9, campaign_with_unapplied_changes),
    (10, several_changes_at_a_time),
    (10, one_majority_in_joint_changes),
    (10, count_votes_of_learners),
    (11, accept_proposals_during_transfers),
    (11, hand_over_to_an_incomplete_log),
    (12, read_before_the_term_has_a_commit),
    (13, ignore_hints),
    (13, probe_without_waiting),
    (14, discard_the_log_for_any_snapshot),
    (15, let_match_fall),
    (15, believe_stale_refusals),
]


def rule_tests(rule):
    """Argument-free tests of one rule."""
    prefix = f"test_rule_{rule:02d}_"
    found = [f for name, f in vars(test_rules).items() if name.startswith(prefix)]
    return [test for test in found if not inspect.signature(test).parameters] + [
        lambda test=test, mark=mark, value=value: test(**{mark.args[0]: value})
        for test in found
        for mark in getattr(test, "pytestmark", [])
        if len(inspect.signature(test).parameters) == 1
        for value in mark.args[1]
    ]


def test_every_rule_has_a_bug_and_every_bug_a_rule():
    assert {rule for rule, _ in BUGS} == set(range(1, 16))
    assert all(rule_tests(rule) for rule, _ in BUGS)


@pytest.mark.parametrize(("rule", "bug"), BUGS, ids=lambda value: getattr(value, "__name__", value))
def test_a_test_of_the_rule_notices(rule, bug, monkeypatch):
    bug(monkeypatch)
    failed = []
    for test in rule_tests(rule):
        try:
            test()
        except BaseException as error:  # an assertion, or the core stopping itself
            failed.append(error)
    assert failed, f"no test of rule {rule} noticed {bug.__name__}"


@pytest.mark.parametrize(
    "bug",
    [
        cut_at_every_append,
        promise_before_the_disk_has_it,
        count_own_entries_at_once,
        discard_the_log_for_any_snapshot,
        pytest.param(one_majority_in_joint_changes, marks=pytest.mark.slow),
        pytest.param(read_before_the_term_has_a_commit, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.__name__,
)
def test_the_swarm_finds_what_breaks_safety(bug, monkeypatch):
    """Among the first seeds at least one schedule fails, whatever the core's own guards say."""
    bug(monkeypatch)
    for seed in range(400):
        try:
            play(draw(seed))
        except (SwarmError, LookupError, ValueError):
            return
    pytest.fail("400 schedules went by")

"""The gate: what is forged, replayed or misshapen is not let through, and counted by reason."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.bft import journal
from consensus.bft.journal_log import JournalLog
from consensus.bft.messages import (
    NIL,
    Bundle,
    Decision,
    Items,
    Proposal,
    Status,
    Step,
    Vote,
    digest_of,
    vote_of,
)  # fmt: skip
from consensus.bft.signing import Gate, Signer
from consensus.identity import ORDER, Key
from consensus.network.simulated_disk import SimulatedDisk
from tests.consensus.bft.bench import A, B, Bench, decision, precommits, prevotes, proposal

KEYS = [Key(bytes([1 + i] * 32)) for i in range(4)]
CHAIN = 77
DA = digest_of(A)


def gate(**more):
    return Gate([key.node_id for key in KEYS], CHAIN, **more)


def signed(what, key=None, chain=CHAIN):
    """The vote or proposal with its signer's true signature, or another one's."""
    vote = what if isinstance(what, Vote) else vote_of(what)
    return what._replace(signature=Signer(key or KEYS[vote.voter], chain)(vote))


VOTE = signed(Vote(Step.PREVOTE, 5, 1, DA, 0, 2))


def test_what_is_truly_signed_passes():
    some = gate()
    good = signed(Proposal(5, 1, A, -1, 1))
    bundle = Bundle((good,), (VOTE,))
    for body in (VOTE, good, bundle, Items(A), Status(3)):
        assert some.admit(body) == body
    assert not some.refused


def test_each_signature_is_computed_once():
    """A vote, the same in two bundles, and its repetition: one recovery."""
    some = gate()
    for body in (VOTE, Bundle((), (VOTE, VOTE)), VOTE):
        some.admit(body)
    assert some._check.done == 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (VOTE._replace(height=6), "forged"),  # replayed into another height
        (VOTE._replace(round=2), "forged"),  # round
        (VOTE._replace(step=Step.PRECOMMIT, pol_round=-1), "forged"),  # step
        (VOTE._replace(digest=digest_of(B)), "forged"),
        (VOTE._replace(digest=NIL), "forged"),
        (VOTE._replace(pol_round=-1), "forged"),
        (VOTE._replace(voter=3), "forged"),  # signer
        (signed(VOTE, chain=78), "forged"),  # chain
        (signed(VOTE, key=KEYS[0]), "forged"),
        (VOTE._replace(voter=4), "stranger"),
        (VOTE._replace(height=0), "height"),
        (VOTE._replace(round=-1), "round"),
        (VOTE._replace(pol_round=1), "round"),
        (signed(VOTE._replace(step=Step.PRECOMMIT)), "round"),  # a precommit names no reason
        (VOTE._replace(digest=b"short"), "digest"),
        (VOTE._replace(signature=VOTE.signature[:64]), "signature_length"),
        (VOTE._replace(signature=VOTE.signature[:64] + b"\2"), "recovery_id"),
        (VOTE._replace(signature=bytes(65)), "signature_range"),
        (Items((b"x" * 101,)), "oversized"),
        (Items(("text",)), "shape"),
        (Status(0), "height"),
        ("nonsense", "kind"),
    ],
)
def test_what_is_not_is_counted(wrong, reason):
    some = gate(most_bytes=100)
    assert some.admit(wrong) is None
    assert some.refused == {reason: 1}


def test_the_high_twin_of_a_signature_is_refused():
    """(r, n - s) verifies as well in plain ECDSA; canonical signatures have s <= n / 2."""
    r, s, v = VOTE.signature[:32], VOTE.signature[32:64], VOTE.signature[64]
    twin = r + (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big") + bytes([1 - v])
    some = gate()
    assert some.admit(VOTE._replace(signature=twin)) is None and some.refused == {"high_s": 1}


def test_bundles_lose_only_their_bad_parts():
    bad = VOTE._replace(height=9)
    assert gate().admit(Bundle((), (bad, VOTE))) == Bundle((), (VOTE,))


@pytest.mark.parametrize(
    "broken",
    [
        lambda d: d._replace(height=2),
        lambda d: d._replace(certificate=(*d.certificate[:2], d.certificate[2]._replace(voter=0))),
        lambda d: d._replace(certificate=tuple(signed(v) for v in prevotes(0, A, 1, 2, 3))),
    ],
)
def test_certificates_are_checked_vote_by_vote(broken):
    good = Decision(1, 0, A, tuple(signed(v) for v in precommits(0, A, 1, 2, 3)))
    assert gate().admit(good) == good
    assert gate().admit(broken(good)) is None


# ---------------------------------------------------------------------- the journal


def full_journal():
    bench = Bench()
    bench.hear(decision(A, 1, 2, 3))
    bench.hear(proposal(0, B, 2, height=2), *prevotes(0, B, 1, 2, height=2))
    return bench


def test_a_journal_says_what_was_signed_locked_and_decided():
    found = journal.read(full_journal().journal)
    assert [d.batch for d in found.decisions] == [A] and found.height == 2
    assert sorted((h, int(s)) for h, _, s in found.signed) == [(2, 1), (2, 2)]
    locked, valid = journal.lock_of(found)
    assert locked == valid and (locked.round, locked.batch, locked.locked) == (0, B, True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_any_torn_tail_leaves_an_earlier_journal(seed):
    """Whatever a crash keeps of unforced batches, what was forced is there, in order."""
    import numpy as np

    records = full_journal().journal
    disk = SimulatedDisk()
    log = JournalLog(disk, segment_bytes=4096, reserve=False)
    assert log.load() == []
    forced = seed % (len(records) + 1)
    log.append(records[:forced]) if forced else None
    log.sync()
    for record in records[forced:]:
        log.append([record])
    disk.crash(np.random.default_rng(seed))
    found = JournalLog(disk, segment_bytes=4096, reserve=False).load()
    assert found == records[: len(found)] and len(found) >= forced


def test_a_checkpoint_replaces_and_records_follow_it():
    disk = SimulatedDisk()
    log = JournalLog(disk, segment_bytes=4096, reserve=False)
    log.load()
    for number in range(300):
        log.append([b"%d" % number * 20])
    log.replace([b"all of it"])
    log.append([b"next"])
    log.sync()
    again = JournalLog(disk, segment_bytes=4096, reserve=False)
    assert again.load() == [b"all of it", b"next"]
    again.append([b"more"])
    again.sync()
    assert JournalLog(disk, segment_bytes=4096).load() == [b"all of it", b"next", b"more"]

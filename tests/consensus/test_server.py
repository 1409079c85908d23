"""One server by itself: what it keeps, refuses, asks for again and reports."""

import numpy as np

from consensus.actions import Fetch, Proposal, Propose
from consensus.identity import Key
from consensus.pofel import hcds, payload
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Commit, Entry, Final, Kind, Mark, Reveal
from consensus.pofel.settings import Settings
from consensus.pofel.state import Phase
from consensus.server import FINALS_KEPT, Server
from consensus.store import Store
from consensus.witness import Witness

KEYS = [Key(bytes([i]) * 32) for i in range(1, 5)]
SETTINGS = Settings(7, tuple(key.node_id for key in KEYS))
VALUES = np.arange(1, 9, dtype=np.int64) * 1000


def server(i=0):
    made = Server(i, KEYS[i], RoundMachine(SETTINGS))
    return made, made.begin(Proposal(VALUES + i, 100, 8, 1), lambda task, read: None)


def said(actions):
    return [action.entry for action in actions if isinstance(action, Propose)]


def signed(i, body, round_=1, view=0):
    return Entry.sign(KEYS[i], 7, round_, body, view)


def test_it_commits_and_says_it_again_until_it_is_ordered():
    made, actions = server()
    (commit,) = said(actions)
    assert commit.kind is Kind.COMMIT and said(made.again()) == [commit]
    made.ordered(commit)
    assert said(made.again()) == []


def test_it_ends_a_phase_only_as_the_leader():
    follower, first = server(0)
    leader, _ = server(1)
    leader.leader = follower.leader = 1
    commits = said(first) + [said(server(i)[1])[0] for i in (1, 2, 3)]
    for commit in commits:
        told = [said(made.ordered(commit)) for made in (follower, leader)]
    assert told[0] == [] and [entry.kind for entry in told[1]] == [Kind.MARK]


def test_it_asks_one_server_after_the_other_for_a_model():
    made, actions = server()
    root, _ = Store().put(VALUES + 9, 16)
    nonce = bytes(32)
    told = hcds.commit(7, 1, KEYS[2].node_id, root, nonce)
    for entry in (*said(actions), signed(2, Commit(told, 5, bytes(32), 1)),
                  signed(1, Commit(hcds.ABSENT, 0, bytes(32), 1)),
                  signed(3, Commit(hcds.ABSENT, 0, bytes(32), 1)),
                  signed(1, Mark(int(Phase.COMMIT), 0, 0))):  # fmt: skip
        made.ordered(entry)
    length = len(payload.to_bytes(VALUES, 16))
    shown = made.ordered(signed(2, Reveal(root, nonce, 1, length, b"<i4", bytes(32))))
    asked = [a for a in shown if isinstance(a, Fetch)]
    asked += [a for _ in range(4) for a in made.again() if isinstance(a, Fetch)]
    assert [a.source for a in asked] == [2, 2, 3, 1]  # never itself
    made.fetched(root, b"something else")
    assert root not in made.store
    made.fetched(root, payload.to_bytes(VALUES + 9, 16))
    assert root in made.store


def test_a_store_keeps_only_what_its_name_says():
    store = Store()
    data = payload.to_bytes(VALUES, 16)
    root = payload.root(VALUES, 16)
    assert not store.take(root, data[:-1], 8, 16) and not store.take(root, data, 9, 16)
    assert not store.take(root, data, 8, 15) and root not in store
    assert store.take(root, data, 8, 16) and store.values(root).tolist() == VALUES.tolist()
    store.keep_only(set())
    assert root not in store


def test_a_flood_of_final_words_is_kept_short():
    made, _ = server()
    for round_ in range(1, 3 * FINALS_KEPT):
        made.final(signed(1, Final(0, round_.to_bytes(32, "big")), round_))
    made.final(signed(1, Final(0, bytes(32)), 1))
    assert len(made._finals[KEYS[1].node_id]) == FINALS_KEPT and made.seal() == ()
    stranger = Key(bytes([9]) * 32)
    made.final(Entry.sign(stranger, 7, 1, Final(0, bytes(32))))
    assert set(made._finals) == {KEYS[1].node_id}


def test_a_witness_reports_once_and_only_true_contradictions():
    witness = Witness(lambda entry: True)
    one, two = (signed(1, Commit(bytes(32), 0, bytes(32), t)) for t in (1, 2))
    assert witness.hear(one) is None and witness.hear(one) is None
    fraud = witness.hear(two)
    assert (fraud.first, fraud.second) == (one.encode(), two.encode())
    assert witness.hear(two) is None and witness.open == [fraud]
    assert witness.hear(signed(1, Mark(0, 0, 1))) is None
    witness.punished(KEYS[1].node_id)
    assert witness.open == []
    deaf = Witness(lambda entry: False)
    assert deaf.hear(one) is None and deaf.hear(two) is None

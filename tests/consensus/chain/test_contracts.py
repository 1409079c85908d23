"""The contracts on a real EVM: who may write, what is kept, what a proof shows."""

import hashlib

import pytest
from eth_utils import keccak

from consensus.chain.compiler import compiled, contracts
from consensus.chain.record import Ballots, Commits, RoundRecord, leaf, prediction_hash
from consensus.identity import Key
from consensus.pofel import merkle
from consensus.pofel.messages import Commit, Entry
from tests.consensus.chain.chains import Bench, interface

STRANGER = Key(hashlib.sha256(b"a stranger").digest())
UPDATE = [merkle.leaf(bytes([i]) * 10) for i in range(5)]


def record(bench, round_=1, **more):
    leader = bench.keys[0].node_id
    root = merkle.root(UPDATE)
    return RoundRecord(round_, leader, root, chunks=len(UPDATE), n_bytes=50, **more)


def settle(bench, told, by=0):
    """The leader's call in a block that it wrote: did it succeed?"""
    bench.block(bench.raw(bench.keys[by], "Rounds", told.call()), by=by)
    return bench.node.receipts(bench.node.head)[0].state_root == b"\x01"


def test_the_compiled_contracts_are_the_six_and_stay_what_they_are():
    """A changed byte of source or compiler is a changed digest, and a new cache entry."""
    names = ("Commitments", "Members", "ModelRegistry", "Rewards", "Rounds", "Votes")
    assert contracts() == names
    first = [compiled(name).digest for name in names]
    compiled.cache_clear()
    assert [compiled(name).digest for name in names] == first
    assert len(set(first)) == 6 and all(compiled(n).bytecode for n in names)


def test_a_damaged_cache_is_compiled_again(tmp_path):
    good = compiled("Votes", folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace("60", "61", 1))
    compiled.cache_clear()
    assert compiled("Votes", folder=tmp_path) == good


# ---------------------------------------------------------------- Members


def test_members_are_the_genesis_ones_in_their_order():
    bench = Bench(5)
    assert bench.node.members_at(bench.node.head) == tuple(k.node_id for k in bench.keys)
    assert bench.read("Members", "quorum") == 4
    assert bench.read("Members", "is_member", bench.keys[4].node_id)
    assert not bench.read("Members", "is_member", STRANGER.node_id)


def test_a_quorum_changes_the_members_and_fewer_do_not():
    """n = 4: three approvals add a fifth member; then four remove the first, others keep order."""
    bench = Bench(4)
    for i in (0, 1):
        bench.send(bench.keys[i], "Members", "approve", STRANGER.node_id, True)
    assert not bench.read("Members", "is_member", STRANGER.node_id)
    done = bench.send(bench.keys[2], "Members", "approve", STRANGER.node_id, True)
    assert done.event("Members", "Changed")["epoch"] == 1
    members = bench.node.members_at(bench.node.head)
    assert members == (*(k.node_id for k in bench.keys), STRANGER.node_id)
    assert bench.read("Members", "since", STRANGER.node_id) == bench.node.height
    for i in (0, 1, 2, 3):
        bench.send(bench.keys[i], "Members", "approve", bench.keys[0].node_id, False, by=1)
    assert bench.node.members_at(bench.node.head) == members[1:]


def test_members_refuse_strangers_doubles_and_no_change():
    bench = Bench(4)
    first = bench.keys[0]
    assert bench.why(STRANGER, "Members", "approve", STRANGER.node_id, True) == "only members"
    assert bench.why(first, "Members", "approve", first.node_id, True) == "no change"
    bench.send(first, "Members", "approve", STRANGER.node_id, True)
    assert bench.why(first, "Members", "approve", STRANGER.node_id, True) == "approved before"


def test_approvals_of_an_earlier_epoch_do_not_count():
    bench = Bench(4)
    other = Key(hashlib.sha256(b"another").digest()).node_id
    bench.send(bench.keys[0], "Members", "approve", other, True)
    for i in range(3):
        bench.send(bench.keys[i], "Members", "approve", STRANGER.node_id, True)
    for i in range(3):  # n = 5 now needs 4, and the first approval is gone
        bench.send(bench.keys[i], "Members", "approve", other, True)
    assert not bench.read("Members", "is_member", other)
    bench.send(bench.keys[3], "Members", "approve", other, True)
    assert bench.read("Members", "is_member", other)


def test_a_quorums_signatures_authorise_whoever_sends_them():
    """Signers ascending and distinct; the sender need not be a member."""
    bench = Bench(4)
    digest = bytes([3]) * 32
    signers = sorted(bench.keys, key=lambda k: k.node_id)
    three = [k.sign(digest) for k in signers[:3]]

    def fits(signatures, told=digest):
        return bench.read("Members", "authorised", STRANGER.node_id, told, signatures)

    assert fits(three) and fits([k.sign(digest) for k in signers])
    assert not fits(three[:2]) and not fits(three[::-1])
    assert not fits([three[0], three[0], three[1]])
    assert not fits([*three[:2], STRANGER.sign(digest)])
    assert not fits(three, bytes([4]) * 32)


# ---------------------------------------------------------------- Rounds


def test_a_round_is_recorded_in_every_contract_at_once():
    bench = Bench(4)
    nodes = [k.node_id for k in bench.keys]
    commits = Commits([(node, bytes([i + 1]) * 32, 100 + i) for i, node in enumerate(nodes)])
    ballots = Ballots([(node, 1, prediction_hash((1, 2)), -5, 250_000) for node in nodes[:3]])
    told = record(bench, commits=commits, ballots=ballots, pay={nodes[2]: 7, nodes[1]: 5})
    before = [bench.balance(node) for node in nodes]
    assert settle(bench, told)
    model = bench.read("ModelRegistry", "model", 1)
    assert model[1] == told.update_root and model[4:] == (5, 50, 1)
    assert bench.read("Rounds", "settled", 1) == told.facts_hash()
    assert bench.read("Commitments", "batches", 1) == (commits.tree.root, 4, 406)
    assert bench.read("Votes", "batches", 1) == (ballots.tree.root, 3)
    gained = [bench.balance(node) - was for node, was in zip(nodes, before, strict=True)]
    assert gained == [0, 5, 7, 0]


def test_only_the_author_of_the_block_may_settle_without_signatures():
    bench = Bench(4)
    assert not settle_as(bench, bench.keys[1], author=0)
    assert not settle_as(bench, STRANGER, author=0)
    assert bench.read("Rounds", "settled", 1) == bytes(32)
    assert settle_as(bench, bench.keys[1], author=1)


def settle_as(bench, sender, author):
    bench.block(bench.raw(sender, "Rounds", record(bench).call()), by=author)
    return bench.node.receipts(bench.node.head)[0].state_root == b"\x01"


def test_a_quorum_may_settle_through_a_stranger():
    bench = Bench(4)
    told = record(bench)
    digest = bench.read("Rounds", "digest", 1, told.facts_hash())
    rounds = bytes.fromhex("fed0") + bytes(17) + b"\x02"
    domain = keccak(text="fedalign/chain/rounds/v1")
    where = domain + (131_277).to_bytes(32, "big") + rounds.rjust(32, b"\0")
    assert digest == keccak(where + (1).to_bytes(32, "big") + told.facts_hash())
    signers = sorted(bench.keys, key=lambda k: k.node_id)[:3]
    signatures = [k.sign(digest) for k in signers]
    bench.block(bench.raw(STRANGER, "Rounds", told.call(signatures)))
    assert bench.read("Rounds", "settled", 1) == told.facts_hash()


def test_a_round_settles_once_and_never_backwards():
    bench = Bench(4)
    assert settle(bench, record(bench, 2))
    assert not settle(bench, record(bench, 2)) and not settle(bench, record(bench, 1))
    assert bench.read("ModelRegistry", "latest") == 2


@pytest.mark.parametrize(
    ("contract", "function", "values"),
    [
        ("ModelRegistry", "record", (1, bytes(20), bytes(32), bytes(32), bytes(32), 1, 1)),
        ("Commitments", "record", (1, bytes(32), 1, 1)),
        ("Votes", "record", (1, bytes(32), 1)),
        ("Rewards", "pay", (1, [], [])),
        ("Rewards", "post", (1, bytes(32), 1, 1)),
    ],
)
def test_nobody_writes_past_the_rounds_contract(contract, function, values):
    bench = Bench(2)
    assert bench.why(bench.keys[0], contract, function, *values) == "only the writer"


# ---------------------------------------------------------------- proofs


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 11])
def test_a_chunk_is_proved_at_its_place_only(count):
    """RFC 6962 in the contract and in Python agree on every index of trees of many shapes."""
    bench = Bench(2)
    leaves = [merkle.leaf(bytes([i]) * 4) for i in range(count)]
    told = RoundRecord(1, bench.keys[0].node_id, merkle.root(leaves), chunks=count)
    assert settle(bench, told)

    def shown(index, leaf_, path):
        return bench.read("ModelRegistry", "verify_chunk", 1, index, leaf_, path)

    for index, chunk in enumerate(leaves):
        path = list(merkle.proof(leaves, index))
        assert shown(index, chunk, path)
        assert not shown((index + 1) % (count + 1), chunk, path)
        assert not shown(index, merkle.leaf(b"no"), path)
        assert not shown(index, chunk, [*path, bytes(32)])
        assert not path or not shown(index, chunk, path[:-1])


def test_commitments_and_votes_are_read_back_by_proof():
    bench = Bench(4)
    nodes = [k.node_id for k in bench.keys]
    commits = Commits([(node, bytes([i + 1]) * 32, 100 + i) for i, node in enumerate(nodes)])
    ballots = Ballots([(n, i, prediction_hash((i,)), -i, 10 + i) for i, n in enumerate(nodes)])
    assert settle(bench, record(bench, commits=commits, ballots=ballots))
    for i, (node, told, size) in enumerate(commits.entries):
        path = list(commits.tree.proof(i))
        assert bench.read("Commitments", "committed", 1, node, told, size, i, path)
        assert not bench.read("Commitments", "committed", 1, node, told, size + 1, i, path)
    for i, entry in enumerate(ballots.entries):
        path = list(ballots.tree.proof(i))
        assert bench.read("Votes", "voted", 1, *entry, i, path)
        assert not bench.read("Votes", "voted", 1, *entry[:3], 99, entry[4], i, path)


def test_leaves_are_the_contracts_words():
    """Negative scores are two's complement, addresses are left-padded."""
    words = bytes(12) + b"\x11" * 20 + b"\xff" * 32
    assert leaf(b"\x11" * 20, -1) == hashlib.sha256(b"\0" + words).digest()


# ---------------------------------------------------------------- signatures in the contract


def commits(bench, round_=5, sizes=(1, 127, 128, 2**32 - 1)):
    return [
        Entry.sign(k, 131_277, round_, Commit(bytes([i + 1]) * 32, size, bytes(32), 1_700_000_000))
        for i, (k, size) in enumerate(zip(bench.keys, sizes, strict=True))
    ]


def submit(bench, entries):
    nodes = [k.node_id for k in bench.keys]
    places = [nodes.index(e.sender) for e in entries]
    return (places, [e.body for e in entries], [e.signature for e in entries])


def test_the_contract_accepts_the_signatures_that_servers_exchange():
    """The digest is rebuilt from domain, chain, round, node and body, whatever its length."""
    bench = Bench(4)
    entries = commits(bench)
    done = bench.send(STRANGER, "Commitments", "submit", 5, *submit(bench, entries))
    last = done.event("Commitments", "Submitted")
    assert done.ok and last["commitment"] == entries[3].content.commitment
    for entry in entries:
        assert bench.read("Commitments", "single", 5, entry.sender) == entry.content.commitment


def test_the_contract_refuses_what_servers_refuse():
    bench = Bench(4)
    good = commits(bench)

    def why(entries, round_=5):
        return bench.why(STRANGER, "Commitments", "submit", round_, *submit(bench, entries))

    assert why(good) == ""
    assert why(good, round_=6) == "forged"  # a replay in another round
    swapped = [0], [good[1].body], [good[0].signature]
    assert bench.why(STRANGER, "Commitments", "submit", 5, *swapped) == "forged"
    foreign = Entry.sign(bench.keys[0], 131_278, 5, good[0].content)
    assert why([foreign]) == "forged"  # of another chain
    stranger = Entry.sign(STRANGER, 131_277, 5, good[0].content)
    values = [1], [stranger.body], [stranger.signature]
    assert bench.why(STRANGER, "Commitments", "submit", 5, *values) == "forged"
    values = [4], [good[0].body], [good[0].signature]  # there is no fifth member
    assert bench.why(STRANGER, "Commitments", "submit", 5, *values) != ""
    assert why([good[0], good[0]]) == "committed before"
    absent = Entry.sign(bench.keys[0], 131_277, 5, Commit(bytes(32), 0, bytes(32), 1))
    assert why([absent]) == "no commitment"
    short = good[0].signature[:64]
    values = [0], [good[0].body], [short]
    assert bench.why(STRANGER, "Commitments", "submit", 5, *values) == "forged"
    assert settle(bench, record(bench, 5, commits=Commits([(good[0].sender, bytes([1]) * 32, 1)])))
    assert why(good) == "round settled"


def test_every_argument_is_known_by_name():
    kind, fields = interface("Rounds").struct("settle", "facts")
    assert fields[0] == "leader" and len(fields) == 17 and kind.startswith("(address,bytes32")

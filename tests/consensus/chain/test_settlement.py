"""Payments settle on the chain in whole units, sum exactly, and are claimed once."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.chain.record import RoundRecord, leaf
from consensus.chain.settlement import Settlement
from consensus.identity import Key
from consensus.pofel import merkle
from fedalign.core.errors import ConfigError
from fedalign.core.market import Payments
from incentives.proportional_pay import ProportionalPay
from incentives.uniform_pay import UniformPay
from tests.consensus.chain.chains import Bench
from tests.incentives.small_markets import outcome

SENDER = Key(hashlib.sha256(b"whoever sends claims").digest())


def wallet(client):
    return Key(hashlib.sha256(b"client %d" % client).digest()).node_id


def post(bench, settlement, height=1, by=0):
    """The round's record with this settlement; True where the contract took it."""
    told = RoundRecord(height, bench.keys[by].node_id, bytes([1]) * 32, claims=settlement.claims)
    bench.block(bench.raw(bench.keys[by], "Rounds", told.call()), by=by)
    return bench.node.receipts(bench.node.head)[0].state_root == b"\x01"


def collect(bench, claims):
    """Send claims in one block; which of them were paid."""
    raw = [bench.raw(SENDER, "Rewards", claim.call(), ahead=i) for i, claim in enumerate(claims)]
    bench.block(*raw)
    return [r.state_root == b"\x01" for r in bench.node.receipts(bench.node.head)]


def paid_by(name):
    """Real payments of an incentive: seven clients, one rejected, a remainder to round away."""
    accepted = [True] * 6 + [False]
    after = outcome([1.0, 0.5, 0.25, 1.0, 2.0, 0.75, 3.0], accepted=accepted)
    if name == "uniform":
        return UniformPay(1_000_003).settle(after)
    return ProportionalPay(1_000_003, "weight").settle(after)


@pytest.mark.parametrize("name", ["uniform", "proportional"])
def test_an_incentives_payments_arrive_to_the_last_unit(name):
    payments, bench = paid_by(name), Bench(2, escrow_wei=10**7)
    settlement = Settlement.of(1, payments, wallet)
    assert settlement.total == payments.total == 1_000_003
    assert post(bench, settlement)
    assert bench.read("Rewards", "escrow") == 10**7 - payments.total
    assert all(collect(bench, [settlement.claim(i) for i in range(len(settlement.accounts))]))
    for client, amount in zip(payments.accounts, payments.amounts, strict=True):
        assert bench.balance(wallet(int(client))) == amount
    assert bench.read("Rewards", "claims", 1)[3] == 0  # nothing of the round is left
    held = 10**7 - payments.total
    assert bench.balance(bytes.fromhex("fed0") + bytes(17) + b"\x06") == held


def test_who_earns_nothing_has_nothing_to_claim():
    settlement = Settlement.of(1, paid_by("uniform"), wallet)
    assert len(settlement.accounts) == 6 and wallet(6) not in settlement.accounts


def test_three_payments_by_hand():
    """Leaves A, B, C: the tree is ((A B) C), the total 6."""
    settlement = Settlement.of(4, Payments([1, 2, 3], [1, 2, 3], 6), wallet)
    a, b, c = (leaf(wallet(i), i) for i in (1, 2, 3))

    def node(left, right):
        return hashlib.sha256(b"\1" + left + right).digest()

    assert settlement.root == node(node(a, b), c)
    assert settlement.claims == (4, settlement.root, 3, 6)
    assert settlement.claim(0).path == (b, c) and settlement.claim(2).path == (node(a, b),)


def test_a_claim_is_paid_once():
    bench = Bench(2)
    settlement = Settlement.of(1, Payments([1, 2], [10, 20], 30), wallet)
    assert post(bench, settlement)
    first = settlement.claim(0)
    assert collect(bench, [first, first]) == [True, False]
    assert collect(bench, [first]) == [False]
    assert bench.balance(wallet(1)) == 10 and bench.read("Rewards", "is_claimed", 1, 0)
    assert not bench.read("Rewards", "is_claimed", 1, 1)
    assert bench.why(SENDER, "Rewards", "claim", 1, 0, wallet(1), 10, list(first.path)) == (
        "claimed before"
    )


def test_nothing_but_the_posted_claims_is_paid():
    bench = Bench(2)
    settlement = Settlement.of(1, Payments([1, 2, 3], [10, 20, 30], 60), wallet)
    assert post(bench, settlement)
    good = settlement.claim(1)
    path = list(good.path)
    for lie in (
        (1, 1, wallet(2), 21, path),  # more
        (1, 1, wallet(3), 20, path),  # for another account
        (1, 0, wallet(2), 20, path),  # another place: a second payment
        (1, 3, wallet(2), 20, path),  # beyond the end
        (2, 1, wallet(2), 20, path),  # another round
        (1, 1, wallet(2), 20, path[:-1]),
    ):
        assert bench.why(SENDER, "Rewards", "claim", *lie) == "no such claim"
    assert bench.why(SENDER, "Rewards", "claim", 1, 1, wallet(2), 20, path) == ""


def test_a_total_below_the_entries_never_pays_more_than_it_posted():
    """A lying leader cannot drain other rounds: the round is exhausted first."""
    bench = Bench(2)
    settlement = Settlement.of(1, Payments([1, 2], [10, 20], 30), wallet)
    told = (*settlement.claims[:3], 25)
    lie = RoundRecord(1, bench.keys[0].node_id, bytes([1]) * 32, claims=told)
    bench.block(bench.raw(bench.keys[0], "Rounds", lie.call()))
    assert collect(bench, [settlement.claim(1), settlement.claim(0)]) == [True, False]
    assert bench.read("Rewards", "claims", 1)[3] == 5


def test_an_escrow_that_is_too_small_refuses_the_round():
    bench = Bench(2, escrow_wei=29)
    settlement = Settlement.of(1, Payments([1, 2], [10, 20], 30), wallet)
    assert not post(bench, settlement)
    assert bench.read("Rewards", "escrow") == 29 and bench.read("Rewards", "claims", 1)[2] == 0
    assert bench.send(bench.keys[0], "Rewards", "fund", value=1).ok
    assert post(bench, settlement) and bench.read("Rewards", "escrow") == 0


def test_a_round_is_posted_once():
    bench = Bench(2)
    settlement = Settlement.of(1, Payments([1], [10], 10), wallet)
    assert post(bench, settlement, height=1)
    assert not post(bench, settlement, height=2)


def test_money_is_neither_made_nor_lost():
    """Escrow, reserved claims, delivered pay and what is owed stay the funded sum."""
    bench = Bench(4, escrow_wei=1000)
    rewards = bytes.fromhex("fed0") + bytes(17) + b"\x06"
    nodes = [k.node_id for k in bench.keys]
    settlement = Settlement.of(1, Payments([1, 2], [10, 20], 30), wallet)
    before = sum(bench.balance(node) for node in nodes)
    told = RoundRecord(1, nodes[0], bytes([1]) * 32, pay={nodes[1]: 7, nodes[3]: 11},
                       claims=settlement.claims)  # fmt: skip
    bench.block(bench.raw(bench.keys[0], "Rounds", told.call()))
    assert sum(bench.balance(node) for node in nodes) == before + 18
    assert bench.read("Rewards", "escrow") == 1000 - 18 - 30
    assert bench.balance(rewards) == 1000 - 18
    collect(bench, [settlement.claim(1)])
    assert bench.balance(rewards) == 1000 - 18 - 20 and bench.balance(wallet(2)) == 20


def test_a_server_that_cannot_receive_is_owed_and_the_round_stands():
    """The registry refuses plain transfers; its pay is kept for it and the other server is paid."""
    bench = Bench(2, escrow_wei=1000)
    registry = bytes.fromhex("fed0") + bytes(17) + b"\x03"
    node = bench.keys[1].node_id
    before = bench.balance(node)
    told = RoundRecord(1, bench.keys[0].node_id, bytes([1]) * 32, pay={registry: 7, node: 11})
    bench.block(bench.raw(bench.keys[0], "Rounds", told.call()))
    assert bench.read("Rewards", "owed", registry) == 7
    assert bench.balance(node) == before + 11
    assert bench.why(bench.keys[0], "Rewards", "withdraw") == "nothing owed"


@given(st.lists(st.integers(0, 10**24), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_every_entry_of_any_payments_has_its_proof(amounts):
    payments = Payments(list(range(len(amounts))), amounts, sum(amounts))
    settlement = Settlement.of(3, payments, lambda client: client.to_bytes(20, "big"))
    assert settlement.total == sum(amounts)
    count = len(settlement.accounts)
    for i in range(count):
        claim = settlement.claim(i)
        hashed = leaf(claim.account, claim.amount)
        assert merkle.proves(settlement.root, hashed, i, count, claim.path)
    if not count:
        assert settlement.claims == (3, bytes(32), 0, 0)


def test_bad_settlements_say_what_would_work():
    with pytest.raises(ConfigError, match="one amount per account"):
        Settlement(1, (bytes(20),), ())
    with pytest.raises(ConfigError, match="above 0 wei"):
        Settlement(1, (bytes(20),), (0,))
    with pytest.raises(ConfigError, match="has 1 entries, no 1"):
        Settlement(1, (bytes(20),), (5,)).claim(1)
    assert Settlement(1, (bytes(20),) * 2, (5, 6)).claims_of(bytes(20))[1].amount == 6


def test_a_thousand_clients_cost_one_root():
    """Gas of the posting does not depend on how many are paid."""
    gas = []
    for count in (1, 1000):
        bench = Bench(2)
        payments = Payments(list(range(count)), [5] * count, 5 * count)
        settlement = Settlement.of(1, payments, lambda c: c.to_bytes(20, "big"))
        assert post(bench, settlement)
        gas.append(bench.node.head.gas_used)
    assert abs(gas[1] - gas[0]) < 500
    claim = settlement.claim(999)
    assert collect(bench, [claim]) == [True] and len(claim.path) <= 10

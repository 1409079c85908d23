"""PoFEL rounds on an EVM: the contracts hold what the servers sealed, through stops and lies."""

import hashlib

import pytest

from consensus.chain import flat, keystore
from consensus.chain.settlement import Settlement
from consensus.identity import Key
from consensus.on_evm import FINISHED, LIVE, PoFELOnEvm
from consensus.ordering import RaftOrdering
from consensus.told import client_key
from fedalign.core.agreement import Sealed
from fedalign.core.errors import ConfigError, IntegrityError
from fedalign.core.market import Payments
from fedalign.core.seeds import Seeds
from tests.consensus.networks import network
from tests.consensus.rounds import agree


def opened(folder, **more):
    chain = PoFELOnEvm(4, ordering=RaftOrdering(), measure_cpu=False, **more)
    chain.open(folder)
    return chain


def test_every_round_is_a_block_that_its_leader_wrote_and_its_signers_sealed(tmp_path):
    chain = opened(tmp_path)
    node = chain._mirror.node
    for height in (1, 2):
        verdict = agree(chain)
        header = node.head
        assert node.height == height and header.extra_data == verdict.block.hash
        assert header.coinbase == chain.settings.members[verdict.leader]
        assert node.read("ModelRegistry", "model", height)[1] == verdict.block.root
        assert node.read("Commitments", "batches", height)[1] == 4
        assert node.read("Votes", "batches", height)[1] == len(verdict.votes)
        signers = {f.sender for f in node.seal_of(header.hash).finals.finals}
        assert signers == {chain.settings.members[i] for i in verdict.block.signers}
    assert node.genesis.chain_id == chain.chain_id + 1


def test_servers_hold_what_the_verdicts_paid_them(tmp_path):
    chain = opened(tmp_path)
    node, members = chain._mirror.node, chain.settings.members
    before = [node.state().get_balance(member) for member in members]
    verdicts = [agree(chain), agree(chain)]
    for i, member in enumerate(members):
        earned = sum(verdict.rewards.get(i, 0) for verdict in verdicts)
        assert node.state().get_balance(member) - before[i] == earned
    paid = sum(sum(verdict.rewards.values()) for verdict in verdicts)
    assert node.read("Rewards", "escrow") == chain.escrow_wei - paid > 0


def test_a_stopped_run_reaches_the_same_head(tmp_path):
    """Stopped behind block 1, also where the EVM chain had not yet been told of it."""
    whole = opened(tmp_path / "a")
    first, second = agree(whole), agree(whole)
    for name, forgets in (("b", False), ("c", True)):
        chain = opened(tmp_path / name)
        agree(chain)
        chain._mirror.node.close()
        if forgets:
            for path in (tmp_path / name).glob(f"{LIVE}*"):
                path.unlink()
        again = opened(tmp_path / name)
        assert again._mirror.node.height == 1
        assert agree(again).block == second.block
        assert again._mirror.node.head.hash == whole._mirror.node.head.hash
    assert first.block.height == 1


def test_a_finished_run_is_plain_files_that_audit_executes_again(tmp_path):
    chain = opened(tmp_path)
    agree(chain)
    agree(chain)
    chain.close(Sealed())
    assert not list(tmp_path.glob(f"{LIVE}*")) and flat.verify(tmp_path / FINISHED).height == 3
    again = opened(tmp_path)
    assert [audited.block.height for audited in again.audit()] == [1, 2]
    path = tmp_path / FINISHED / "000002.block"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"000002\.block"):
        again.audit()
    path.write_bytes(good)
    again.audit()


def test_an_evm_chain_of_other_rounds_is_refused(tmp_path):
    """Fully sealed by the same servers, but with a round that they did not seal in PoFEL."""
    chain, other = opened(tmp_path / "a"), opened(tmp_path / "b")
    agree(chain)
    agree(other, 2)
    chain.close(Sealed())
    other.close(Sealed())
    for path in (tmp_path / "a" / FINISHED).iterdir():
        path.write_bytes((tmp_path / "b" / FINISHED / path.name).read_bytes())
    with pytest.raises(IntegrityError, match="holds another round 1"):
        opened(tmp_path / "a").audit()


def test_without_a_folder_everything_is_in_memory():
    chain = opened(None)
    agree(chain)
    assert chain._mirror.node.height == 1
    chain.close(Sealed())


def test_rounds_settle_on_a_foreign_network_and_are_found_there_again(tmp_path):
    """`consensus.rpc_url=...`: deployed once, every round with its signers' signatures."""
    payer = Key(hashlib.sha256(b"pays").digest())
    keystore.save(tmp_path / "payer.json", payer)
    with network(payer.node_id) as url:
        there = {"rpc_url": url, "payer_key": str(tmp_path / "payer.json"), "escrow_wei": 10**9}
        chain = opened(tmp_path / "run", **there)
        verdict = agree(chain)
        again = opened(tmp_path / "run", **there)  # stopped, and continued
        assert again._mirror.chain.addresses == chain._mirror.chain.addresses
        agree(again, 2)
        read = again._mirror.chain.read
        assert read("ModelRegistry", "model", 1)[1] == verdict.block.root
        assert read("ModelRegistry", "latest") == 2
        assert read("Rewards", "escrow") < 10**9
        again.close(Sealed())
        assert [audited.block.height for audited in again.audit()] == [1, 2]
        other = opened(tmp_path / "other")
        agree(other, 3)
        other._mirror = again._mirror  # a network that holds other rounds than those sealed
        with pytest.raises(IntegrityError, match="another round 1"):
            other._mirror.check(other._archive.read(1))


def test_a_foreign_network_needs_its_payer():
    with pytest.raises(ConfigError, match="needs both"):
        PoFELOnEvm(4, rpc_url="http://127.0.0.1:1")


def test_clients_payments_are_posted_on_the_evm_one_root_a_round(tmp_path):
    """Block 2 posts those of round 1, the closing block those of round 2; sums are exact."""
    chain = opened(tmp_path)
    node, first = chain._mirror.node, Payments((0, 3, 5), (700, 0, 41), 741)
    last = Payments((1,), (9,), 9)
    agree(chain, 1)
    agree(chain, 2, sealed=Sealed(bytes([9]) * 32, first, 2.0))
    settlement = Settlement.of(1, first, chain.wallet)
    assert node.read("Rewards", "claims", 1) == (settlement.root, 2, 741, 741)
    assert node.read("ModelRegistry", "model", 2)[2] == bytes([9]) * 32
    assert client_key(Seeds(0), 5).node_id == settlement.accounts[1]
    closing = chain.close(Sealed(bytes([8]) * 32, last, 3.0))
    ended = flat.verify(tmp_path / FINISHED)
    assert ended.height == 3 and ended.head.extra_data == closing.hash
    assert ended.read("Rewards", "claims", 2)[1:] == (1, 9, 9)
    assert ended.read("ModelRegistry", "model", 3)[2] == bytes([8]) * 32
    assert len(opened(tmp_path).audit()) == 2

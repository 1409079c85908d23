"""A chain in plain files: it verifies, and every altered byte is named with its file."""

import json

import numpy as np
import pytest

from consensus.chain import flat
from consensus.chain.record import RoundRecord
from consensus.chain.settlement import Settlement
from fedalign.core.errors import ConfigError, IntegrityError
from fedalign.core.market import Payments
from fedalign.core.seeds import Seeds
from tests.consensus.chain.chains import Bench, interface


@pytest.fixture(scope="module")
def bench():
    """Five blocks: rounds, claims, a change of members, an empty block."""
    bench = Bench(4, balances={bytes([9]) * 20: 5})
    settlement = Settlement.of(1, Payments([1, 2], [10, 20], 30), lambda c: bytes([c]) * 20)
    for height in (1, 2):
        claims = settlement.claims if height == 2 else (0, bytes(32), 0, 0)
        told = RoundRecord(height, bench.keys[0].node_id, bytes([height]) * 32, claims=claims)
        bench.block(bench.raw(bench.keys[0], "Rounds", told.call()))
    bench.block(bench.raw(bench.keys[1], "Rewards", settlement.claim(0).call()))
    approve = interface("Members").call("approve", bytes([5]) * 20, True)
    bench.block(bench.raw(bench.keys[2], "Members", approve), by=2)
    bench.block()
    return bench


@pytest.fixture
def folder(bench, tmp_path):
    flat.write(bench.node, tmp_path / "chain")
    return tmp_path / "chain"


def test_a_written_chain_verifies_to_the_same_head(bench, folder):
    node = flat.verify(folder)
    assert node.head.hash == bench.node.head.hash and node.genesis == bench.node.genesis
    assert node.read("Rewards", "claims", 1) == bench.read("Rewards", "claims", 1)


def test_equal_chains_are_equal_files(bench, folder, tmp_path):
    flat.write(flat.verify(folder), tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_thirty_random_byte_flips_are_each_named(folder):
    """Any byte, any bit: the file that lies is in the sentence."""
    rng, paths = Seeds(0).at("byte_flips"), sorted(folder.iterdir())
    sizes = np.array([path.stat().st_size for path in paths])
    for _ in range(30):
        path = paths[rng.choice(len(paths), p=sizes / sizes.sum())]
        good = path.read_bytes()
        place, bit = int(rng.integers(len(good))), int(rng.integers(8))
        bad = bytearray(good)
        bad[place] ^= 1 << bit
        path.write_bytes(bad)
        with pytest.raises(IntegrityError) as lie:
            flat.verify(folder)
        named = path.name in str(lie.value)
        # another genesis is a chain of its own: what does not follow from it is block 1
        assert named or path.name == "genesis", (path.name, place, bit, str(lie.value))
        path.write_bytes(good)
    flat.verify(folder)


def test_removed_added_swapped_and_cut_files_are_named(folder):
    def lie(match):
        with pytest.raises(IntegrityError, match=match):
            flat.verify(folder)

    last, fourth = folder / "000005.block", folder / "000004.block"
    kept = last.read_bytes()
    last.unlink()
    lie(r"manifest\.json: it says 5 blocks, 4 are here")
    last.write_bytes(kept)
    moved = fourth.read_bytes()
    fourth.unlink()
    lie(r"000004\.block: this block is missing")
    fourth.write_bytes(kept)
    lie(r"000004\.block")
    fourth.write_bytes(moved)
    (folder / "note.txt").write_text("hello")
    lie(r"note\.txt: this is no file of a chain")
    (folder / "note.txt").unlink()
    (folder / "000006.block").write_bytes(kept)
    lie(r"000006\.block: this is block 5 once more")
    (folder / "000006.block").unlink()
    last.write_bytes(kept[:-1])
    lie(r"000005\.block")
    last.write_bytes(kept)
    manifest = folder / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(told))
    lie(r"manifest\.json: it does not describe")
    flat_again = json.dumps(told, indent=1, sort_keys=True) + "\n"
    manifest.write_text(flat_again)
    flat.verify(folder)


def test_a_seal_of_another_block_is_named(bench, folder):
    from consensus.encoding import decode, encode

    third, fourth = folder / "000003.block", folder / "000004.block"
    mixed = encode([decode(fourth.read_bytes())[0], decode(third.read_bytes())[1]])
    fourth.write_bytes(mixed)
    with pytest.raises(IntegrityError, match=r"000004\.block: Block 4"):
        flat.verify(folder)


def test_a_chain_is_written_once(bench, folder):
    with pytest.raises(ConfigError, match="written once"):
        flat.write(bench.node, folder)
    with pytest.raises(IntegrityError, match="genesis"):
        flat.verify(folder / "nowhere")

"""BFT on real sockets and disks: wire, one loop, then four processes that are killed in turn."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.bft import wire
from consensus.bft.messages import NIL, Bundle, Decision, Items, Proposal, Status, Step, Vote
from consensus.encoding import pack
from experiments.benchmarks.bft_server import build
from experiments.benchmarks.server_processes import ServerProcesses, same_status, until
from fedalign.core.errors import DataError

DIGESTS = st.sampled_from([NIL, bytes(32), b"d" * 32])
NUMBERS = st.integers(0, 1 << 40)
BATCHES = st.lists(st.binary(max_size=20), max_size=4).map(tuple)
VOTES = st.builds(
    Vote, st.sampled_from(Step), NUMBERS, NUMBERS, DIGESTS, st.integers(-1, 9), NUMBERS, st.binary(max_size=65)
)  # fmt: skip
PROPOSALS = st.builds(
    Proposal, NUMBERS, NUMBERS, BATCHES, st.integers(-1, 9), NUMBERS, st.binary(max_size=65)
)
MANY = st.lists(VOTES, max_size=3).map(tuple)
BODIES = st.one_of(
    VOTES, PROPOSALS, st.builds(Decision, NUMBERS, NUMBERS, BATCHES, MANY),
    st.builds(Bundle, st.lists(PROPOSALS, max_size=3).map(tuple), MANY),
    st.builds(Items, BATCHES), st.builds(Status, NUMBERS),
)  # fmt: skip


@given(BODIES)
def test_every_message_comes_back(body):
    assert wire.from_bytes(wire.to_bytes(body)) == body


@given(st.binary(max_size=80))
def test_noise_is_refused_with_one_kind_of_error(noise):
    try:
        wire.from_bytes(noise)
    except DataError as error:
        assert str(error)


@pytest.mark.parametrize(
    "plain",
    [
        (), ("x", 1), ("s",), ("s", b"1"), ("s", True), ("i", b"a"), ("i", ("text",)),
        ("v", 1, 1, 0, b"", -1, 2), ("v", 9, 1, 0, b"", -1, 2, b""), ("v", 1, "1", 0, b"", -1, 2, b""),
        ("p", 1, 0, (1,), -1, 0, b""), ("d", 1, 0, (), 7), ("b", ((),), ()), 5, b"x", None,
    ],
)  # fmt: skip
def test_fields_of_wrong_types_are_refused(plain):
    with pytest.raises(DataError):
        wire.from_bytes(pack(plain))


def settings(folder, **more):
    addresses = {id: f"unix:{folder}/{id}.socket" for id in range(4)}
    return {
        id: {"id": id, "addresses": addresses, "folder": str(folder / str(id)), "tick_s": 0.01, **more}
        for id in range(4)
    }  # fmt: skip


def test_four_nodes_decide_three_go_on_and_the_fourth_catches_up(tmp_path):
    async def play():
        built = {
            id: build(setting) for id, setting in settings(tmp_path, checkpoint_every=40).items()
        }
        for node, _ in built.values():
            await node.start()
        first = built[0][0]
        assert all(await asyncio.gather(*(first.ordered(b"=%d" % n) for n in range(20))))
        await built[3][0].close()
        for number in range(8):
            assert await built[number % 3][0].ordered(b"=more %d" % number)
        built[3] = build(settings(tmp_path)[3])
        await built[3][0].start()
        for _ in range(1000):
            ledgers = [ledger for _, ledger in built.values()]
            if all(ledger.count == 28 for ledger in ledgers):
                break
            await asyncio.sleep(0.01)
        assert [ledger.count for ledger in ledgers] == [28] * 4
        assert len({ledger.crc for ledger in ledgers}) == 1
        assert not any(node.evidence or node.failed for node, _ in built.values())
        for node, _ in built.values():
            await node.close()

    asyncio.run(play())


def test_a_failing_disk_stops_the_node_and_says_why(tmp_path, monkeypatch):
    async def play():
        node, _ = build(settings(tmp_path)[0])

        def full():
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(node.journal, "sync", full)
        await node.start()
        node.core.round = 3  # its turn to propose, which it must write down first
        assert not await node.ordered(b"=x")
        assert "No space left" in str(node.failed)
        await node.close()

    asyncio.run(play())


@pytest.mark.slow
def test_four_processes_survive_kills_in_turn(tmp_path):
    """SIGKILL each server once, three go on; whatever was acknowledged is in everybody's list."""
    with ServerProcesses("experiments.benchmarks.bft_server", settings(tmp_path)) as servers:
        until(
            lambda: all(len(servers.ask(i, do="status")["reachable"]) == 3 for i in range(4)),
            20,
            "links",
        )
        acknowledged = []
        for victim in range(4):
            alive = [id for id in range(4) if id != victim]
            servers.kill(victim)
            for number in range(10):
                value = f"{victim}.{number}"
                if servers.ask(alive[number % 3], do="append", value=value)["ok"]:
                    acknowledged.append(value)
            servers.start(victim)
            until(lambda: same_status(servers, ("count", "crc")), 20.0, "equal ledgers")
        lists = [servers.ask(id, do="read")["values"] for id in range(4)]
        told = [servers.ask(id, do="status") for id in range(4)]
    assert len(acknowledged) == 40
    assert all(each == lists[0] for each in lists)
    assert sorted(lists[0]) == sorted(acknowledged)
    assert not any(status["evidence"] or status["warnings"] or status["failed"] for status in told)

"""Raft on real sockets and disks: in one loop, then as processes that are killed."""

import asyncio
import signal

import pytest

from consensus.disk import FolderDisk, FolderLock
from consensus.network.hello import Credentials
from consensus.network.processes import Limits, ProcessNetwork
from consensus.raft.config import RaftConfig
from consensus.raft.history import Operation, violation
from consensus.raft.messages import ConfState
from consensus.raft.node import RaftNode
from consensus.wal import WriteAheadLog
from experiments.benchmarks.raft_server import CHAIN_ID, Ledger, key_of
from experiments.benchmarks.server_processes import ServerProcesses, until
from fedalign.core.errors import ConfigError

MEMBERS = {id: key_of(id).node_id for id in range(3)}


class Nodes:
    """Three nodes in this loop, disks in folders."""

    def __init__(self, folder, **more):
        self.folder, self.more = folder, {"tick_s": 0.01, "snapshot_every": 40, **more}
        self.addresses = {id: f"unix:{folder}/{id}.socket" for id in range(3)}
        self.nodes, self.ledgers = {}, {}

    async def start(self, id):
        disk = FolderDisk(self.folder / str(id))
        storage = WriteAheadLog(disk, ConfState((0, 1, 2)), segment_bytes=1 << 16)
        mine = Credentials(id, key_of(id), CHAIN_ID, MEMBERS)

        def connect(receive):
            return ProcessNetwork(mine, self.addresses, receive, Limits(backoff_s=(0.01, 0.05)))

        self.ledgers[id] = Ledger()
        self.nodes[id] = RaftNode(id, RaftConfig(), storage, self.ledgers[id], connect, **self.more)
        await self.nodes[id].start()

    async def leader(self):
        for _ in range(1000):
            for node in self.nodes.values():
                if node.core.is_leader() and not node.stopped.is_set():
                    return node
            await asyncio.sleep(0.01)
        raise AssertionError("no leader")

    async def close(self):
        for node in self.nodes.values():
            await node.close()

    async def equal(self, count):
        for _ in range(1000):
            if all(ledger.count == count for ledger in self.ledgers.values()):
                assert len({ledger.crc for ledger in self.ledgers.values()}) == 1
                return
            await asyncio.sleep(0.01)
        raise AssertionError([ledger.count for ledger in self.ledgers.values()])


def test_three_nodes_order_and_read_and_restart_from_their_disks(tmp_path):
    """100 values at once, a snapshot on the way; a closed node comes back with all of them."""

    async def play():
        nodes = Nodes(tmp_path)
        for id in range(3):
            await nodes.start(id)
        leader = await nodes.leader()
        values = [b"=%d" % number for number in range(100)]
        assert all(await asyncio.gather(*(leader.ordered(value) for value in values)))
        assert await leader.linearizable()
        assert nodes.ledgers[leader.core.id].values == [str(number) for number in range(100)]
        await nodes.equal(100)
        away = next(id for id in range(3) if id != leader.core.id)
        await nodes.nodes[away].close()
        assert await leader.ordered(b"=meanwhile")
        await nodes.start(away)
        await nodes.equal(101)
        assert leader.core.log.snapshot.index >= 40
        follower = nodes.nodes[away]
        assert await follower.linearizable()
        assert not await follower.ordered(b"=not here")  # who waits must ask the leader
        await nodes.close()

    asyncio.run(play())


def test_a_node_without_a_majority_promises_nothing(tmp_path):
    async def play():
        nodes = Nodes(tmp_path)
        for id in range(3):
            await nodes.start(id)
        leader = await nodes.leader()
        for id, node in nodes.nodes.items():
            if node is not leader:
                await nodes.nodes[id].close()
        waiting = asyncio.ensure_future(leader.ordered(b"=lost"))
        await asyncio.sleep(0.3)
        assert not waiting.done() or not waiting.result()
        assert not await leader.linearizable()
        await leader.close()
        assert not await waiting

    asyncio.run(play())


def test_a_failing_disk_stops_the_node_and_says_why(tmp_path, monkeypatch):
    async def play():
        nodes = Nodes(tmp_path)
        for id in range(3):
            await nodes.start(id)
        leader = await nodes.leader()

        def full(name):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(leader.storage.disk, "sync", full)
        assert not await leader.ordered(b"=x")
        assert leader.stopped.is_set() and "No space left" in str(leader.failed)
        await leader.close()
        del nodes.nodes[leader.core.id], nodes.ledgers[leader.core.id]
        other = await nodes.leader()
        assert other is not leader and await other.ordered(b"=y")
        await nodes.close()

    asyncio.run(play())


def test_frames_that_are_no_messages_are_counted(tmp_path):
    async def play():
        nodes = Nodes(tmp_path)
        for id in range(3):
            await nodes.start(id)
        leader = await nodes.leader()
        target = (leader.core.id + 1) % 3
        leader.network.send(target, b"noise")
        for _ in range(500):
            if nodes.nodes[target].malformed:
                break
            await asyncio.sleep(0.01)
        assert nodes.nodes[target].malformed == 1
        assert await (await nodes.leader()).ordered(b"=still")
        await nodes.close()

    asyncio.run(play())


# ---------------------------------------------------------------------- processes


def test_a_server_started_twice_is_refused(tmp_path):
    """The second process ends at once and says why; the lock goes when the first is killed."""
    setting = {"id": 0, "addresses": {0: f"unix:{tmp_path}/s"}, "folder": str(tmp_path / "disk")}
    with ServerProcesses("experiments.benchmarks.raft_server", {0: setting}) as servers:
        until(lambda: servers.ask(0, do="status")["role"] == "LEADER", 60.0, "the lonely leader")
        with pytest.raises(ConfigError, match="in use by another server"):
            FolderLock(tmp_path / "disk")
        servers.kill(0)
        FolderLock(tmp_path / "disk").release()


@pytest.mark.slow
def test_killed_processes_lose_nothing_that_was_acknowledged(tmp_path):
    """Five times: SIGKILL the leader (once SIGSTOP), go on with the others, start it again.

    What was acknowledged is there at the end, once, and in real-time order.
    """
    addresses = {id: f"unix:{tmp_path}/{id}.socket" for id in range(3)}
    settings = {
        id: {"id": id, "addresses": addresses, "folder": str(tmp_path / str(id)), "snapshot_every": 50}
        for id in range(3)
    }  # fmt: skip
    calls, clock = [], iter(range(1 << 30))
    with ServerProcesses("experiments.benchmarks.raft_server", settings) as servers:
        for kill in range(5):
            leader = servers.leader(60.0)
            for number in range(30):
                started, value = next(clock), f"{kill}.{number}"
                ok = servers.ask(leader, do="append", value=value)["ok"]
                calls.append(Operation("k", started, next(clock) if ok else None, value))
            servers.kill(leader)
            survivor = servers.leader(60.0)
            started = next(clock)
            told = servers.ask(survivor, do="read")
            if told["ok"]:
                calls.append(Operation("k", started, next(clock), seen=tuple(told["values"])))
            if kill == 2:
                other = next(id for id in servers.running if id != survivor)
                servers.running[other].send_signal(signal.SIGSTOP)
                assert not servers.ask(survivor, do="read")["ok"]  # one of three is no majority
                servers.running[other].send_signal(signal.SIGCONT)
            servers.start(leader)
        servers.leader(60.0)
        until(lambda: _equal(servers), 60.0, "all servers to hold the same")
        final = servers.ask(servers.leader(), do="read")
        assert final["ok"]
    acknowledged = [call.value for call in calls if call.value and call.finished_ns is not None]
    assert len(acknowledged) >= 120
    assert violation(calls, {"k": final["values"]}) == ""


def _equal(servers):
    told = [servers.ask(id, do="status") for id in sorted(servers.running)]
    return len({(status["count"], status["crc"]) for status in told}) == 1

"""Chain: our sealed blocks and commits against eth-tester's, turn by turn in one process.

eth-tester keeps nothing on disk and seals nothing; ours writes every block to its database with a
quorum of signatures. Each rate is the best of the repetitions, which alternate between the rivals,
per second of CPU: neither waits for a disk, and what else the machine does must not count.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time
from typing import Any

from consensus.chain.abi import Interface
from consensus.chain.compiler import compiled
from consensus.chain.database import Database
from consensus.chain.genesis import ADDRESSES, Genesis
from consensus.chain.node import ChainNode
from consensus.chain.record import Commits, RoundRecord
from consensus.chain.seal import BlockSeal, lead
from consensus.chain.transactions import keccak, signed
from consensus.identity import Key, SignatureCheck
from consensus.pofel.messages import Commit, Entry, Final
from consensus.pofel.seal import Seal
from experiments.benchmarks.cells import write_rows
from fedalign.core.errors import ConfigError

MEMBERS, PER_CALL = 64, 64
TESTER_MEMBERS = 4  # fewer members, cheaper calls: in the rival's favour
GOAL_EMPTY, GOAL_CONTRACT, GOAL_ROOT = 1.0, 5.0, 20.0


def chain(config: Mapping[str, Any], folder: Path, environment: Mapping[str, Any]) -> None:
    """`scenario=speed_chain`: sealed blocks and commits against eth-tester's."""
    rows = measure(config["blocks"], config["commits"], config["repetitions"])
    write_rows(rows, config, folder, environment)


def measure(blocks: int, commits: int, repetitions: int) -> list[dict[str, Any]]:
    """blocks: empty ones per turn. commits: per turn, a multiple of 64. repetitions: >= 1."""
    if blocks < 1 or commits < PER_CALL or commits % PER_CALL or repetitions < 1:
        raise ConfigError(
            f"The chain's benchmark takes blocks >= 1, commits in steps of {PER_CALL} and "
            f"repetitions >= 1, got {blocks}, {commits} and {repetitions}."
        )
    with tempfile.TemporaryDirectory() as folder:
        return _empty(Path(folder), blocks, repetitions) + _commits(
            Path(folder), commits, repetitions
        )


class _Ours:
    """A node with n members, whose first quorum seals."""

    def __init__(self, path: Path, n: int):
        self.keys = [Key(hashlib.sha256(b"benchmark %d" % i).digest()) for i in range(n)]
        members = tuple(key.node_id for key in self.keys)
        self.node = ChainNode(Genesis(members, gas_limit=10**9), Database(path))
        self.round, self.elsewhere_s = 0, 0.0

    def block(self, *raw: bytes) -> None:
        """Build, check, seal and keep a block; the other members sign on clocks of their own."""
        node, author = self.node, self.keys[0]
        payload = node.build(author.node_id, node.head.timestamp + 1, bytes(32), raw)
        header = node.preview(payload)
        self.round += 1
        where = (node.genesis.chain_id, self.round)
        needs = node.genesis.needs(len(self.keys))
        mine = Entry.sign(author, *where, Final(0, header.hash))
        begin = process_time()
        others = [Entry.sign(key, *where, Final(0, header.hash)) for key in self.keys[1:needs]]
        self.elsewhere_s += process_time() - begin
        leader = lead(author, *where, 0, header.hash, node.check)
        node.check.made(mine.digest, mine.signature, mine.sender)
        node.import_final(payload, BlockSeal(self.round, 0, leader, Seal((mine, *others))))

    def many(self, blocks: int) -> float:
        """That many empty blocks; the seconds of the other members."""
        self.elsewhere_s = 0.0
        for _ in range(blocks):
            self.block()
        return self.elsewhere_s

    def raw(self, contract: str, data: bytes, ahead: int = 0) -> bytes:
        author = self.keys[0]
        nonce = self.node.state().get_nonce(author.node_id) + ahead
        return signed(author, chain_id=self.node.genesis.chain_id, nonce=nonce,
                      to=ADDRESSES[contract], data=data)  # fmt: skip


def _empty(folder: Path, blocks: int, repetitions: int) -> list[dict[str, Any]]:
    from eth_tester import EthereumTester, PyEVMBackend

    tester = EthereumTester(PyEVMBackend())
    alone, four = _Ours(folder / "alone.db", 1), _Ours(folder / "four.db", 4)
    rivals = {
        "eth-tester, in memory, no seal": lambda: tester.mine_blocks(blocks) and None,
        "ours, one member, sealed, on disk": lambda: alone.many(blocks),
        "ours, four members, sealed, on disk": lambda: four.many(blocks),
    }
    times = _in_turns(rivals, repetitions)
    return _rows("empty_blocks", "blocks/s", blocks, times, {1: GOAL_EMPTY, 2: GOAL_EMPTY})


def _commits(folder: Path, commits: int, repetitions: int) -> list[dict[str, Any]]:
    """Every commit is signed by its member; rounds are fresh in every turn."""
    tester = _Tester()
    chain, rooted = _Ours(folder / "commits.db", MEMBERS), _Ours(folder / "roots.db", MEMBERS)
    turn = iter(range(1, 10**9))
    prepared: dict[str, Any] = {}

    def prepare() -> None:
        first = next(turn) * 1000
        prepared["tester"] = [
            tester.raw(first + i // TESTER_MEMBERS, i % TESTER_MEMBERS) for i in range(commits)
        ]
        prepared["ours"] = [_signed(chain, first + i) for i in range(commits // PER_CALL)]
        prepared["roots"] = [_signed(rooted, first + i) for i in range(commits // PER_CALL)]

    rivals = {
        "eth-tester, a block per commit": lambda: tester.each(prepared["tester"][:PER_CALL]),
        "eth-tester, all commits in one block": lambda: tester.batched(prepared["tester"]),
        "ours, signatures in the contract": lambda: _in_contract(chain, prepared["ours"]),
        "ours, signatures in the servers, root on the chain": lambda: _as_root(
            rooted, prepared["roots"]
        ),
    }
    times = _in_turns(rivals, repetitions, prepare)
    first = "eth-tester, a block per commit"
    times[first] *= commits / PER_CALL
    goals = {2: GOAL_CONTRACT, 3: GOAL_ROOT}
    return _rows("commits", "commits/s", commits, times, goals)


def _signed(ours: _Ours, round_: int) -> tuple[int, list[Entry]]:
    chain_id = ours.node.genesis.chain_id
    body = Commit(keccak(b"%d" % round_), 100, bytes(32), 1_700_000_000)
    return round_, [Entry.sign(key, chain_id, round_, body) for key in ours.keys[:PER_CALL]]


def _in_contract(ours: _Ours, rounds: list[tuple[int, list[Entry]]]) -> None:
    """One call per 64 commits, all in one block."""
    interface = Interface(compiled("Commitments").abi)
    raw = []
    for i, (round_, entries) in enumerate(rounds):
        lists = zip(*((p, e.body, e.signature) for p, e in enumerate(entries)), strict=True)
        data = interface.call("submit", round_, *map(list, lists))
        raw.append(ours.raw("Commitments", data, ahead=i))
    ours.block(*raw)


def _as_root(ours: _Ours, rounds: list[tuple[int, list[Entry]]]) -> None:
    """Check each signature once, as a server does before ordering; a settling call per round."""
    check, raw = SignatureCheck(), []
    for i, (round_, entries) in enumerate(rounds):
        bad = [e for e in entries if check(e.digest, e.signature, e.sender)]
        told = [(e.sender, e.content.commitment, e.content.size) for e in entries if e not in bad]
        record = RoundRecord(round_, ours.keys[0].node_id, bytes(32), commits=Commits(told))
        raw.append(ours.raw("Rounds", record.call(), ahead=i))
    ours.block(*raw)


class _Tester:
    """The same contract on eth-tester, one commit per transaction: how a plain client would do it."""

    def __init__(self) -> None:
        from web3 import EthereumTesterProvider, Web3

        self.web3 = Web3(EthereumTesterProvider())
        self.tester = self.web3.provider.ethereum_tester
        self.account = self.web3.eth.accounts[0]
        self.keys = [
            Key(hashlib.sha256(b"benchmark %d" % i).digest()) for i in range(TESTER_MEMBERS)
        ]
        members = self._deploy("Members", [key.node_id for key in self.keys], False)
        contract = self._deploy("Commitments", self.account, members)
        abi = list(compiled("Commitments").abi)
        self.contract = self.web3.eth.contract(address=contract, abi=abi)
        self.chain_id = self.web3.eth.chain_id

    def _deploy(self, name: str, *values: Any) -> str:
        artifact = compiled(name)
        build = self.web3.eth.contract(abi=list(artifact.abi), bytecode=artifact.bytecode)
        sent = build.constructor(*values).transact({"from": self.account})
        return self.web3.eth.wait_for_transaction_receipt(sent)["contractAddress"]

    def raw(self, round_: int, member: int) -> Any:
        body = Commit(keccak(b"%d" % round_), 100, bytes(32), 1_700_000_000)
        entry = Entry.sign(self.keys[member], self.chain_id, round_, body)
        return self.contract.functions.submit(round_, [member], [entry.body], [entry.signature])

    def each(self, calls: list[Any]) -> None:
        """A block per transaction, as the tester does by itself."""
        for call in calls:
            call.transact({"from": self.account, "gas": 300_000})

    def batched(self, calls: list[Any]) -> None:
        """All transactions, then as few blocks as its gas limit allows."""
        self.tester.disable_auto_mine_transactions()
        for place, call in enumerate(calls, start=1):
            call.transact({"from": self.account, "gas": 300_000})
            if place % 90 == 0:
                self.tester.mine_block()
        self.tester.mine_block()
        self.tester.enable_auto_mine_transactions()


def _in_turns(
    rivals: dict[str, Callable[[], float | None]],
    repetitions: int,
    prepare: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """CPU seconds of each rival, the least of its turns after one that warms up. A call returns
    the seconds that do not count, or nothing."""
    times = dict.fromkeys(rivals, float("inf"))
    for turn in range(repetitions + 1):
        prepare()
        for name, call in rivals.items():
            begin = process_time()
            elsewhere_s = call() or 0.0
            if turn:
                times[name] = min(times[name], process_time() - begin - elsewhere_s)
    return times


def _rows(
    table: str, unit: str, count: int, times: dict[str, float], goals: dict[int, float]
) -> list[dict[str, Any]]:
    """Rates; ratios against the best of eth-tester's."""
    rates = {name: count / seconds for name, seconds in times.items()}
    anchor = max(rate for name, rate in rates.items() if name.startswith("eth-tester"))
    return [
        {
            "table": table, "method": name, unit: rate, "ratio": rate / anchor,
            "goal": f">= {goals[place]:g}x" if place in goals else None,
            "met": rate / anchor >= goals[place] if place in goals else None,
        }
        for place, (name, rate) in enumerate(rates.items())
    ]  # fmt: skip

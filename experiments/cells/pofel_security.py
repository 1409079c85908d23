"""Cell of `scenario=pofel_security`: known attacks on whole rounds: expected, observed, verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from consensus.baselines.pofel_broadcast import PofelBroadcast
from consensus.encoding import decode, encode
from consensus.fault import Fault
from consensus.faults.bribe import Bribe
from consensus.faults.equivocate import Equivocate
from consensus.faults.free_ride import FreeRide
from consensus.faults.misreport import Misreport
from consensus.faults.plagiarise import Plagiarise
from consensus.faults.rush import Rush
from consensus.faults.withhold import Withhold
from consensus.network.links import Constant, Link
from consensus.pofel.btsv import Btsv
from consensus.pofel.effects import Ignored
from consensus.pofel.evaluation import quantize
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Entry
from consensus.pofel.settings import Timeouts
from consensus.protocol import Faulty, PoFEL
from experiments.benchmarks.cells import write_rows
from experiments.cells.pofel_rounds import agree, models
from fedalign.core.agreement import Verdict
from fedalign.core.errors import DataError, QuorumLostError

Config = Mapping[str, Any]
QUICK = Timeouts(train_ms=2000, commit_ms=1000, reveal_ms=1000, avail_ms=1000, evaluate_ms=500,
                 vote_ms=500, block_ms=500)  # fmt: skip


class Finding(NamedTuple):
    """One row. test: its number. attack: what was tried. expected, observed: in words."""

    test: str
    attack: str
    expected: str
    observed: str
    holds: bool


def as_expected(test: str, attack: str, expected: str, observed: str) -> Finding:
    """Where the words must be the same."""
    return Finding(test, attack, expected, observed, observed == expected)


def answer(machine: RoundMachine, entry: Entry) -> str:
    """Why a machine ignored an entry, or "accepted"."""
    before = machine.state
    found = machine.apply(entry)
    if machine.state is before and len(found) == 1 and isinstance(found[0], Ignored):
        return found[0].reason
    return "accepted"


def decoded(data: bytes) -> str:
    """Whether these bytes are the one form of an entry."""
    try:
        Entry.decode(data)
    except DataError:
        return "refused"
    return "accepted" if decode(data) and encode(decode(data)) == data else "refused"


class Arena:
    """n servers and a seed; plays rounds with a fault and compares with the honest ones. messages:
    how many tiny ones a server is sent."""

    def __init__(self, servers: int, seed: int, messages: int = 1_000_000):
        self.servers, self.seed, self.messages = servers, seed, messages
        self.honest = self.play()
        self.last = servers - 1

    def chain(self, fault: Fault | None = None, liars: tuple[int, ...] = (), **more: Any) -> PoFEL:
        faults = [] if fault is None else [Faulty(fault, liars)]
        more = {"timeouts": QUICK, "recompute": False, "measure_cpu": False, **more}
        chain = PoFEL(self.servers, self.seed, faults=faults, **more)
        chain.open(None)
        return chain

    def play(self, fault: Fault | None = None, liars: tuple[int, ...] = (), **more: Any) -> Verdict:
        """The first round."""
        return self.round(self.chain(fault, liars, **more), 1)

    def round(self, chain: PoFEL, round_: int) -> Verdict:
        return agree(chain, models(self.servers, 64, self.seed, round_), round_)

    def pay(self, verdict: Verdict, server: int) -> float:
        """In units of what the others get on average."""
        rest = [verdict.rewards.get(i, 0) for i in range(self.servers) if i != server]
        return verdict.rewards.get(server, 0) / (sum(rest) / len(rest))


def pofel_security(config: Config, folder: Path, environment: Config) -> None:
    """All tests in one arena."""
    from experiments.cells.pofel_security_limits import LIMITS
    from experiments.cells.pofel_security_parts import PARTS

    arena = Arena(config["servers"], config["seed"], config["messages"])
    found = [finding for test in (*ROUNDS, *PARTS, *LIMITS) for finding in test(arena)]
    found.sort(key=lambda finding: finding.test)
    rows = [
        {"test": f.test, "attack": f.attack, "seed": config["seed"], "expected": f.expected,
         "observed": f.observed, "holds": f.holds}
        for f in found
    ]  # fmt: skip
    write_rows(rows, config, folder, environment)


def _struck(verdict: Verdict) -> str:
    return ", ".join(f"{kind} of {server}" for server, kind in verdict.strikes) or "no strike"


def plagiarism(arena: Arena) -> Iterator[Finding]:
    """T-01 to T-03."""
    me = arena.last
    verdict = arena.play(Plagiarise("commitment"), (me,))
    out = me not in verdict.members
    yield Finding(
        "T-01", "copied commitment", "does not open: excluded, late_reveal",
        f"{'excluded' if out else 'in the round'}, {_struck(verdict)}",
        out and verdict.strikes == ((me, "late_reveal"),),
    )  # fmt: skip
    verdict = arena.play(Plagiarise("late"), (me,))
    out = me not in verdict.members
    yield Finding(
        "T-02", "commits after the reveal", "too late: excluded, no strike",
        f"{'excluded' if out else 'in the round'}, {_struck(verdict)}",
        out and not verdict.strikes,
    )  # fmt: skip
    for noise, earns in ((0.0005, False), (0.05, True)):
        verdict = arena.play(Plagiarise("near", noise=noise), (me,))
        pay = arena.pay(verdict, me)
        yield Finding(
            "T-03", f"near copy, noise {noise:g}",
            "paid like a model" if earns else "no pay for the model", f"pay {pay:.2f} of the others'",
            (pay > 0.5) == earns,
        )  # fmt: skip


def free_riding(arena: Arena) -> Iterator[Finding]:
    """T-04."""
    verdict = arena.play(FreeRide(), (arena.last,))
    pay = arena.pay(verdict, arena.last)
    yield Finding(
        "T-04", "update of zeros", "no pay for the model, never leads",
        f"pay {pay:.2f} of the others', server {verdict.leader} leads",
        pay < 0.1 and verdict.leader != arena.last,
    )  # fmt: skip


def bribery(arena: Arena) -> Iterator[Finding]:
    """T-05: f bribed servers; the closed forms are `scenario=pofel_bribery`'s."""
    others = tuple(i for i in range(arena.servers) if i != arena.honest.leader)
    liars = others[: (arena.servers - 1) // 3]
    for variant in ("prelec", "anchored", "audited"):
        for strategy in ("naive", "copycat", "calibrated", "optimal"):
            btsv = Btsv(variant)
            verdict = arena.play(Bribe(strategy), liars, btsv=btsv)
            calm = arena.play(None, (), btsv=btsv)
            gain = (verdict.scores[liars[0]] - calm.scores[liars[0]]) / 1e6
            pays = variant == "prelec" and strategy != "naive"
            same = verdict.leader == arena.honest.leader
            yield Finding(
                "T-05", f"{strategy} bribe, {variant}",
                f"{'pays' if pays else 'loses'}; leader kept",
                f"{gain:+.2f} nats; leader {'kept' if same else 'lost'}",
                (gain > 0) == pays and same,
            )  # fmt: skip


def equivocation(arena: Arena) -> Iterator[Finding]:
    """T-06."""
    for what in ("commit", "vote", "block"):
        liar = arena.honest.leader if what == "block" else arena.last
        chain = arena.chain(Equivocate(what), (liar,))
        first, second = arena.round(chain, 1), arena.round(chain, 2)
        third = arena.round(chain, 3)
        strikes = {*first.strikes, *second.strikes, *third.strikes}
        gone = liar not in third.members
        yield Finding(
            "T-06", f"two {what}s", "reported, removed; nobody else",
            f"{_struck(first) if first.strikes else _struck(second)}, "
            f"{'removed' if gone else 'still there'}",
            gone and strikes == {(liar, "equivocation")},
        )  # fmt: skip


def silence(arena: Arena) -> Iterator[Finding]:
    """T-09 and T-10."""
    me, kinds = arena.last, {"reveal": "late_reveal", "data": "withheld_data"}
    for what, kind in kinds.items():
        verdict = arena.play(Withhold(what), (me,))
        out = me not in verdict.members
        yield Finding(
            "T-09", f"never sends its {what}", f"excluded, {kind}",
            f"{'excluded' if out else 'in the round'}, {_struck(verdict)}",
            out and verdict.strikes == ((me, kind),),
        )  # fmt: skip
    served = arena.servers - 2
    verdict = arena.play(Withhold("data", served=served), (me,))
    yield Finding(
        "T-09", f"serves {served} servers only", "stays in, the others serve it on",
        f"{len(verdict.members)} models, {_struck(verdict)}",
        me in verdict.members and not verdict.strikes,
    )  # fmt: skip
    slow = {(1, i): Link(Constant(300_000)) for i in range(arena.servers) if i != 1}
    verdict = arena.play(Rush("commit"), (me,), links=slow)
    yield Finding(
        "T-09", "ends the commits before a slow server's", "too early: refused, nobody is left out",
        f"{len(verdict.members)} of {arena.servers} models", 1 in verdict.members,
    )  # fmt: skip
    verdict = arena.play(Withhold("block"), (arena.honest.leader,))
    yield Finding(
        "T-10", "the leader writes no block", "the next rank does, after its time",
        f"server {verdict.leader} after {verdict.cost.latency_s:.2f} s",
        verdict.leader != arena.honest.leader and verdict.block.root == arena.honest.block.root,
    )  # fmt: skip
    verdict = arena.play(down=(0,))
    yield Finding(
        "T-10", "the order's first leader is down", "another one orders; the rest agree",
        f"{len(verdict.members)} models, {_struck(verdict)}",
        len(verdict.members) == arena.servers - 1 and not verdict.strikes,
    )  # fmt: skip
    with TemporaryDirectory() as place:
        states = []
        for chain in (arena.chain(), arena.chain()):
            chain.open(Path(place))
            if not states:
                arena.round(chain, 1)
            states.append(chain.members[0].machine.state_hash())
    yield as_expected(
        "T-10", "all servers end after a block and start again", "the same state",
        "the same state" if states[0] == states[1] else "another state",
    )  # fmt: skip


def wrong_blocks(arena: Arena) -> Iterator[Finding]:
    """T-11."""
    leader = arena.honest.leader
    for about in ("aggregate", "tally", "scores", "rewards", "parent", "time", "evidence"):
        verdict = arena.play(Misreport(about), (leader,))
        yield Finding(
            "T-11", f"block with a wrong {about}", "refused by all, bad_block, next rank",
            f"{_struck(verdict)}, server {verdict.leader} wrote",
            verdict.strikes == ((leader, "bad_block"),) and verdict.leader != leader
            and verdict.block.root == arena.honest.block.root,
        )  # fmt: skip


def partitions(arena: Arena) -> Iterator[Finding]:
    """T-12."""
    n = arena.servers
    quorum = n - (n - 1) // 3
    everybody = tuple(range(n))
    cases = {
        "a minority is cut off": (everybody[:quorum], everybody[quorum:]),
        "two halves": (everybody[: n // 2], everybody[n // 2 :]),
        "three parts": (everybody[::3], everybody[1::3], everybody[2::3]),
    }
    for name, cut in cases.items():
        goes_on = len(cut[0]) >= quorum
        chain = arena.chain(None, (), cut=cut, max_aborts=0)
        try:
            seen = f"block with {len(arena.round(chain, 1).members)} models"
        except QuorumLostError:
            seen = "no block"
        chain.cut, chain.heal_ms = (), None
        after = arena.round(chain, 1 + goes_on)
        yield Finding(
            "T-12", name, f"{'the majority goes on' if goes_on else 'no block'}; heals without fork",
            f"{seen}; then {len(after.members)} models", (seen != "no block") == goes_on
            and after.members == everybody,
        )  # fmt: skip


def unsteady_links(arena: Arena) -> Iterator[Finding]:
    """T-12: one direction is dead; the network falls apart in every round and heals."""
    n = arena.servers
    deaf = {(0, i): Link(loss=1.0) for i in range(1, n // 2 + 1)}
    halves = (tuple(range(n // 2)), tuple(range(n // 2, n)))
    for name, chain in (
        ("half of the servers do not hear one", arena.chain(links=deaf)),
        ("two halves in the first 0.3 s of every round", arena.chain(cut=halves, heal_ms=300.0)),
    ):
        heights = [arena.round(chain, round_).block.height for round_ in (1, 2)]
        heads = {server.machine.state.head for server in chain.members}
        yield as_expected(
            "T-12", name, "a block per round, one head",
            f"{'a block' if heights == [1, 2] else 'not a block'} per round, "
            f"{'one head' if len(heads) == 1 else 'a fork'}",
        )  # fmt: skip


def bought_majority(arena: Arena) -> Iterator[Finding]:
    """T-13."""
    n = arena.servers
    liars = tuple(i for i in range(n) if i != arena.honest.leader)[: n // 2 + 1]
    verdict = arena.play(Bribe("naive", liars[0]), liars)
    kept = verdict.block.root == arena.honest.block.root
    yield Finding(
        "T-13", f"{len(liars)} of {n} votes bought", "elects its leader, the aggregate stays",
        f"leader {verdict.leader}, aggregate {'kept' if kept else 'changed'}",
        verdict.leader == liars[0] and kept,
    )  # fmt: skip


def split_view(arena: Arena) -> Iterator[Finding]:
    """T-14: the last server's messages reach half of the others too late."""
    n, me = arena.servers, arena.last
    slow = Link(Constant(30_000_000))
    links = {(me, i): slow for i in range(n // 2)}
    updates = models(n, 64, arena.seed)
    chain = PofelBroadcast(n, arena.seed, links=links)
    rows = quantize(updates.rows.numpy(), chain.settings.scale)
    forked = chain.play(rows, updates.samples.tolist()).forked
    yield Finding(
        "T-14", "late for half of the servers, broadcast", "the chain forks",
        "the chain forks" if forked else "one block", forked,
    )  # fmt: skip
    ordered = arena.chain()
    ordered.links = links
    verdict = arena.round(ordered, 1)
    states = {server.machine.state.head for server in ordered.members}
    yield Finding(
        "T-14", "late for half of the servers, ordered", "one block",
        "one block" if len(states) == 1 else "the chain forks",
        len(states) == 1 and verdict.block.height == 1,
    )  # fmt: skip


def grinding(arena: Arena) -> Iterator[Finding]:
    """T-15."""
    me = arena.last
    chains = [arena.chain(), arena.chain(Withhold("reveal"), (me,), max_aborts=1)]
    verdict = [arena.round(chain, 1) for chain in chains][1]
    beacons = {chain.members[0].machine.state.beacon for chain in chains}
    yield Finding(
        "T-15", "withholds its reveal to choose the beacon", "one other value, one strike for it",
        f"{len(beacons)} values, {_struck(verdict)}",
        len(beacons) == 2 and verdict.strikes == ((me, "late_reveal"),),
    )  # fmt: skip


ROUNDS: tuple[Callable[[Arena], Iterator[Finding]], ...] = (
    plagiarism, free_riding, bribery, equivocation, silence, wrong_blocks, partitions,
    unsteady_links,
    bought_majority, split_view, grinding,
)  # fmt: skip

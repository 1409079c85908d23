"""Attacks of `scenario=pofel_security` on parts: messages, weights, clocks, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from attacks.faker.faker import Faker
from consensus import identity
from consensus.disk import FolderLock
from consensus.fault import Fault, FaultView
from consensus.faults.equivocate import Equivocate
from consensus.faults.misreport import Misreport
from consensus.identity import ORDER, Key
from consensus.judge import Judge
from consensus.pofel import history
from consensus.pofel.messages import Commit, Entry, Kind
from consensus.pofel.task import Evaluator
from consensus.protocol import Faulty, Ordered, PoFEL
from experiments.cells.pofel_rounds import agree, models
from experiments.cells.pofel_security import (
    QUICK,
    Arena,
    Finding,
    answer,
    as_expected,
    decoded,
)
from fedalign.core.errors import ConfigError, QuorumLostError
from fedalign.core.seeds import Seeds
from fedalign.core.threat import View

YEAR_S = 31_556_952


# ---------------------------------------------------------------- messages


def replays(arena: Arena) -> Iterator[Finding]:
    """T-07: entries of a finished round, sent again elsewhere."""
    chain = arena.chain()
    arena.round(chain, 1)
    machine = chain.members[0].machine
    old = next(e for e in chain.members[0].stream if e.kind is Kind.COMMIT)
    other = next(node for node in chain.settings.members if node != old.sender)
    cases = {
        "an entry of the last round": (old, "other_round"),
        "as if of this round": (replace(old, round=2), "forged"),
        "on another chain": (replace(old, chain_id=1), "foreign_chain"),
        "as another kind": (replace(old, kind=Kind.VOTE_COMMIT), "forged"),
        "in another view": (replace(old, view=1), "forged"),
        "in another's name": (replace(old, sender=other), "forged"),
    }
    for name, (entry, reason) in cases.items():
        yield as_expected("T-07", f"replayed {name}", reason, answer(machine, entry))
    judge = Judge(chain.members[0], lambda: 0.0)
    kept = [name for name, (entry, _) in cases.items() if judge.admits(entry.encode())]
    counted = ", ".join(f"{n} {reason}" for reason, n in sorted(judge.refused.items()))
    yield Finding(
        "T-07", "all of these, before the order", "counted by reason; the old one is harmless",
        f"{counted}; {len(kept)} let through",
        judge.refused == {"forged": 4, "foreign_chain": 1} and len(kept) == 1,
    )  # fmt: skip


def signatures(arena: Arena) -> Iterator[Finding]:
    """T-08."""
    chain = arena.chain()
    machine, key = chain.members[0].machine, chain.members[1].key
    good = Entry.sign(key, chain.chain_id, 1, Commit(bytes(32), 0, bytes(32), 1))
    r, s, v = good.signature[:32], int.from_bytes(good.signature[32:64], "big"), good.signature[64]

    def signed(r: bytes, s: int, v: int) -> Entry:
        return replace(good, signature=r + s.to_bytes(32, "big") + bytes([v]))

    yield as_expected(
        "T-08", "the high-s twin", "high_s", answer(machine, signed(r, ORDER - s, 1 - v))
    )
    yield as_expected("T-08", "another recovery id", "forged", answer(machine, signed(r, s, 1 - v)))
    yield as_expected("T-08", "recovery id 27", "recovery_id", answer(machine, signed(r, s, 27)))
    zero = answer(machine, signed(bytes(32), s, v))
    yield as_expected("T-08", "r = 0", "signature_range", zero)
    yield as_expected("T-08", "s = 0", "signature_range", answer(machine, signed(r, 0, v)))
    short = replace(good, signature=good.signature[:64])
    yield as_expected("T-08", "64 bytes", "signature_length", answer(machine, short))
    stranger = Entry.sign(Key(bytes([7]) * 32), chain.chain_id, 1, good.content)
    yield as_expected("T-08", "a stranger's", "no_member", answer(machine, stranger))
    wide = b"\xf8" + bytes([len(good.encode())]) + good.encode()
    yield as_expected("T-08", "non-canonical RLP", "refused", decoded(wide))
    again = identity.recover(good.digest, good.signature) == key.node_id
    yield as_expected("T-08", "the good one", "accepted", "accepted" if again else "refused")


# ---------------------------------------------------------------- weights, models, clocks


def whitewash(arena: Arena) -> Iterator[Finding]:
    """T-17: a hundred rounds of good scores, then the worst one after the other."""
    n, rule = arena.servers, history.History()
    h = [0] * n
    best = [rule.s_max_micro] + [0] * (n - 1)
    for _ in range(100):
        h = history.update_history(h, best, [0] * n, rule)
    weights = history.weights(h, rule)
    ratio = max(weights) / min(weights)
    rounds = 0
    while history.weights(h, rule)[0] >= weights[1] and rounds < 50:
        h = history.update_history(h, [-rule.s_max_micro] + [0] * (n - 1), [0] * n, rule)
        rounds += 1
    yield Finding(
        "T-17", "earns a good name, then spends it", "no weight above 3 times another's; gone soon",
        f"ratio {ratio:.2f}, below the others after {rounds} rounds",
        ratio <= 3 and rounds <= 10,
    )  # fmt: skip


def similar_fakes(arena: Arena) -> Iterator[Finding]:
    """T-18: the server nearest to the mean sends a Faker row made from its own."""
    spread = [0.3] * (arena.servers - 1) + [0.05]
    for metric in ("cosine_update", "neg_l2_update", "spp"):
        chain = arena.chain(evaluator=Evaluator(metric))
        rounds = range(1, 6)
        honest = sum(_leads(arena, chain, spread, k, False) for k in rounds)
        led = sum(_leads(arena, chain, spread, k, True) for k in rounds)
        yield Finding(
            "T-18", f"a Faker model, metric {metric}", "leads less often than with its honest model",
            f"leads {led} of {len(rounds)} rounds (honest: {honest})", led < honest,
        )  # fmt: skip


def _leads(arena: Arena, chain: PoFEL, spread: Sequence[float], round_: int, fakes: bool) -> bool:
    """Whether the last server leads, by its honest model or by a Faker row made from it."""
    updates = models(arena.servers, 64, arena.seed, round_, spread=spread)
    own, d = updates.rows[-1:], updates.rows.shape[1]
    if fakes:
        view = View(round_, arena.servers, own, torch.zeros(d), torch.zeros(d),
                    rng=Seeds(arena.seed).at("faker", round=round_))  # fmt: skip
        rows = torch.cat([updates.rows[:-1], Faker(solver="cosine", tau=0.5)(view).rows])
        updates = replace(updates, rows=rows)
    return agree(chain, updates, round_).leader == arena.last


@dataclass(frozen=True)
class _Skew(Fault):
    """Commits with a clock that is off by `seconds`."""

    seconds: int

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        return [
            view.say(key, replace(e.content, time_s=max(0, e.content.time_s + self.seconds)))
            if e.kind is Kind.COMMIT
            else e
            for e in outgoing
        ]


def clocks(arena: Arena) -> Iterator[Finding]:
    """T-19: f servers' clocks are a year off; the block's time stays the honest ones'."""
    f = (arena.servers - 1) // 3
    liars = tuple(range(arena.servers - f, arena.servers))
    for name, seconds in (("ahead", YEAR_S), ("behind", -YEAR_S)):
        chain = arena.chain(_Skew(seconds), liars)
        arena.round(chain, 1000)
        told = chain.members[0].machine.state.head_time_s
        yield Finding(
            "T-19", f"{f} clocks a year {name}", "the block has an honest server's time",
            f"block at {told} s, honest clocks at 1001 s", told == 1001,
        )  # fmt: skip


def byzantine_order(arena: Arena) -> Iterator[Finding]:
    """T-20: where only the order's leader writes, a lying one stops everything but forges nothing."""
    chain = Ordered(arena.servers, arena.seed, timeouts=QUICK, recompute=False, measure_cpu=False, max_aborts=0,
                    faults=[Faulty(Misreport("aggregate"), (0,))])  # fmt: skip
    chain.open(None)
    try:
        arena.round(chain, 1)
        seen = "a block became final"
    except QuorumLostError:
        seen = "no block"
    yield as_expected("T-20", "a lying leader under Raft (not tolerated)", "no block", seen)


# ---------------------------------------------------------------- keys


def double_start(arena: Arena) -> Iterator[Finding]:
    """T-21: one key, two processes; forced, the two contradict each other and are convicted."""
    with TemporaryDirectory() as place, FolderLock(Path(place) / "server"):
        try:
            FolderLock(Path(place) / "server").release()
            seen = "starts"
        except ConfigError:
            seen = "refused"
    yield as_expected("T-21", "a second start in one folder", "refused", seen)
    verdict = arena.play(Equivocate("vote"), (arena.last,))
    caught = verdict.strikes == ((arena.last, "equivocation"),)
    yield as_expected(
        "T-21", "forced all the same", "convicted", "convicted" if caught else "not noticed"
    )


PARTS: tuple[Callable[[Arena], Iterator[Finding]], ...] = (
    replays, signatures, whitewash, similar_fakes, clocks, byzantine_order, double_start,
)  # fmt: skip

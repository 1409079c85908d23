"""Cell of `scenario=pofel_bribery`: what coalitions of every size earn by a bought vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from consensus.faults.bribe import Bribe
from consensus.pofel import bribery
from consensus.pofel.btsv import Btsv
from consensus.pofel.prediction import WHOLE
from consensus.pofel.rewards import RewardRule
from consensus.protocol import Faulty, PoFEL
from experiments.benchmarks.cells import write_rows
from experiments.cells.pofel_rounds import SIMPLE, agree, curve, models
from fedalign.core.agreement import Verdict

Config = Mapping[str, Any]
MICRO = 1e6


@dataclass(frozen=True)
class Played:
    """One round. coalition, honest: their mean scores in nats. shares: of an honest voter's
    prediction (p on its choice, q on the briber's), of a bribed one's (r, r_own)."""

    verdict: Verdict
    coalition: float
    honest: float
    p: float
    q: float
    r: float
    r_own: float


def pofel_bribery(config: Config, folder: Path, environment: Config) -> None:
    """Whole rounds of PoFEL on a simulated network, b of n servers bribed."""
    n, seed = config["servers"], config["seed"]
    btsv = Btsv(config["variant"], round(WHOLE * config["alpha"]))
    calm = _round(config, btsv, 0)
    rows: list[dict[str, Any]] = []
    gains, shares = [], []
    for bribed in range(1, n // 2 + 1):
        played = _round(config, btsv, bribed)
        where = {"variant": btsv.variant, "strategy": config["strategy"], "bribed": bribed}
        gain = played.coalition - calm.honest
        form = _closed_form(btsv, config["strategy"], played, bribed, n)
        pay = _pay(played.verdict, range(bribed)) - _pay(calm.verdict, range(bribed))
        rows.append({
            **where, "seed": seed,
            "coalition": played.coalition, "honest": played.honest,
            "closed form": form, "off by": abs(played.coalition - form),
            "gain by deviating": gain, "bribe pays": gain > 0,
            "break-even bribe": max(0.0, -pay),
            "what the nats are worth": _worth(config["units"], btsv, calm, bribed, n),
            "leader kept": played.verdict.leader == calm.verdict.leader,
            "model kept": played.verdict.block.root == calm.verdict.block.root,
        })  # fmt: skip
        gains.append(gain)
        shares.append(bribed / n)
    across, up = "bribed share of the servers", "gain by a bought vote (nats)"
    rows.append(curve("bribery", btsv.variant, config["strategy"], shares, gains, across, up))
    write_rows(rows, config, folder, environment)


def _round(config: Config, btsv: Btsv, bribed: int) -> Played:
    """One round with the first `bribed` servers bought; none of them has the best model."""
    n, strategy = config["servers"], config["strategy"]
    target = None if bribed else 0
    faults = [Faulty(Bribe(strategy, target), tuple(range(bribed)))] if bribed else []
    rewards = RewardRule(units=config["units"])
    chain = PoFEL(
        n,
        config["seed"],
        btsv=btsv,
        faults=faults,
        rewards=rewards,
        **SIMPLE,
    )
    chain.open(None)
    spread = [0.3] * (n - 1) + [0.03]  # the last one's model is the best
    verdict = agree(chain, models(n, config["d"], config["seed"], spread=spread))
    return _played(chain, verdict, bribed)


def _played(chain: PoFEL, verdict: Verdict, bribed: int) -> Played:
    """Scores of both groups, and what they predicted, read from the ordered votes."""
    told = {e.sender: e.content for e in chain.members[0].stream if e.kind.value == "vote"}
    of = [told[node] for node in chain.settings.members]
    best, own = of[-1].choice, of[0].choice
    shares = [np.array(vote.prediction_ppm) / WHOLE for vote in of]
    scores = [verdict.scores[i] / MICRO for i in range(len(of))]
    coalition = float(np.mean(scores[:bribed])) if bribed else nan
    return Played(
        verdict, coalition, float(np.mean(scores[bribed:])),
        p=shares[-1][best], q=shares[-1][own], r=shares[0][best], r_own=shares[0][own],
    )  # fmt: skip


def _closed_form(btsv: Btsv, strategy: str, played: Played, bribed: int, n: int) -> float:
    """The coalition's score as the theory gives it; nan where it gives none."""
    b, alpha = bribed / n, btsv.alpha_ppm / WHOLE
    if b >= 0.5 or btsv.variant in ("rbts", "loo"):
        return nan
    if btsv.variant == "audited":
        return -btsv.s_max_micro / MICRO
    if btsv.variant == "anchored":
        prior, cap = btsv.prior_ppm / WHOLE, btsv.cap_ppm / WHOLE
        on = min(played.r, cap)
        fit = (1 - b) * np.log(on / (1 - b)) + b * np.log((1 - on) / b)
        return bribery.anchored_deviation(b, prior) + alpha * float(fit)
    q, own = played.q, played.r_own
    if btsv.variant == "collapsed":
        q, own = 1 - played.p, 1 - played.r
    return bribery.per_capita(b, played.p, q, played.r, own, alpha)[0]


def _worth(units: int, btsv: Btsv, calm: Played, bribed: int, n: int) -> float:
    """The least loss that the theory names, in units at what a nat earned in the calm round."""
    if btsv.variant != "anchored" or bribed / n >= 0.5:
        return nan
    bonus = units * RewardRule().voters_ppm / WHOLE / n
    prior, cap, alpha = (x / WHOLE for x in (btsv.prior_ppm, btsv.cap_ppm, btsv.alpha_ppm))
    return bribery.break_even_bribe(bribed / n, bonus / calm.honest, prior, cap, alpha)


def _pay(verdict: Verdict, servers: Sequence[int]) -> float:
    return float(np.mean([verdict.rewards.get(i, 0) for i in servers]))

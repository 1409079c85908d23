"""BTSV: score a vote by how surprisingly common it is and a prediction by how well it fits.

Paper: Prelec, "A Bayesian Truth Serum for Subjective Data", Science 306, 2004 (prelec); Witkowski,
Parkes, "A Robust Bayesian Truth Serum for Small Populations", AAAI 2012 (rbts); its use in voting
Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023. loo, collapsed, anchored, audited: our derivation.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from consensus.pofel.exact_logs import MICRO, exact, ln, micro
from fedalign.core.errors import ConfigError

Variant = Literal["prelec", "loo", "collapsed", "anchored", "rbts", "audited"]


@dataclass(frozen=True)
class Btsv:
    """How votes are scored. Shares in ppm, scores in micro-nats: integers only.

    variant: prelec, loo and rbts where evaluation is private; anchored and audited where every
    server sees the same models; collapsed is prelec on {winner, rest}. alpha_ppm: weight of the
    prediction part, >= 0. prior_ppm: p in (0, 1), the crowd's constant share of the winner.
    cap_ppm: in (0, 1), the most a prediction of the winner counts; 1000000 is no cap.
    s_max_micro: > 0, what a wrong vote costs under "audited".
    """

    variant: Variant = "anchored"
    alpha_ppm: int = 1_000_000
    prior_ppm: int = 600_000
    cap_ppm: int = 900_000
    s_max_micro: int = 3_000_000

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise ConfigError(
                f"BTSV's variant is one of {', '.join(get_args(Variant))}; got '{self.variant}'."
            )
        if self.alpha_ppm < 0 or self.s_max_micro <= 0:
            raise ConfigError(
                f"BTSV needs alpha_ppm >= 0 and s_max_micro > 0, got {self.alpha_ppm} and "
                f"{self.s_max_micro}."
            )
        if not 0 < self.prior_ppm < 1_000_000 or not 0 < self.cap_ppm <= 1_000_000:
            raise ConfigError(
                "BTSV needs prior_ppm in 1 .. 999999 (default 600000) and cap_ppm in 1 .. 1000000 "
                f"(default 900000), got {self.prior_ppm} and {self.cap_ppm}."
            )


@dataclass(frozen=True)
class Scores:
    """info, pred, total: micro-nats per counted vote. winner: candidate with most weight.

    shares_ppm: of the weight (anchored, audited) or the count of votes, per candidate.
    wrong: positions of votes that "audited" proved false.
    """

    info: tuple[int, ...]
    pred: tuple[int, ...]
    total: tuple[int, ...]
    shares_ppm: tuple[int, ...]
    winner: int
    wrong: tuple[int, ...] = ()


def score(
    votes: Sequence[int],
    predictions: Sequence[Sequence[int]],
    rule: Btsv = Btsv(),
    *,
    weights: Sequence[int] | None = None,
    winner: int | None = None,
    best: Collection[int] | None = None,
    order: Sequence[int] | None = None,
) -> Scores:
    """Scores of the counted votes.

    votes: (n,) candidates 0 .. m-1. predictions: (n, m) positive integers; a row counts as its
    entries over their sum (ppm rows sum to 1000000). weights: (n,) the tally's weights, default
    equal. winner: default the candidate with most weight, the lowest of several. best: for
    "audited", the candidates that evaluation finds best. order: for "rbts", a permutation of n.
    """
    _check(votes, predictions)
    weights = [1] * len(votes) if weights is None else list(weights)
    candidates = len(predictions[0]) if predictions else 0
    if winner is None:
        totals = [sum(w for w, v in zip(weights, votes, strict=True) if v == c)
                  for c in range(candidates)]  # fmt: skip
        winner = totals.index(max(totals)) if totals else 0
    if not votes:
        return Scores((), (), (), (0,) * candidates, winner)
    if rule.variant == "rbts":
        return _rbts(votes, predictions, winner, order)
    if rule.variant == "audited":
        return _audited(votes, predictions, rule, weights, winner, best)
    with exact():
        alpha = Decimal(rule.alpha_ppm) / MICRO
        if rule.variant == "prelec":
            parts = _prelec(votes, predictions, alpha)
        elif rule.variant == "loo":
            parts = _loo(votes, predictions, alpha)
        elif rule.variant == "collapsed":
            binary, rows = _collapse(votes, predictions, winner)
            parts = _prelec(binary, rows, alpha)
        else:
            parts = _anchored(votes, predictions, rule, weights, winner)
        counted = weights if rule.variant == "anchored" else [1] * len(votes)
        shares = _shares_ppm(votes, counted, candidates)
        return Scores(
            info=tuple(micro(i) for i, _ in parts),
            pred=tuple(micro(p) for _, p in parts),
            total=tuple(micro(i + p) for i, p in parts),
            shares_ppm=shares,
            winner=winner,
        )


def _check(votes: Sequence[int], predictions: Sequence[Sequence[int]]) -> None:
    if len(votes) != len(predictions):
        raise ConfigError(
            f"Every vote comes with a prediction: got {len(votes)} votes and {len(predictions)}."
        )
    for vote, row in zip(votes, predictions, strict=True):
        if len(row) != len(predictions[0]) or min(row) <= 0 or not 0 <= vote < len(row):
            raise ConfigError(
                "A prediction gives every candidate a positive share and a vote names one of them; "
                f"got vote {vote} and shares {list(row)}."
            )


def _logs(predictions: Sequence[Sequence[int]]) -> list[list[Decimal]]:
    """ln P, (n, m)."""
    return [[ln(p, sum(row)) for p in row] for row in predictions]


Parts = list[tuple[Decimal, Decimal]]  # (info, pred) of every vote


def _prelec(votes: Sequence[int], predictions: Sequence[Sequence[int]], alpha: Decimal) -> Parts:
    n, logs = len(votes), _logs(predictions)
    counts = {c: votes.count(c) for c in set(votes)}
    usual = {c: sum(row[c] for row in logs) / n for c in counts}  # ln of the geometric mean
    info = {c: ln(counts[c], n) - usual[c] for c in counts}
    fit = [
        sum(Decimal(k) / n * (row[c] - ln(k, n)) for c, k in sorted(counts.items())) for row in logs
    ]
    return [(info[v], alpha * f) for v, f in zip(votes, fit, strict=True)]


def _loo(votes: Sequence[int], predictions: Sequence[Sequence[int]], alpha: Decimal) -> Parts:
    """Against the peers only, with add-one smoothing; one voter alone has none."""
    n, m, logs = len(votes), len(predictions[0]), _logs(predictions)
    if n < 2:
        return [(Decimal(0), Decimal(0))] * n
    sums = [sum(row[c] for row in logs) for c in range(m)]
    parts: Parts = []
    for i, vote in enumerate(votes):
        counts = [votes.count(c) - (vote == c) + 1 for c in range(m)]
        whole = n - 1 + m
        info = ln(counts[vote], whole) - (sums[vote] - logs[i][vote]) / (n - 1)
        fit = sum(Decimal(k) / whole * (logs[i][c] - ln(k, whole)) for c, k in enumerate(counts))
        parts.append((info, alpha * fit))
    return parts


def _collapse(
    votes: Sequence[int], predictions: Sequence[Sequence[int]], winner: int
) -> tuple[list[int], list[tuple[int, int]]]:
    """Candidates 0 (the winner) and 1 (the rest); of one candidate the rest gets a floor."""
    rows = [(row[winner], max(sum(row) - row[winner], 1)) for row in predictions]
    return [int(vote != winner) for vote in votes], rows


def _anchored(
    votes: Sequence[int],
    predictions: Sequence[Sequence[int]],
    rule: Btsv,
    weights: Sequence[int],
    winner: int,
) -> Parts:
    """The crowd's geometric mean is replaced by a constant; predictions of the winner are capped."""
    binary, rows = _collapse(votes, predictions, winner)
    total = sum(weights)
    shares = [sum(w for w, v in zip(weights, binary, strict=True) if v == c) for c in (0, 1)]
    prior = (rule.prior_ppm, 1_000_000 - rule.prior_ppm)
    info = [ln(share * 1_000_000, total * y) if share else None
            for share, y in zip(shares, prior, strict=True)]  # fmt: skip
    alpha, parts = Decimal(rule.alpha_ppm) / MICRO, []
    for vote, (on_winner, on_rest) in zip(binary, rows, strict=True):
        whole = on_winner + on_rest
        if on_winner * 1_000_000 > rule.cap_ppm * whole:
            on_winner, on_rest, whole = rule.cap_ppm, 1_000_000 - rule.cap_ppm, 1_000_000
        fit = sum(
            Decimal(share) / total * (ln(p, whole) - ln(share, total))
            for share, p in zip(shares, (on_winner, on_rest), strict=True)
            if share
        )
        parts.append((info[vote] or Decimal(0), alpha * fit))
    return parts


def _audited(
    votes: Sequence[int],
    predictions: Sequence[Sequence[int]],
    rule: Btsv,
    weights: Sequence[int],
    winner: int,
    best: Collection[int] | None,
) -> Scores:
    """A vote for another than a best candidate is its own evidence; the others are anchored."""
    if best is None:
        raise ConfigError(
            "BTSV's variant 'audited' needs the candidates that public evaluation finds best: "
            "pass best=..., or choose 'anchored'."
        )
    with exact():
        parts = _anchored(votes, predictions, rule, weights, winner)
    wrong = tuple(i for i, vote in enumerate(votes) if vote not in best)
    lost = (Decimal(-rule.s_max_micro) / MICRO, Decimal(0))
    parts = [lost if i in wrong else part for i, part in enumerate(parts)]
    with exact():
        return Scores(
            info=tuple(micro(i) for i, _ in parts),
            pred=tuple(micro(p) for _, p in parts),
            total=tuple(micro(i + p) for i, p in parts),
            shares_ppm=_shares_ppm(votes, weights, len(predictions[0])),
            winner=winner,
            wrong=wrong,
        )


def _rbts(
    votes: Sequence[int],
    predictions: Sequence[Sequence[int]],
    winner: int,
    order: Sequence[int] | None,
) -> Scores:
    """Shadowing: the reference's prediction, moved towards the own report, must fit a peer's vote."""
    n = len(votes)
    order = list(range(n)) if order is None else list(order)
    info, pred = [0] * n, [0] * n
    if n >= 3:  # with fewer there is no reference and peer
        with exact():
            says = [vote == winner for vote in votes]
            y = [Decimal(row[winner]) / sum(row) for row in predictions]
            for place, i in enumerate(order):
                reference, peer = order[(place + 1) % n], order[(place + 2) % n]
                shift = min(y[reference], 1 - y[reference])
                shadow = y[reference] + (shift if says[i] else -shift)
                info[i] = micro(_quadratic(shadow, says[peer]))
                pred[i] = micro(_quadratic(y[i], says[peer]))
    total = tuple(i + p for i, p in zip(info, pred, strict=True))
    shares = _shares_ppm(votes, [1] * n, len(predictions[0]))
    return Scores(tuple(info), tuple(pred), total, shares, winner)


def _quadratic(y: Decimal, happened: bool) -> Decimal:
    """A proper scoring rule: 2y - y², or 1 - y²."""
    return 2 * y - y * y if happened else 1 - y * y


def _shares_ppm(votes: Sequence[int], weights: Sequence[int], candidates: int) -> tuple[int, ...]:
    total = sum(weights)
    found = [0] * candidates
    for vote, weight in zip(votes, weights, strict=True):
        found[vote] += weight
    return tuple(1_000_000 * x // total if total else 0 for x in found)

"""HieAvg: what a missing member would have sent is estimated from its own past submissions.

Paper: Wang et al., "HieAvg" (straggler-tolerant hierarchical aggregation on a Raft chain), arXiv
2308.01296, 2023; damping, renormalised weights and the floor are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from defenses._checks import check, check_choice
from defenses._history import GIB, History, Member
from defenses._veto import check_veto
from defenses.fedavg import Weighting
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.scattered import combine_scattered
from fedalign.core.threat import Family, Space
from fedalign.core.vectors import combine

Mode = Literal["renorm", "literal", "none"]
Slope = Literal["mean", "window", "zero", "drift"]
Denominator = Literal["elapsed", "submissions"]
INFINITE = float("inf")


@dataclass(frozen=True)
class HieAvg(Defense):
    """Weighted mean of the members' models, those of missing members estimated.

    A member u that misses for the m-th round in a row counts as what_u = l_u + a(m) Delta_u, its
    last submission moved on along its mean difference, with confidence
    gamma(m) = max(gamma0 lam^m, gamma_floor). a(m) = m for damp = 1, else
    damp (1 - damp^m) / (1 - damp). Not Byzantine robust by itself.

    rule: vetoes; what it rejects counts as missing and enters no history. None: nobody judges.
    mode: "renorm", weights p and p gamma divided by their sum; "literal", not divided, which
    shrinks models towards 0; "none", gamma = 1.
    delta: "mean" difference of consecutive submissions, which telescopes to (last - first) / q;
    "window", of the last `window` of them; "zero": the last submission again; "drift":
    start + last known update (memorised updates, Gu et al., arXiv 2106.04159).
    slope_denominator: q counts "elapsed" rounds or "submissions". window: >= 1.
    damp: 0 .. 1. gamma0, lam, gamma_floor: 0 .. 1.
    cold_boot_rounds: 2 or more; a member missing in them is noted.
    max_misses: misses in a row (>= 1) after which a member is noted as permanent, None never;
    permanent_action: "keep" its estimate or "drop" it. reset_after: a member away for more
    rounds than this starts a new history, None never.
    delta_clip: a Delta longer than this multiple (> 0) of the members' median length is
    shortened, against members who send a long step and vanish; None off. It reads every history
    once more. estimate_only_if_trusted: a member whose last row was vetoed is left out.
    min_arrivals: with fewer rows the round is skipped, 0: estimates alone suffice.
    weighting: "samples" or "uniform". history_gib: histories beyond this (> 0) live in a file.
    allow_unstable: permit undamped slopes whose weight never fades; they diverge linearly.
    """

    rule: Defense | None = None
    mode: Mode = "renorm"
    delta: Slope = "mean"
    slope_denominator: Denominator = "elapsed"
    window: int = 1
    damp: float = 0.5
    gamma0: float = 1.0
    lam: float = 0.9
    gamma_floor: float = 0.5
    cold_boot_rounds: int = 2
    max_misses: int | None = 50
    permanent_action: Literal["keep", "drop"] = "keep"
    reset_after: int | None = None
    delta_clip: float | None = None
    estimate_only_if_trusted: bool = False
    min_arrivals: int = 1
    weighting: Weighting = "samples"
    history_gib: float = 2.0
    allow_unstable: bool = False

    linear: ClassVar[bool] = False
    estimates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, options in (
            ("mode", Mode), ("delta", Slope), ("slope_denominator", Denominator),
            ("weighting", Weighting),
        ):  # fmt: skip
            check_choice("HieAvg", name, getattr(self, name), get_args(options))
        check_choice("HieAvg", "permanent_action", self.permanent_action, ("keep", "drop"))
        for name in ("damp", "gamma0", "lam", "gamma_floor"):
            value = getattr(self, name)
            check(0 <= value <= 1, "HieAvg", name, "in [0, 1]", value)
        for name, least in (("window", 1), ("cold_boot_rounds", 2), ("min_arrivals", 0),
                            ("max_misses", 1), ("reset_after", 1)):  # fmt: skip
            value = getattr(self, name)
            check(value is None or value >= least, "HieAvg", name, f"{least} or more", value)
        clip = self.delta_clip
        check(clip is None or clip > 0, "HieAvg", "delta_clip", "positive or null", clip)
        check(self.history_gib > 0, "HieAvg", "history_gib", "positive", self.history_gib)
        self._refuse_what_diverges()
        if self.rule is not None:
            check_veto("HieAvg", self.rule)

    def _refuse_what_diverges(self) -> None:
        grows = self.delta in ("mean", "window") and self.damp == 1
        fades = self.mode != "none" and self.gamma_floor == 0 and self.lam < 1
        if grows and not fades and not self.allow_unstable:
            raise ConfigError(
                f"HieAvg with damp=1 extrapolates without bound, and with mode={self.mode}, "
                f"lam={self.lam:g}, gamma_floor={self.gamma_floor:g} the weight of a permanent "
                "straggler never fades, so the model diverges: take damp < 1 (default 0.5), or "
                "lam < 1 with gamma_floor=0, or say allow_unstable=true."
            )

    @property
    def needs(self) -> frozenset[str]:
        return self.rule.needs if self.rule else frozenset()

    @property
    def space(self) -> Space:
        return self.rule.space if self.rule else "model"

    @property
    def family(self) -> Family:
        return self.rule.family if self.rule else "other"

    def minimum(self, byzantine_count: int) -> int:
        return self.rule.minimum(byzantine_count) if self.rule else 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        """updates (n, d) of the members that arrived; `context.absent` names the others.

        Notes: status ok | no_quorum | too_few; estimated: member -> misses, confidence, weight;
        weights of the arrived; excluded, vetoed, permanent, cold_boot_incomplete: members.
        """
        clients = _ids(updates, context)
        accepted, judged = self._judge(updates, context)
        history = self._history(context, clients)
        self._enter_late(history, context)
        here = [c for c, ok in zip(clients, accepted.tolist(), strict=True) if ok]
        rows = updates if len(here) == len(clients) else updates[accepted]
        history.submit(context.round, here, rows, context.model, self.reset_after or INFINITE)
        weights = self._weights(updates, context)
        away = self._absent(context)
        for client, ok, weight in zip(clients, accepted.tolist(), weights.tolist(), strict=True):
            if not ok:
                away[client] = weight
                history.member(client).trusted = False
        missing = {who: history.miss(who) for who in sorted(away)}
        notes = {
            "vetoed": [c for c in clients if c in away],
            "permanent": [
                u for u, m in missing.items() if m.misses > (self.max_misses or INFINITE)
            ],
            "cold_boot_incomplete": sorted(away) if context.round <= self.cold_boot_rounds else [],
        }
        memory = {**history.memory(), **({"rule": judged.memory} if judged else {})}
        if len(here) < self.min_arrivals:
            return self._skip(updates, context, memory, {**notes, "status": "too_few"})
        shares = self._shares(missing, away, notes["permanent"])
        total = weights[accepted].sum() + sum(
            away[u] if self.mode == "literal" else share for u, share in shares.items()
        )
        if not float(total) > 0:
            return self._skip(updates, context, memory, {**notes, "status": "no_quorum"})
        coefficients = torch.where(accepted, weights, 0.0) / total
        shares = {u: share / float(total) for u, share in shares.items()}
        vector = self._combine(updates, coefficients, shares, history, context)
        estimated = {
            u: {"misses": missing[u].misses, "confidence": self._confidence(missing[u].misses),
                "weight": share} for u, share in shares.items()
        }  # fmt: skip
        notes |= {
            "status": "ok",
            "estimated": estimated,
            "excluded": [u for u in missing if u not in shares],
            "weights": {c: w for c, w in zip(clients, coefficients.tolist(), strict=True) if w},
        }
        scores = judged.scores if judged else None
        return Aggregate(vector, accepted, scores=scores, memory=memory, notes=notes)

    def _judge(self, updates: Tensor, context: Context) -> tuple[Tensor, Aggregate | None]:
        """(n,) bool: whom the rule accepts, and its whole decision."""
        if self.rule is None or not len(updates):
            return torch.ones(len(updates), dtype=torch.bool, device=updates.device), None
        decided = self.rule(updates, context.inner("rule"))
        return decided.accepted, decided

    def _history(self, context: Context, clients: Sequence[int]) -> History:
        kept = {"mean": 2, "window": self.window + 1, "zero": 1, "drift": 1}[self.delta]
        limit = self.history_gib * GIB
        history = History.of(context.memory, kept, self.delta == "window", limit)
        for who in (*clients, *context.absent):
            history.member(who)
        return history

    def _enter_late(self, history: History, context: Context) -> None:
        """Rows that came after their round was closed are history of that round. Around a rule
        they are not: nobody judged them beside the others of their round."""
        for who, late in sorted(context.late.items()):
            trail = history.member(who).trail
            if self.rule is None and (not trail or trail[-1]["round"] < late.round):
                reset = self.reset_after or INFINITE
                history.submit(late.round, [who], late.row[None], late.start, reset)
                history.member(who).misses = max(context.round - late.round - 1, 0)

    def _weights(self, updates: Tensor, context: Context) -> Tensor:
        if self.weighting == "uniform" or context.weights is None:
            return torch.ones(len(updates), dtype=torch.float64, device=updates.device)
        return context.weights.to(device=updates.device, dtype=torch.float64)

    def _absent(self, context: Context) -> dict[int, float]:
        uniform = self.weighting == "uniform" or context.weights is None
        return {u: 1.0 if uniform else float(w) for u, w in context.absent.items()}

    def _shares(
        self, missing: Mapping[int, Member], away: Mapping[int, float], permanent: Sequence[int]
    ) -> dict[int, float]:
        """p gamma of every missing member that is estimated."""
        left_out = set(permanent if self.permanent_action == "drop" else ())
        return {
            u: away[u] * self._confidence(member.misses)
            for u, member in missing.items()
            if member.count
            and u not in left_out
            and (member.trusted or not self.estimate_only_if_trusted)
        }

    def _confidence(self, misses: int) -> float:
        if self.mode == "none":
            return 1.0
        return max(self.gamma0 * self.lam**misses, self.gamma_floor)

    def _reach(self, misses: int) -> float:
        """a(m)."""
        if self.damp == 1:
            return float(misses)
        return self.damp * (1 - self.damp**misses) / (1 - self.damp)

    def _combine(
        self,
        updates: Tensor,
        coefficients: Tensor,
        shares: Mapping[int, float],
        history: History,
        context: Context,
    ) -> Tensor:
        """sum of weights times models, minus the model all started from."""
        if not shares and abs(float(coefficients.sum()) - 1) < 1e-12:
            return combine(coefficients, updates)  # FedAvg's own kernel, bit for bit
        terms = [(c, x) for c, x in zip(coefficients.tolist(), updates, strict=True) if c]
        on_starts: dict[int, float] = {}
        on_model = float(coefficients.sum()) - 1
        limits = self._limits(shares, history)
        for who, share in shares.items():
            member = history.members[who]
            for entry, c in self._estimate(member, history, limits.get(who, 1.0)):
                terms.append((share * c, entry["row"]))
                if self.delta == "drift":
                    on_model += share * c  # start + last known update
                elif entry["start"] is not None:
                    on_starts[entry["start"]] = on_starts.get(entry["start"], 0.0) + share * c
        terms += [(c, history.starts[r]) for r, c in sorted(on_starts.items())]
        if context.model is not None:
            terms.append((on_model, context.model))
        return combine_scattered(terms).to(updates.dtype)

    def _estimate(
        self, member: Member, history: History, shortened: float
    ) -> Iterator[tuple[Mapping[str, Any], float]]:
        """what = (1 + a/q) last - (a/q) oldest, as submissions and their factors."""
        q = history.slope(member, self.slope_denominator == "elapsed")
        ahead = shortened * self._reach(member.misses) / q if q else 0.0
        yield member.trail[-1], 1.0 + ahead
        if ahead:
            yield member.trail[0], -ahead

    def _limits(self, shares: Mapping[int, float], history: History) -> dict[int, float]:
        """By what factor each estimated member's Delta is shortened."""
        elapsed = self.slope_denominator == "elapsed"
        moving = {u for u, m in history.members.items() if history.slope(m, elapsed)}
        if self.delta_clip is None or not moving & set(shares):
            return {}
        lengths = {u: history.length(history.members[u], elapsed) for u in sorted(moving)}
        median = float(torch.tensor(list(lengths.values()), dtype=torch.float64).quantile(0.5))
        bound = self.delta_clip * median
        return {u: bound / lengths[u] for u in shares if lengths.get(u, 0.0) > bound}

    def _skip(self, updates: Tensor, context: Context, memory, notes) -> Aggregate:
        nobody = torch.zeros(len(updates), dtype=torch.bool, device=updates.device)
        vector = updates.new_zeros(updates.shape[1])
        return Aggregate(vector, nobody, skipped=True, memory=memory, notes=notes)


def _ids(updates: Tensor, context: Context) -> list[int]:
    if context.clients is None:
        return list(range(len(updates)))
    return context.clients.tolist()

"""Outcome: votes counted, scores given, units divided: what a block of this round must say.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (weighted votes, scores from the Bayesian Truth
Serum, history); the integer form is our derivation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from consensus.encoding import pack, unpack
from consensus.pofel import history
from consensus.pofel.beacon import ticket
from consensus.pofel.btsv import Scores, score
from consensus.pofel.rewards import distribute
from consensus.pofel.settings import Settings
from consensus.pofel.state import State
from consensus.pofel.tally import tally
from consensus.pofel.task import Evaluated

Pairs = tuple[tuple[bytes, int], ...]


@dataclass(frozen=True)
class Outcome:
    """sizes: samples that count. ranking: authors of ranks 0, 1, ... (none without votes by
    design: any member). totals: V_j, ppm. votes: (voter, candidate). scores: (voter, info, pred,
    total), micro-nats. history: micro-nats, weights: ppm, both of the next round. denied: earn
    nothing by their model. wrong: voters that "audited" proved wrong. sealed: about the round
    before. standing: of servers without a model."""

    round: int
    sizes: Pairs
    ranking: tuple[bytes, ...]
    totals: Pairs
    votes: tuple[tuple[bytes, bytes], ...]
    scores: tuple[tuple[bytes, int, int, int], ...]
    history: Pairs
    weights: Pairs
    global_root: bytes
    scale: int
    likeness_ppb: Pairs
    denied: tuple[bytes, ...]
    wrong: tuple[bytes, ...] = ()
    sealed: bytes = bytes(32)
    standing: tuple = ()

    def encode(self) -> bytes:
        return pack([getattr(self, f.name) for f in fields(self)])

    @staticmethod
    def decode(data: bytes) -> Outcome:
        return Outcome(*unpack(data))

    def author(self, rank: int) -> bytes:
        return self.ranking[rank % len(self.ranking)]

    def rewards(self, leader: bytes, settings: Settings) -> tuple[dict[bytes, int], int]:
        """Base units by server, and the treasury's."""
        return distribute(
            settings.rewards,
            dict(self.sizes),
            dict(self.likeness_ppb),
            leader,
            {voter: total for voter, _, _, total in self.scores},
            self.denied,
        )

    def facts(self, leader: bytes, settings: Settings) -> dict[str, tuple]:
        """What the leader's block states; servers compare it part by part."""
        pay, treasury = self.rewards(leader, settings)
        return {
            "tally": (self.round, self.ranking, self.totals, self.votes, self.wrong),
            "scores": self.scores,
            "weights": (self.history, self.weights),
            "aggregate": (self.global_root, self.scale, self.sizes, self.likeness_ppb, self.denied),
            "rewards": (tuple(sorted(pay.items())), treasury),
            "sealed": self.sealed,
            "standing": self.standing,
        }


def settle(state: State, settings: Settings, evaluated: Evaluated) -> Outcome:
    """Count the votes of `state` (there may be none)."""
    members = state.members(settings)
    weights = state.weights(settings)
    caught = {node for node, (first, _) in state.exiles.items() if first == state.height + 1}
    denied = tuple(
        node
        for node in state.roster
        if node in caught or node in evaluated.copies or node in evaluated.idle
    )
    counted = {
        node: (members[choice], shares)
        for node in members
        if node in state.votes
        for choice, shares in [state.votes[node]]
        if members[choice] in state.roster and (settings.self_votes or members[choice] != node)
    }
    ranked = tally(
        [choice for choice, _ in counted.values()],
        [weights[node] for node in counted],
        state.beacon,
        state.roster,
        settings.fairness,
        wins=state.wins,
        rounds=state.height,
        recent=state.recent,
        last=denied,
    )
    scored = _score(state, settings, counted, ranked.winner, evaluated)
    gained = dict(zip(counted, scored.total, strict=True))
    due = dict(state.pending)
    wrong = tuple(list(counted)[i] for i in scored.wrong)
    for node in wrong:
        due[node] = due.get(node, 0) + history.PENALTIES["wrong_vote"]
    after = history.update_history(
        [state.history.get(node, 0) for node in members],
        [gained.get(node) for node in members],
        [due.get(node, 0) for node in members],
        settings.history,
    )
    return Outcome(
        round=state.round,
        sizes=tuple(state.sizes(settings).items()),
        ranking=ranked.order,
        totals=ranked.totals,
        votes=tuple((node, choice) for node, (choice, _) in counted.items()),
        scores=tuple(zip(counted, scored.info, scored.pred, scored.total, strict=True)),
        history=tuple(zip(members, after, strict=True)),
        weights=tuple(zip(members, history.weights(after, settings.history), strict=True)),
        global_root=evaluated.global_root,
        scale=evaluated.scale,
        likeness_ppb=evaluated.likeness_ppb,
        denied=denied,
        wrong=wrong,
        sealed=evaluated.sealed,
        standing=evaluated.standing,
    )


def _score(
    state: State,
    settings: Settings,
    counted: dict[bytes, tuple[bytes, tuple[int, ...]]],
    winner: bytes | None,
    evaluated: Evaluated,
) -> Scores:
    members, weights = state.members(settings), state.weights(settings)
    voters = list(counted)
    turn = sorted(range(len(voters)), key=lambda i: ticket(state.beacon, voters[i]))
    return score(
        [members.index(choice) for choice, _ in counted.values()],
        [shares for _, shares in counted.values()],
        settings.btsv,
        weights=[weights[node] for node in voters],
        winner=None if winner is None else members.index(winner),
        best=[members.index(node) for node in evaluated.best],
        order=turn,
    )

"""Speech: the bodies that an honest server sends, from what it knows.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (commit, reveal, vote for the best model).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

from consensus.pofel import hcds, merkle
from consensus.pofel.beacon import ticket
from consensus.pofel.messages import Commit, Reveal, Vote, VoteCommit
from consensus.pofel.prediction import PredictionRule, predict
from consensus.pofel.settings import Settings
from consensus.pofel.state import State
from consensus.pofel.task import Evaluated

DTYPE = b"<i4"


def nonce(secret: bytes, round_: int, purpose: str) -> bytes:
    """32 bytes that nobody without the server's secret can tell from random ones."""
    return hmac.new(secret, f"{purpose}|{round_}".encode(), hashlib.sha256).digest()


def commit(
    settings: Settings, state: State, node: bytes, root: bytes, size: int, time_s: int,
    secret: bytes,
) -> Commit:  # fmt: skip
    """A hidden commitment to `root`; an empty root says that there is no model."""
    if not root:
        return Commit(hcds.ABSENT, 0, state.head, time_s)
    hidden = nonce(secret, state.round, "model")
    told = hcds.commit(settings.chain_id, state.round, node, root, hidden)
    return Commit(told, size, state.head, time_s)


def reveal(state: State, root: bytes, length: int, secret: bytes) -> Reveal:
    """Opens the commitment of this round."""
    chunks = -(-length // merkle.CHUNK_BYTES)
    layout = hashlib.sha256(length.to_bytes(8, "big")).digest()
    return Reveal(root, nonce(secret, state.round, "model"), chunks, length, DTYPE, layout)


def vote(
    settings: Settings, state: State, node: bytes, evaluated: Evaluated, rule: PredictionRule,
    secret: bytes,
) -> Vote:  # fmt: skip
    """For the best model, ties by the beacon, with a prediction of all votes."""
    mine = () if settings.self_votes else (node,)
    best = [candidate for candidate in evaluated.best if candidate not in mine]
    if not best:  # the own model is best, but may not be named
        likeness = {c: s for c, s in evaluated.likeness_ppb if c not in mine}
        best = [c for c, s in likeness.items() if s == max(likeness.values())] or list(
            evaluated.best
        )
    choice = min(best, key=lambda candidate: ticket(state.beacon, candidate))
    return vote_for(settings, state, choice, evaluated, rule, secret)


def vote_for(
    settings: Settings, state: State, choice: bytes, evaluated: Evaluated, rule: PredictionRule,
    secret: bytes,
) -> Vote:  # fmt: skip
    """For this candidate, with the prediction that an honest voter for it makes."""
    members = state.members(settings)
    rule = replace(rule, floor_ppm=settings.floor_ppm)
    shares = predict(members, dict(evaluated.likeness_ppb), choice, rule)
    return Vote(members.index(choice), shares, nonce(secret, state.round, "vote"))


def ballot(settings: Settings, state: State, node: bytes, body: Vote) -> VoteCommit:
    """The hash that hides a vote until all are in."""
    place = (settings.chain_id, state.round, node)
    return VoteCommit(hcds.commit_vote(*place, body.choice, body.prediction_ppm, body.nonce))

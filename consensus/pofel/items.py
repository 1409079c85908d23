"""Items: which commit, reveal, availability and vote a round accepts, and what that changes.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (commit before reveal); the acceptance table
is our derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from consensus.pofel import hcds, merkle
from consensus.pofel.effects import Effect, FetchModel, SetTimer
from consensus.pofel.evaluation import MAX_SIZE
from consensus.pofel.messages import Avail, Commit, Kind, Reveal, Vote, VoteCommit
from consensus.pofel.settings import Settings
from consensus.pofel.state import Phase, State

Step = tuple[State, list[Effect]] | str  # the new state, or why nothing changes


def commit(state: State, settings: Settings, node: bytes, body: Commit) -> Step:
    """The first COMMIT of a server; the f+1st starts the phase's timer."""
    if state.committed(node):
        return "duplicate"
    if body.parent != state.head:
        return "wrong_parent"
    absent = body.commitment == hcds.ABSENT
    if body.size != 0 if absent else not 0 < body.size < MAX_SIZE:
        return "bad_size"
    record = (node, body.commitment, body.size, body.time_s)
    after = replace(state, commits=(*state.commits, record))
    f = len(state.members(settings)) - state.quorum(settings)
    if len(after.commits) != f + 1:
        return after, []
    return after, [SetTimer(state.round, Phase.COMMIT, 0, settings.timeouts.commit_ms)]


def reveal(state: State, settings: Settings, node: bytes, body: Reveal) -> Step:
    """The first REVEAL that opens the server's own commitment."""
    promised = state.committed(node)
    if promised is None or promised[1] == hcds.ABSENT:
        return "no_commit"
    if node in state.reveals:
        return "duplicate"
    place = (settings.chain_id, state.round, node)
    if not hcds.open_ok(promised[1], *place, body.model_root, body.nonce):
        return "does_not_open"
    if not 0 < body.length <= settings.max_model_bytes:
        return "oversized"
    if body.chunks != -(-body.length // merkle.CHUNK_BYTES):
        return "bad_manifest"
    opened = (body.model_root, body.nonce, body.length)
    after = replace(state, reveals={**state.reveals, node: opened})
    return after, [FetchModel(state.round, node, body.model_root, body.length)]


def avail(state: State, settings: Settings, node: bytes, body: Avail) -> Step:
    """The first AVAIL of a server; roots nobody revealed do not count."""
    if node in state.avails:
        return "duplicate"
    known = {root for root, _, _ in state.reveals.values()}
    roots = tuple(sorted(set(body.roots) & known))
    return replace(state, avails={**state.avails, node: roots}), []


def vote_commit(state: State, settings: Settings, node: bytes, body: VoteCommit) -> Step:
    """The first VOTE_COMMIT of a server."""
    if node in state.ballots:
        return "duplicate"
    return replace(state, ballots={**state.ballots, node: body.commitment}), []


def vote(state: State, settings: Settings, node: bytes, body: Vote) -> Step:
    """The first VOTE, opening the server's own vote commit where votes are hidden."""
    if node in state.votes:
        return "duplicate"
    n, shares = len(state.members(settings)), body.prediction_ppm
    if body.choice >= n or len(shares) != n:
        return "bad_vote"
    if min(shares) < settings.floor_ppm or sum(shares) != 1_000_000:
        return "bad_prediction"
    if settings.commit_votes:
        place = (settings.chain_id, state.round, node)
        told = hcds.commit_vote(*place, body.choice, shares, body.nonce)
        if state.ballots.get(node) != told:
            return "does_not_open"
    return replace(state, votes={**state.votes, node: (body.choice, shares)}), []


Accept = Callable[[State, Settings, bytes, object], Step]
ITEMS: dict[Kind, tuple[Phase, Accept]] = {
    Kind.COMMIT: (Phase.COMMIT, commit),
    Kind.REVEAL: (Phase.REVEAL, reveal),
    Kind.AVAIL: (Phase.AVAIL, avail),
    Kind.VOTE_COMMIT: (Phase.VOTE_COMMIT, vote_commit),
    Kind.VOTE: (Phase.VOTE, vote),
}

"""Marks: what happens when a phase ends, complete or by timeout.

Paper: none; our derivation (phases end where the ordered stream says so, hence for all alike).
"""

from __future__ import annotations

from dataclasses import replace

from consensus.pofel.beacon import advance
from consensus.pofel.effects import (
    Abort,
    BuildBlock,
    CastVote,
    Effect,
    Evaluate,
    OpenVote,
    SendAvail,
    SendReveal,
    SetTimer,
    Strike,
)
from consensus.pofel.outcome import Outcome, settle
from consensus.pofel.settings import Settings
from consensus.pofel.state import Phase, State
from consensus.pofel.task import Evaluated

Moved = tuple[State, list[Effect]]


def complete(state: State, settings: Settings) -> bool:
    """Whether everything the phase waits for is there; a block is never complete, it is accepted."""
    n = len(state.members(settings))
    if state.phase == Phase.COMMIT:
        return len(state.commits) == n
    if state.phase == Phase.REVEAL:
        return len(state.reveals) == len(state.committers)
    if state.phase == Phase.AVAIL:
        return all(_held(state, root) >= state.quorum(settings) for root in _roots(state))
    if state.phase == Phase.VOTE_COMMIT:
        return len(state.ballots) == n
    if state.phase == Phase.VOTE:
        return len(state.votes) == (len(state.ballots) if settings.commit_votes else n)
    return False


def close(state: State, settings: Settings, evaluated: Evaluated | None) -> Moved:
    """End the current phase. evaluated: needed at the end of VOTE."""
    if state.phase == Phase.COMMIT:
        return _close_commit(state, settings)
    if state.phase == Phase.REVEAL:
        return _close_reveal(state, settings)
    if state.phase == Phase.AVAIL:
        return _close_avail(state, settings)
    if state.phase == Phase.VOTE_COMMIT:
        return _close_vote_commit(state, settings)
    if state.phase == Phase.VOTE:
        assert evaluated is not None  # the machine has checked
        return _close_vote(state, settings, evaluated)
    return next_rank(state, settings)


def opening(state: State, settings: Settings) -> list[Effect]:
    """What the phase that has just begun asks for; asked again after a restart."""
    if state.phase == Phase.REVEAL:
        wants: list[Effect] = [SendReveal(state.round)]
    elif state.phase == Phase.AVAIL:
        wants = [SendAvail(state.round, _roots(state))]
    elif state.phase == Phase.VOTE_COMMIT or (
        state.phase == Phase.VOTE and not settings.commit_votes
    ):
        wants = [Evaluate(state.task(settings)), CastVote(state.round, state.roster)]
    elif state.phase == Phase.VOTE:
        wants = [OpenVote(state.round)]
    elif state.phase == Phase.BLOCK:
        author = Outcome.decode(state.outcome).author(state.rank)
        wants = [BuildBlock(state.round, state.rank, author)]
    else:
        wants = []
    return [*wants, SetTimer(state.round, state.phase, state.rank, _allowed_ms(state, settings))]


def time_out_ms(settings: Settings, phase: int, rank: int) -> int:
    """How long a phase waits for the others' messages."""
    t = settings.timeouts
    waits = {Phase.COMMIT: t.commit_ms, Phase.REVEAL: t.reveal_ms, Phase.AVAIL: t.avail_ms,
             Phase.BLOCK: t.block(rank)}  # fmt: skip
    return waits.get(Phase(phase), t.vote_ms)


def abort(state: State, settings: Settings, reason: str) -> Moved:
    """No block: the next round starts on the same head; revealed models stay their authors'."""
    shown = tuple(
        (node, state.reveals[node][0]) for node in state.committers if node in state.reveals
    )
    after = replace(state.next_round(), earlier=(*state.earlier, *shown), aborts=state.aborts + 1)
    return after, [Abort(state.round, reason), *opening(after, settings)]


def next_rank(state: State, settings: Settings) -> Moved:
    """The author's time is over, or its block was bad."""
    after = replace(state, rank=state.rank + 1)
    return after, opening(after, settings)


def _close_commit(state: State, settings: Settings) -> Moved:
    if len(state.commits) < state.quorum(settings):
        return abort(state, settings, "too few servers are there")
    if len(state.committers) < state.fewest(settings):
        return abort(state, settings, "too few models")
    return _enter(replace(state, phase=Phase.REVEAL), settings)


def _close_reveal(state: State, settings: Settings) -> Moved:
    late = [node for node in state.committers if node not in state.reveals]
    state, strikes = _strike(state, late, "late_reveal")
    nonces = [nonce for _, nonce, _ in state.reveals.values()]
    state = replace(state, beacon=advance(state.beacon, nonces))
    if len(state.reveals) < state.fewest(settings):
        after, effects = abort(state, settings, "too few reveals")
        return after, [*strikes, *effects]
    return _enter(replace(state, phase=Phase.AVAIL), settings, strikes)


def _close_avail(state: State, settings: Settings) -> Moved:
    shown = [node for node in state.members(settings) if node in state.reveals]
    held = {n for n in shown if _held(state, state.reveals[n][0]) >= state.quorum(settings)}
    state, strikes = _strike(state, [n for n in shown if n not in held], "withheld_data")
    if len(held) < state.fewest(settings):
        after, effects = abort(state, settings, "too few models can be fetched")
        return after, [*strikes, *effects]
    following = Phase.VOTE_COMMIT if settings.commit_votes else Phase.VOTE
    roster = tuple(node for node in shown if node in held)
    return _enter(replace(state, roster=roster, phase=following), settings, strikes)


def _close_vote_commit(state: State, settings: Settings) -> Moved:
    for node in state.members(settings):
        if node not in state.ballots:
            state = state.absent(node)
    return _enter(replace(state, phase=Phase.VOTE), settings)


def _close_vote(state: State, settings: Settings, evaluated: Evaluated) -> Moved:
    members = state.members(settings)
    expected = [n for n in members if n in state.ballots] if settings.commit_votes else members
    silent = [node for node in expected if node not in state.votes]
    for node in silent:
        state = state.absent(node)
    state, strikes = _strike(state, silent if settings.commit_votes else [], "late_reveal")
    outcome = settle(state, settings, evaluated)
    state, more = _strike(state, list(outcome.wrong), "wrong_vote")
    due = {node: x for node, x in state.pending.items() if node not in members}
    state = replace(state, pending=due, outcome=outcome.encode(), phase=Phase.BLOCK, rank=0)
    return _enter(state, settings, [*strikes, *more])


def _enter(state: State, settings: Settings, before: list[Effect] | None = None) -> Moved:
    return state, [*(before or []), *opening(state, settings)]


def _strike(state: State, nodes: list[bytes], kind: str) -> Moved:
    for node in nodes:
        state = state.struck(node, kind)
    return state, [Strike(node, kind) for node in nodes]


def _roots(state: State) -> tuple[bytes, ...]:
    return tuple(sorted({root for root, _, _ in state.reveals.values()}))


def _held(state: State, root: bytes) -> int:
    return sum(root in roots for roots in state.avails.values())


def _allowed_ms(state: State, settings: Settings) -> int:
    """The time-out, after the work that the phase begins with."""
    t, phase = settings.timeouts, state.phase
    evaluates = Phase.VOTE_COMMIT if settings.commit_votes else Phase.VOTE
    # training is shorter once f + 1 have committed
    work_ms = {Phase.COMMIT: t.train_ms, evaluates: t.evaluate_ms}.get(Phase(phase), 0)
    return work_ms + time_out_ms(settings, phase, state.rank)

"""Plain machine: rounds without votes, for protocols whose leader is elected elsewhere.

Paper: Wang, Hu, Xu, Xiong, "HieAvg", arXiv 2308.01296, 2023 (a Raft leader aggregates); Clique,
proof of work, PBFT and HotStuff in comparisons run the same rounds.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.pofel import blocks, items, marks
from consensus.pofel.beacon import advance
from consensus.pofel.effects import BuildBlock, Effect, Evaluate, FetchModel, Ignored, Strike
from consensus.pofel.hcds import ABSENT
from consensus.pofel.items import Step
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Commit, Entry, Kind, Mark
from consensus.pofel.outcome import Outcome, settle
from consensus.pofel.settings import Settings
from consensus.pofel.state import Phase, State
from fedalign.core.errors import ConfigError, DataError


def commit(state: State, settings: Settings, node: bytes, body: Commit) -> Step:
    """A COMMIT that names the model's root openly."""
    step = items.commit(state, settings, node, body)
    if isinstance(step, str) or body.commitment == ABSENT:
        return step
    after, effects = step
    opened = (body.commitment, b"", 0)
    after = replace(after, reveals={**after.reveals, node: opened})
    return after, [*effects, FetchModel(state.round, node, body.commitment, 0)]


_ITEMS = {Kind.COMMIT: (Phase.COMMIT, commit)}


class PlainMachine(RoundMachine):
    """COMMIT(root, samples), MARK, BLOCK. The block's sender is the leader, and every server
    still recomputes what it says; votes, scores and their bonus stay empty."""

    def stalls(self, entry: Entry) -> bool:
        return (
            entry.kind is Kind.BLOCK
            and self.state.phase == Phase.BLOCK
            and not self._ready()
            and (self.admit(entry) or self._late(entry)) is None
        )

    def opening(self) -> list[Effect]:
        state, settings = self.state, self.settings
        if state.phase != Phase.BLOCK:
            return marks.opening(state, settings)
        return [Evaluate(state.task(settings)), BuildBlock(state.round, 0, None)]

    def _accepts(self):
        return _ITEMS

    def _mark(self, entry: Entry, body: Mark) -> list[Effect]:
        if self.state.phase == Phase.BLOCK:  # no ranks: the ordering protocol replaces its leader
            return [Ignored("stale_mark")]
        if reason := self._closes(body):
            return [Ignored(reason)]
        self._witness(entry)
        state, settings = self.state, self.settings
        few = len(state.commits) < state.quorum(settings)
        if few or len(state.committers) < state.fewest(settings):
            self.state, effects = marks.abort(state, settings, "too few models")
            return effects
        roster = tuple(node for node in state.members(settings) if node in state.committers)
        beacon = advance(state.beacon, [root for root, _, _ in state.reveals.values()])
        self.state = replace(state, roster=roster, beacon=beacon, phase=Phase.BLOCK)
        return self.opening()

    def _block(self, entry: Entry) -> list[Effect]:
        state, settings = self.state, self.settings
        if state.phase != Phase.BLOCK:
            return [Ignored("other_phase")]
        outcome = self._outcome(entry.sender)
        try:
            block = entry.content
        except DataError:
            reason = "malformed"
        else:
            reason = blocks.refusal(
                state, settings, outcome, entry.sender, block, self._check_payload
            )
        if reason is None:
            return self._accept(outcome, entry.sender, block)
        self.state = state.struck(entry.sender, "bad_block")
        return [Ignored(reason), Strike(entry.sender, "bad_block")]

    def _outcome(self, author: bytes) -> Outcome:
        if self.state.phase != Phase.BLOCK or not self._ready():
            raise ConfigError("There is nothing to propose before the models are evaluated.")
        return replace(settle(self.state, self.settings, self._evaluated), ranking=(author,))

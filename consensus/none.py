"""None: one trusted place applies the rule; the event log alone keeps what happened.

Paper: none; the setting without a chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import process_time

from fedalign.core.agreement import Audited, Cost, Question, Sealed, Verdict
from fedalign.core.contracts import Context, Defense, Updates


@dataclass(frozen=True)
class NoConsensus:
    """Nobody votes, nothing is sent, no block is kept."""

    def open(self, folder: Path | None, height: int | None = None) -> None:
        return None

    def agree(
        self, proposals: Updates, rule: Defense, context: Context, sealed: Sealed = Sealed()
    ) -> Verdict:
        """The rule's decision on the proposals as they are."""
        began = process_time()
        aggregate = rule(proposals.rows, context)
        spent = Cost(cpu_s=process_time() - began)
        members = tuple(sorted(int(server) for server in proposals.clients))
        return Verdict(aggregate, "plain", members=members, costs={"aggregate": spent})

    def close(self, sealed: Sealed = Sealed()) -> None:
        return None

    def audit(self, asked: Mapping[int, Question]) -> list[Audited]:
        return []

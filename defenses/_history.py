"""Members' submissions between rounds, and what a missing member would have sent.

Paper: Wang et al., "HieAvg", arXiv 2308.01296, 2023 (estimates from a member's own history).

A submission is a model, start + row: what the member received plus what it made of it. Kept are
the row as it came (a view of its round's matrix, nothing is copied) and the round, under which
the start is found; the first submission, which never changes, is kept as a model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedalign.core.scattered import norm_scattered

GIB = 2**30


@dataclass
class Member:
    """What is known of one member. count: submissions so far. misses: in a row, up to now.
    trusted: whether its last row was accepted. trail: submissions, oldest first."""

    count: int = 0
    misses: int = 0
    trusted: bool = True
    trail: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class History:
    """All members' histories inside one call of a rule: read from a memory, written to the next.

    starts: round -> model (d,) that members received in it. kept: submissions per trail, 1 for
    the last alone, 2 for first and last, W + 1 for a window, where `sliding`. limit: bytes beyond
    which rows live in a file that the system pages in and out.
    """

    kept: int
    sliding: bool
    limit: float
    starts: dict[int, Tensor]
    members: dict[int, Member]

    @staticmethod
    def of(memory: Mapping[str, Any], kept: int, sliding: bool, limit: float) -> History:
        """A working copy of what `memory` holds; the memory stays as it is."""
        members = {
            int(who): Member(**{**saved, "trail": list(saved["trail"])})
            for who, saved in memory.get("members", {}).items()
        }
        return History(kept, sliding, limit, dict(memory.get("starts", {})), members)

    def memory(self) -> dict[str, Any]:
        """What to keep: only starts that a submission still refers to."""
        used = {s["start"] for m in self.members.values() for s in m.trail}
        members = {who: dict(vars(member)) for who, member in sorted(self.members.items())}
        starts = {r: start for r, start in sorted(self.starts.items()) if r in used}
        return {"starts": starts, "members": members}

    def member(self, who: int) -> Member:
        return self.members.setdefault(who, Member())

    def submit(
        self, round: int, clients: Sequence[int], rows: Tensor, start: Tensor | None, reset: float
    ) -> None:
        """Rows (n, d) of `clients`, trained in `round` from `start` (d,), enter their histories;
        whoever was away for more than `reset` rounds begins a new one."""
        if not clients:
            return
        rows = self._placed(rows)
        if start is not None:
            self.starts[round] = start
        firsts = []
        for i, who in enumerate(clients):
            member = self.member(who)
            if member.misses > reset:
                member.trail, member.count = [], 0
            member.count += 1
            member.misses, member.trusted = 0, True
            entry = {"round": round, "number": member.count, "row": rows[i]}
            member.trail.append({**entry, "start": None if start is None else round})
            if member.count == 1 and self.kept == 2 and not self.sliding:
                firsts.append((i, member))
            self._prune(member)
        self._settle(firsts, rows, start)

    def miss(self, who: int) -> Member:
        """One more round without a submission. The third in a row copies its last row, so that
        few absent members do not keep whole matrices of old rounds alive."""
        member = self.member(who)
        member.misses += 1
        if member.misses == 3 and member.trail:
            last = member.trail[-1]
            if last["row"]._base is not None and not self._large(last["row"]):
                member.trail[-1] = {**last, "row": last["row"].clone()}
        return member

    def slope(self, member: Member, elapsed: bool) -> float:
        """q: what last minus oldest is divided by, rounds or submissions; 0 without a slope."""
        if self.kept < 2 or len(member.trail) < 2:
            return 0.0
        key = "round" if elapsed else "number"
        return float(member.trail[-1][key] - member.trail[0][key])

    def length(self, member: Member, elapsed: bool) -> float:
        """The norm of a member's mean difference per round (or submission)."""
        newest, oldest = member.trail[-1], member.trail[0]
        terms = [*self._model(newest, 1.0), *self._model(oldest, -1.0)]
        return norm_scattered(terms) / self.slope(member, elapsed)

    def _model(self, entry: Mapping[str, Any], sign: float) -> list[tuple[float, Tensor]]:
        start = entry["start"]
        return [(sign, entry["row"]), *([] if start is None else [(sign, self.starts[start])])]

    def _prune(self, member: Member) -> None:
        while len(member.trail) > self.kept:
            del member.trail[0 if self.sliding or self.kept == 1 else 1]

    def _settle(
        self, firsts: Sequence[tuple[int, Member]], rows: Tensor, start: Tensor | None
    ) -> None:
        """First submissions become models, copied into one matrix of their own."""
        if not firsts:
            return
        models = rows[[i for i, _ in firsts]]
        models = self._placed(models if start is None else models.add_(start))
        for (_, member), model in zip(firsts, models, strict=True):
            member.trail[0] = {**member.trail[0], "row": model, "start": None}

    def _placed(self, rows: Tensor) -> Tensor:
        """The rows, in a file without a name where all histories together pass the limit."""
        if not self._large(rows[0]) or rows.device.type != "cpu":
            return rows
        with tempfile.TemporaryFile(prefix="fedalign-history-") as file:
            disk = np.memmap(file, dtype=rows.numpy().dtype, mode="w+", shape=tuple(rows.shape))
        paged = torch.from_numpy(disk)
        paged.copy_(rows)
        return paged

    def _large(self, row: Tensor) -> bool:
        return max(len(self.members), 1) * self.kept * row.nbytes > self.limit

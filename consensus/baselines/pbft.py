"""PBFT: a primary assigns numbers, everybody tells everybody twice, and may change the primary.

Paper: Castro, Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, Sections 4.2 and 4.4; no
checkpoints, and channels are taken to be authentic.
"""

from __future__ import annotations

from typing import NamedTuple

from consensus.baselines._replica import ALL, Batch, Replica, digest_of, size_of

VOTE_BYTES = 3 * 8 + 32


class Slot(NamedTuple):
    """What is known of one number in one view."""

    batch: Batch | None
    prepares: frozenset[int]
    commits: frozenset[int]


EMPTY = Slot(None, frozenset(), frozenset())


class Pbft(Replica):
    """One replica. patience: ticks without progress before it asks for another primary (> 0)."""

    def __init__(self, id: int, servers: int, patience: int = 6):
        super().__init__(id, servers)
        self.view = self.delivered = self.next = 0
        self._patience, self._waited = patience, 0
        self._slots: dict[tuple[int, int, bytes], Slot] = {}  # (view, number, digest)
        self._accepted: dict[tuple[int, int], bytes] = {}
        self._prepared: dict[int, tuple[int, Batch]] = {}  # number -> (view, batch)
        self._final: dict[int, Batch] = {}
        self._asked: dict[int, dict[int, dict[int, tuple[int, Batch]]]] = {}
        self._wanted = 0  # the view it asks for; messages of older ones do not count

    @property
    def leader(self) -> int:
        return self._wanted % self.servers

    def wake(self) -> None:
        """The primary numbers what it has, one batch at a time."""
        free = self.next == self.delivered and self.view == self._wanted
        if self.leader == self.id and self.pool and free:
            self._propose(self.next + 1, tuple(self.pool.values()))

    def tick(self) -> None:
        """A server that waits for something loses patience with the primary."""
        busy = self.pool or self.next > self.delivered or self.view != self._wanted
        self._waited = self._waited + 1 if busy else 0
        if self._waited > self._patience * (1 + self._wanted - self.view):
            self._change(self._wanted + 1)

    # ------------------------------------------------------------ the normal case

    def _propose(self, number: int, batch: Batch) -> None:
        self.send(ALL, "preprepare", self.view, number, batch, size=VOTE_BYTES + size_of(batch))
        self._take(self.view, number, batch)

    def on_preprepare(self, sender: int, view: int, number: int, batch: Batch) -> None:
        """The primary's order; a second one for the same number is not looked at."""
        if (view, sender) != (self.view, view % self.servers) or view != self._wanted:
            return
        if (view, number) in self._accepted:
            return
        name = self._take(view, number, batch)
        self.send(ALL, "prepare", view, number, name, size=VOTE_BYTES)
        self._count("prepares", self.id, view, number, name)

    def _take(self, view: int, number: int, batch: Batch) -> bytes:
        name = digest_of(batch, number)
        self._accepted[view, number], self.next = name, max(self.next, number)
        slot = self._slots.get((view, number, name), EMPTY)
        self._slots[view, number, name] = slot._replace(batch=batch)
        self._check(view, number, name)
        return name

    def on_prepare(self, sender: int, view: int, number: int, name: bytes) -> None:
        """Backups agree with the number; the primary's word was the order itself."""
        if sender != view % self.servers:
            self._count("prepares", sender, view, number, name)

    def on_commit(self, sender: int, view: int, number: int, name: bytes) -> None:
        """A server knows that a quorum agrees."""
        self._count("commits", sender, view, number, name)

    def _count(self, votes: str, voter: int, view: int, number: int, name: bytes) -> None:
        slot = self._slots.get((view, number, name), EMPTY)
        found = {votes: getattr(slot, votes) | {voter}}
        self._slots[view, number, name] = slot._replace(**found)
        self._check(view, number, name)

    def _check(self, view: int, number: int, name: bytes) -> None:
        slot = self._slots[view, number, name]
        if slot.batch is None or view != self.view or view != self._wanted:
            return
        if len(slot.prepares) >= self.quorum - 1 and self.id not in slot.commits:
            self._prepared[number] = (view, slot.batch)
            self.send(ALL, "commit", view, number, name, size=VOTE_BYTES)
            slot = slot._replace(commits=slot.commits | {self.id})
            self._slots[view, number, name] = slot
        if len(slot.commits) >= self.quorum and self.id in slot.commits:
            self._final[number] = slot.batch
            self._deliver()

    def _deliver(self) -> None:
        while self.delivered + 1 in self._final:
            self.delivered += 1
            self.deliver(self._final[self.delivered])
            self._waited = 0
        self.wake()

    # ------------------------------------------------------------ another primary

    def _change(self, view: int) -> None:
        self._wanted, self._waited = view, 0
        held = {**{k: (self.view, b) for k, b in self._final.items()}, **self._prepared}
        size = VOTE_BYTES + sum(size_of(batch) + 40 for _, batch in held.values())
        self.send(ALL, "viewchange", view, held, size=size)
        self.on_viewchange(self.id, view, held)

    def on_viewchange(self, sender: int, view: int, held: dict[int, tuple[int, Batch]]) -> None:
        """A server wants this view; the new primary starts it with a quorum behind it."""
        if view <= self.view:
            return
        asked = self._asked.setdefault(view, {})
        asked[sender] = held
        joins = len(asked) > (self.servers - 1) // 3 and self._wanted < view
        if joins:  # not all of them lie
            self._change(view)
        elif view % self.servers == self.id and len(asked) >= self.quorum and self.view < view:
            chosen: dict[int, tuple[int, Batch]] = {}
            for told in asked.values():
                for number, (seen, batch) in told.items():
                    if number not in chosen or seen > chosen[number][0]:
                        chosen[number] = (seen, batch)
            again = {k: batch for k, (_, batch) in chosen.items()}
            size = VOTE_BYTES + sum(size_of(batch) + 8 for batch in again.values())
            self.send(ALL, "newview", view, again, size=size)
            self.on_newview(self.id, view, again)

    def on_newview(self, sender: int, view: int, again: dict[int, Batch]) -> None:
        """What may have been committed is ordered again, under the same numbers."""
        if sender != view % self.servers or view < self._wanted or view <= self.view:
            return
        self.view = self._wanted = view
        self._waited, self.next = 0, self.delivered
        for number in range(1, max(again, default=0) + 1):
            batch = again.get(number, ())
            if self.id == sender:
                self._take(view, number, batch)
            else:
                self.on_preprepare(sender, view, number, batch)
        self.wake()

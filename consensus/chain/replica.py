"""Replica: a member whose log is cut now and then, and who fetches what it missed from the others.

A snapshot in the log is only a hash: of the member's state, which servers hand each other chunk by
chunk. Blocks are no part of it: every block comes with its seal, and is executed again.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Chapter 5 (snapshots);
fetching by hash and by seal is our derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consensus.chain.member import Member, height_in
from consensus.chain.seal import BlockSeal
from consensus.chain.store import ModelStore
from consensus.encoding import decode, encode
from consensus.pofel.messages import at_most, exactly, uint
from consensus.raft.messages import Entry, EntryKind
from fedalign.core.errors import DataError, IntegrityError

MANIFEST, CHUNK, BLOCKS = b"manifest", b"chunk", b"blocks"
BLOCKS_SENT, BYTES_SENT = 16, 1 << 20  # at most, in one answer; one block always
SNAPSHOTS_KEPT = 3  # a server may be fetching the one before
Send = Callable[[int, bytes], None]


class Replica:
    """What a Raft log replicates: entries for `member`, states in `store`.

    peers: whom to ask. send: (peer, frame); set before anything is fetched.
    """

    def __init__(self, member: Member, store: ModelStore, peers: Sequence[int]):
        self.member, self.store, self.peers = member, store, tuple(peers)
        self.send: Send = lambda peer, frame: None
        self._root: bytes | None = None  # the state that is still to be fetched
        self._later: list[Entry] = []  # entries behind it
        self._made: list[bytes] = []
        self._turn = 0

    # ------------------------------------------------------------ the log

    def apply(self, entries: list[Entry]) -> None:
        """Take in the next entries, or keep them until the state before them is here."""
        if self._root is not None:
            self._later += entries
            return
        for entry in entries:
            if entry.kind is EntryKind.NORMAL and entry.data:
                self.member.apply(entry.data)

    def dump(self) -> bytes | None:
        """The hash of the state; None while it is not known here."""
        if self._root is not None:
            return None
        root = self.store.put(self.member.dump())
        self._made = [*self._made, root][-SNAPSHOTS_KEPT:]
        self.store.keep(self._made)
        return root

    def load(self, root: bytes) -> None:
        """Go on from the state with this hash; what of it is not here is fetched."""
        if not root:
            return  # the log begins with the chain
        self._root, self._later = root, []
        self._restore()

    @property
    def fetching(self) -> bool:
        """Whether something is still missing here."""
        return self._root is not None

    # ------------------------------------------------------------ the others

    def fetch(self) -> None:
        """Ask one of the others for what is missing next; called now and then."""
        if self._root is None or self._restore() or not self.peers:
            return
        self._turn += 1
        self.send(self.peers[self._turn % len(self.peers)], self._question())

    def received(self, sender: int, frame: bytes) -> None:
        """A question is answered, an answer used. Raises DataError where it is neither."""
        items = decode(frame)
        if not isinstance(items, tuple) or len(items) not in (3, 4):
            raise DataError("Servers ask each other for manifests, chunks and blocks.")
        if len(items) == 3:
            answer = self._answer(*items)
            if answer is not None:
                self.send(sender, encode([*items, answer]))
        elif self._root is not None:
            self._use(*items)
            if not self._restore():
                self.send(sender, self._question())

    def _question(self) -> bytes:
        root, store = self._root, self.store
        if root not in store.roots():
            return encode([MANIFEST, root, 0])
        missing = store.missing(root)
        if missing:
            return encode([CHUNK, root, missing[0]])
        return encode([BLOCKS, b"", self.member.node.height + 1])

    def _answer(self, kind: bytes, name: bytes, number: bytes) -> bytes | list | None:
        root, index = at_most(32)(name), uint(64)(number)
        try:
            if kind == MANIFEST:
                return self.store.manifest(root).encode()
            if kind == CHUNK:
                return self.store.chunk(root, index)
            return self._blocks(index) if kind == BLOCKS else None
        except (DataError, IntegrityError):
            return None  # somebody else may have it

    def _blocks(self, first: int) -> list:
        node, found, size = self.member.node, [], 0
        for height in range(first, min(first + BLOCKS_SENT, node.height + 1)):
            payload = node.payload(height)
            size += len(payload)
            if found and size > BYTES_SENT:
                break
            found.append([payload, node.seal_of(node.header_at(height).hash).encode()])
        return found

    def _use(self, kind: bytes, name: bytes, number: bytes, answer) -> None:
        """What does not fit its hash or its seal is dropped; the next server is asked again."""
        try:
            if kind == MANIFEST and name == self._root:
                self.store.begin(exactly(32)(name), answer)
            elif kind == CHUNK and name == self._root:
                self.store.add(exactly(32)(name), uint(32)(number), answer)
            elif kind == BLOCKS:
                for payload, seal in answer:
                    if self.member.node.decode(payload).number == self.member.node.height + 1:
                        self.member.node.import_final(payload, BlockSeal.decode(seal))
        except (DataError, IntegrityError, ValueError, TypeError):
            return

    def _restore(self) -> bool:
        """Whether all is here; then the member continues from it."""
        if self._root not in self.store:
            return False
        state = self.store.get(self._root)
        if self.member.node.height < height_in(state):
            return False
        self.member.load(state)
        self._made, self._root = [*self._made, self._root][-SNAPSHOTS_KEPT:], None
        entries, self._later = self._later, []
        self.apply(entries)
        return True

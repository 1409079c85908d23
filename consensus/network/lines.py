"""Lines: several conversations between the same servers over one network.

Paper: none; our derivation.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.network.processes import ProcessNetwork

Receive = Callable[[int, bytes], None]


class Lines:
    """A byte in front of every frame says to which line it belongs; of others it is dropped.

    connect: makes the network, given what to call with arriving frames.
    """

    def __init__(self, connect: Callable[[Receive], ProcessNetwork]):
        self._receivers: dict[int, Receive] = {}
        self.network = connect(self._received)

    def line(self, number: int, receive: Receive) -> Line:
        """Line 0 .. 255."""
        self._receivers[number] = receive
        return Line(self.network, bytes([number]))

    def _received(self, sender: int, frame: bytes) -> None:
        receive = self._receivers.get(frame[0] if frame else -1)
        if receive is None:
            self.network.counters["refused line"] += 1
        else:
            receive(sender, frame[1:])


class Line:
    """One conversation; whoever starts and closes it does so for all of them."""

    def __init__(self, network: ProcessNetwork, mark: bytes):
        self._network, self._mark = network, mark
        self.addresses = network.addresses

    @property
    def on_lost(self) -> Callable[[int], None]:
        """Called with a peer that cannot be reached any more."""
        return self._network.on_lost

    @on_lost.setter
    def on_lost(self, call: Callable[[int], None]) -> None:
        self._network.on_lost = call

    async def start(self) -> None:
        await self._network.start()

    async def close(self) -> None:
        await self._network.close()

    def send(self, to: int, frame: bytes, droppable: bool = False) -> None:
        """As `ProcessNetwork.send`."""
        self._network.send(to, self._mark + frame, droppable)

    def connected(self) -> list[int]:
        """Peers that can be reached now."""
        return self._network.connected()

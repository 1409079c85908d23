"""On an EVM: PoFEL whose sealed rounds settle on an EVM chain of the same servers.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023; the chain of contracts beside it is our
derivation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consensus.archive import Record
from consensus.protocol import PoFEL
from fedalign.core.agreement import Audited, Question, Sealed, SealedBlock

if TYPE_CHECKING:
    from consensus.chain.mirror import Mirror

LIVE, FINISHED = "evm.db", "evm"


@dataclass
class PoFELOnEvm(PoFEL):
    """PoFEL, and a block on an EVM for every round: evm.db in the chain's folder while a run lasts,
    plain files in evm/ once it has ended. escrow_wei: what servers are paid from, >= 0.
    """

    escrow_wei: int = 10**24

    def open(self, folder: Path | None, height: int | None = None) -> SealedBlock | None:
        """As PoFEL; rounds that the EVM chain does not hold yet are settled now."""
        last = super().open(folder, height)
        self._folder = folder
        self._mirror = self._opened()
        for number in self._archive.heights():
            self._mirror.settle(self._archive.read(number))
        return last

    def close(self, sealed: Sealed = Sealed()) -> SealedBlock | None:
        """As PoFEL; the EVM chain becomes plain files."""
        closing = super().close(sealed)
        if self._folder is not None and not (self._folder / FINISHED).exists():
            from consensus.chain import flat

            aside = self._folder / f"{FINISHED}.part"
            _emptied(aside)
            flat.write(self._mirror.node, aside)
            aside.rename(self._folder / FINISHED)
            self._mirror.node.close()
            for path in self._folder.glob(f"{LIVE}*"):
                path.unlink()
        return closing

    def audit(self, asked: Mapping[int, Question] | None = None) -> list[Audited]:
        """As PoFEL; then every block of the EVM chain is executed again and must hold the round
        that the servers sealed. Raises IntegrityError naming the first lie."""
        done = super().audit(asked)
        from consensus.chain import flat
        from consensus.chain.mirror import check, round_record

        files = None if self._folder is None else self._folder / FINISHED
        ended = files is not None and files.exists()
        node = flat.verify(files) if ended else self._mirror.node
        for audited in done:
            record = self._archive.read(audited.block.height)
            check(node, round_record(record, self.settings))
        return done

    def _keep(self, block: SealedBlock, record: Record) -> None:
        super()._keep(block, record)
        self._mirror.settle(record)

    def _opened(self) -> Mirror:
        from consensus.chain.mirror import Mirror

        keys = {server.key.node_id: server.key for server in self.members}
        live = None if self._folder is None else self._folder / LIVE
        if self._folder is not None and (self._folder / FINISHED).exists():
            live = None  # it has ended: its files are checked in `audit`
        return Mirror(self.settings, keys, live, self.escrow_wei)


def _emptied(folder: Path) -> None:
    """What a stopped run left of its files goes."""
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

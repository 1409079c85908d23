"""On an EVM: PoFEL whose sealed rounds settle in contracts, on a chain of its servers or elsewhere.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023; the contracts beside it are our derivation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consensus.archive import Record
from consensus.protocol import PoFEL
from fedalign.core.agreement import Audited, Question, Sealed, SealedBlock
from fedalign.core.errors import ConfigError

if TYPE_CHECKING:
    from consensus.chain.external_mirror import ExternalMirror
    from consensus.chain.mirror import Mirror

LIVE, FINISHED = "evm.db", "evm"


@dataclass
class PoFELOnEvm(PoFEL):
    """PoFEL, and for every round a block on an EVM chain of the same servers: evm.db in the chain's
    folder while a run lasts, plain files in evm/ once it has ended.

    escrow_wei: what servers are paid from, >= 0. rpc_url: of a foreign network to settle on
    instead; payer_key: the key file of who pays there, for gas and the escrow.
    """

    escrow_wei: int = 10**24
    rpc_url: str | None = None
    payer_key: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.rpc_url is None) != (self.payer_key is None):
            raise ConfigError(
                "A foreign network needs both: rpc_url names it, payer_key is the file of a key "
                "that has money there."
            )

    def open(self, folder: Path | None, height: int | None = None) -> SealedBlock | None:
        """As PoFEL; rounds that the EVM does not hold yet are settled now."""
        last = super().open(folder, height)
        self._folder = folder
        self._mirror = self._opened()
        for number in self._archive.heights():
            self._mirror.settle(self._archive.read(number))
        return last

    def close(self, sealed: Sealed = Sealed()) -> SealedBlock | None:
        """As PoFEL; an EVM chain of our own becomes plain files."""
        closing = super().close(sealed)
        if self.rpc_url is not None or closing is None or self._ended():
            return closing
        self._mirror.close(closing, self._told(sealed, closing.height))
        if self._folder is None:
            return closing
        from consensus.chain import flat

        aside = self._folder / f"{FINISHED}.part"
        _emptied(aside)
        flat.write(self._mirror.node, aside)
        aside.rename(self._files())
        self._mirror.node.close()
        for path in self._folder.glob(f"{LIVE}*"):
            path.unlink()
        return closing

    def audit(self, asked: Mapping[int, Question] | None = None) -> list[Audited]:
        """As PoFEL; then every block of our EVM chain is executed again, and it, or the foreign
        network, must hold the rounds that the servers sealed. Raises IntegrityError."""
        done = super().audit(asked)
        records = [self._archive.read(audited.block.height) for audited in done]
        if self.rpc_url is not None:
            for record in records:
                self._mirror.check(record)
            return done
        from consensus.chain import flat
        from consensus.chain.mirror import check, round_record

        node = flat.verify(self._files()) if self._ended() else self._mirror.node
        for record in records:
            check(node, round_record(record, self.settings))
        return done

    def _keep(self, block: SealedBlock, record: Record) -> None:
        super()._keep(block, record)
        self._mirror.settle(record)

    def _ended(self) -> bool:
        return self._folder is not None and self._files().exists()

    def _files(self) -> Path:
        return self._folder / FINISHED

    def _opened(self) -> Mirror | ExternalMirror:
        keys = {server.key.node_id: server.key for server in self.members}
        if self.rpc_url is not None:
            from consensus.chain import keystore
            from consensus.chain.external_mirror import ExternalMirror

            payer = keystore.load(Path(self.payer_key))
            return ExternalMirror(
                self.settings, keys, self.rpc_url, payer, self._folder, self.escrow_wei
            )
        from consensus.chain.mirror import Mirror

        live = None if self._folder is None else self._folder / LIVE
        if self._ended():
            live = None  # it has ended: its files are checked in `audit`
        return Mirror(self.settings, keys, live, self.escrow_wei)


def _emptied(folder: Path) -> None:
    """What a stopped run left of its files goes."""
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

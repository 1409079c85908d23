"""External mirror: sealed rounds on a foreign EVM network, each with its servers' signatures.

Paper: none; our derivation (what `Mirror` writes on a chain of ours, sent to a network by URL).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from consensus.archive import Record
from consensus.chain.external import ExternalChain, connect
from consensus.chain.mirror import round_record
from consensus.identity import Key
from consensus.pofel.settings import Settings
from fedalign.core.errors import ConfigError, DataError

FILE = "contracts.json"


class ExternalMirror:
    """Contracts on the network behind `rpc_url`: deployed once, found again through `folder`.

    keys: of all members, by node id. payer: pays for gas and, on deployment, the escrow. folder:
    where the contracts' addresses are kept, None deploys anew every time.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Mapping[bytes, Key],
        rpc_url: str,
        payer: Key,
        folder: Path | None = None,
        escrow_wei: int = 0,
    ):
        self._settings, self._keys = settings, keys
        path, web3 = None if folder is None else folder / FILE, connect(rpc_url)
        if path is not None and path.is_file():
            self.chain = ExternalChain(web3, payer, _addresses(path, web3.eth.chain_id))
            return
        self.chain = ExternalChain.deploy(web3, payer, settings.members, escrow_wei)
        if path is not None:
            places = {name: place.hex() for name, place in self.chain.addresses.items()}
            told = {"chain_id": web3.eth.chain_id, "contracts": places}
            path.write_text(json.dumps(told, indent=1) + "\n")

    def settle(self, record: Record) -> None:
        """Record the round, or check it where it is recorded already."""
        told = round_record(record, self._settings)
        if self.chain.read("Rounds", "settled", told.round) == bytes(32):
            signed = self.chain.digest(told)
            signers = [final.sender for final in record.seal.finals]
            self.chain.settle(told, {node: self._keys[node].sign(signed) for node in signers})
        self.chain.check(told)

    def check(self, record: Record) -> None:
        """Raise IntegrityError unless the network holds exactly this round."""
        self.chain.check(round_record(record, self._settings))


def _addresses(path: Path, chain_id: int) -> dict[str, bytes]:
    try:
        told = json.loads(path.read_text())
        found = {name: bytes.fromhex(place) for name, place in told["contracts"].items()}
        there = told["chain_id"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} names no contracts: {error!r}.") from error
    if there != chain_id:
        raise ConfigError(
            f"{path} is about the network with chain id {there}, this one has {chain_id}: go back "
            "to that one, or begin in another folder."
        )
    return found

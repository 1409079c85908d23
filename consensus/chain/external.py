"""External: the same contracts on any EVM network, reached by URL.

Paper: none; our derivation. A foreign network does not know our seals, so a round is settled with
the signatures of a quorum of members, and anybody who pays the gas may send them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception

from consensus.chain.abi import Interface
from consensus.chain.compiler import EVM_VERSION, compiled
from consensus.chain.genesis import ADDRESSES
from consensus.chain.record import RoundRecord
from consensus.chain.settlement import Claim
from consensus.chain.transactions import keccak, signed
from consensus.encoding import encode
from consensus.identity import Key
from fedalign.core.errors import ConfigError, DataError, IntegrityError

ORDER = ("Members", "ModelRegistry", "Commitments", "Votes", "Rewards", "Rounds")
WAIT_S = 120


def connect(rpc_url: str, timeout_s: float = 30) -> Web3:
    """A client of the network behind `rpc_url`; raises ConfigError where nobody answers."""
    web3 = Web3(HTTPProvider(rpc_url, request_kwargs={"timeout": timeout_s}))
    if not web3.is_connected():
        raise ConfigError(
            f"No Ethereum node answers at {rpc_url}: start it, or name another chain.rpc_url."
        )
    return web3


class ExternalChain:
    """Our contracts on the network of `web3`. key: pays for what is sent. addresses: by name."""

    def __init__(
        self,
        web3: Web3,
        key: Key,
        addresses: Mapping[str, bytes],
        evm_version: str = EVM_VERSION,
    ):
        self.web3, self.key, self.addresses = web3, key, dict(addresses)
        self._evm_version = evm_version
        for name in ORDER:
            if name not in self.addresses or not web3.eth.get_code(_text(self.addresses[name])):
                raise ConfigError(
                    f"There is no {name} contract where it was said to be: deploy the contracts "
                    "first, or check the network."
                )

    @staticmethod
    def deploy(
        web3: Web3,
        key: Key,
        members: Sequence[bytes],
        escrow_wei: int = 0,
        evm_version: str = EVM_VERSION,
    ) -> ExternalChain:
        """Put the contracts on the network. members: node ids in order of position.

        escrow_wei: what the rewards are paid from; `key` pays it and the gas.
        """
        nonce = web3.eth.get_transaction_count(_text(key.node_id))
        places = {name: _created(key.node_id, nonce + i) for i, name in enumerate(ORDER)}
        writer = places["Rounds"]
        values = {
            "Members": (list(members), False),
            "ModelRegistry": (writer,),
            "Commitments": (writer, places["Members"]),
            "Votes": (writer,),
            "Rewards": (writer,),
            "Rounds": tuple(places[name] for name in ORDER[:-1]),
        }
        for name in ORDER:
            artifact = compiled(name, evm_version)
            code = artifact.bytecode + Interface(artifact.abi).construct(*values[name])
            wei = escrow_wei if name == "Rewards" else 0
            _send(web3, key, None, code, wei, f"deploying {name}")
        return ExternalChain(web3, key, places, evm_version)

    def read(self, contract: str, function: str, *values: Any) -> Any:
        """What a view function answers; raises DataError where it reverts."""
        interface = self._interface(contract)
        call = {
            "to": _text(self.addresses[contract]),
            "data": interface.call(function, *values),
        }
        try:
            answer = self.web3.eth.call(call)
        except Web3Exception as error:
            raise DataError(f"{contract}.{function} refuses: {error}.") from error
        return interface.result(function, bytes(answer))

    def digest(self, record: RoundRecord) -> bytes:
        """What members sign so that this round may be recorded here."""
        return self.read("Rounds", "digest", record.round, record.facts_hash())

    def settle(self, record: RoundRecord, signatures: Mapping[bytes, bytes]) -> Mapping[str, Any]:
        """Record a round. signatures: node id -> signature of `digest`, of a quorum or more.

        The receipt. Raises DataError where the network refuses it.
        """
        ordered = [signatures[node] for node in sorted(signatures)]
        return self._transact("Rounds", record.call(ordered), f"settling round {record.round}")

    def claim(self, claim: Claim) -> Mapping[str, Any]:
        """Have one payee paid."""
        return self._transact("Rewards", claim.call(), f"a claim of round {claim.round}")

    def fund(self, wei: int) -> Mapping[str, Any]:
        """Add to the escrow."""
        data = self._interface("Rewards").call("fund")
        return self._transact("Rewards", data, "funding the escrow", wei)

    def check(self, record: RoundRecord) -> None:
        """Raise IntegrityError unless the network holds exactly this round."""
        kept = self.read("Rounds", "settled", record.round)
        if kept != record.facts_hash():
            raise IntegrityError(
                f"The network holds another round {record.round}: 0x{kept.hex()[:16]}, expected "
                f"0x{record.facts_hash().hex()[:16]}."
            )

    def _transact(self, contract: str, data: bytes, what: str, wei: int = 0) -> Mapping[str, Any]:
        return _send(self.web3, self.key, self.addresses[contract], data, wei, what)

    def _interface(self, contract: str) -> Interface:
        if contract not in ADDRESSES:
            raise ConfigError(f"There is no contract '{contract}': {', '.join(ORDER)}.")
        return Interface(compiled(contract, self._evm_version).abi)


def _send(
    web3: Web3, key: Key, to: bytes | None, data: bytes, wei: int, what: str
) -> Mapping[str, Any]:
    """Sign, send, wait: the receipt of a transaction that succeeded."""
    sender = _text(key.node_id)
    asked = {"from": sender, "data": data, "value": wei} | ({} if to is None else {"to": _text(to)})
    try:
        gas = web3.eth.estimate_gas(asked)
        head = web3.eth.get_block("latest")
        tip = web3.eth.max_priority_fee
        raw = signed(
            key,
            chain_id=web3.eth.chain_id,
            nonce=web3.eth.get_transaction_count(sender),
            to=to,
            data=data,
            value=wei,
            gas=min(gas * 5 // 4, head["gasLimit"]),
            max_fee_wei=2 * head.get("baseFeePerGas", 0) + tip,
            tip_wei=tip,
        )
        receipt = web3.eth.wait_for_transaction_receipt(
            web3.eth.send_raw_transaction(raw), timeout=WAIT_S
        )
    except (Web3Exception, ValueError) as error:
        raise DataError(f"The network refuses {what}: {error}.") from error
    if receipt["status"] != 1:
        raise DataError(f"The network refused {what}: its transaction was reverted.")
    return receipt


def _created(sender: bytes, nonce: int) -> bytes:
    return keccak(encode([sender, nonce]))[-20:]


def _text(account: bytes) -> str:
    return Web3.to_checksum_address(account)

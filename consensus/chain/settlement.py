"""Settlement: a round's payments as one root and one sum on the chain, which every payee claims.

Paper: none; our derivation (Merkle, "A Digital Signature Based on a Conventional Encryption
Function", CRYPTO 1987: a thousand transfers cost one 32-byte root until they are claimed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from consensus.chain.abi import Interface
from consensus.chain.compiler import compiled
from consensus.chain.record import EMPTY, leaf
from consensus.pofel.merkle import Tree
from fedalign.core.errors import ConfigError

if TYPE_CHECKING:
    from fedalign.core.market import Payments

Wallet = Callable[[int], bytes]
"""A client's id -> its 20-byte account."""


@dataclass(frozen=True)
class Claim:
    """One payee's entry. index: its place. amount: wei. path: proof, lowest sibling first."""

    round: int
    index: int
    account: bytes
    amount: int
    path: tuple[bytes, ...]

    def call(self) -> bytes:
        """The data of `Rewards.claim`; anyone may send it, the account is paid."""
        interface = Interface(compiled("Rewards").abi)
        place = (self.round, self.index, self.account, self.amount)
        return interface.call("claim", *place, list(self.path))


@dataclass(frozen=True)
class Settlement:
    """A round's payments. accounts: 20 bytes each; amounts: wei > 0, of the same length."""

    round: int
    accounts: tuple[bytes, ...]
    amounts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.accounts) != len(self.amounts) or any(len(a) != 20 for a in self.accounts):
            raise ConfigError(
                f"A settlement names one amount per account of 20 bytes, got {len(self.accounts)} "
                f"accounts and {len(self.amounts)} amounts."
            )
        if any(amount <= 0 for amount in self.amounts):
            raise ConfigError("A settlement's amounts are above 0 wei: leave out who gets nothing.")

    @staticmethod
    def of(round_: int, payments: Payments, wallet: Wallet) -> Settlement:
        """An incentive's payments: whole base units are wei; who gets 0 has nothing to claim."""
        paid = [
            (wallet(int(account)), int(amount))
            for account, amount in zip(payments.accounts, payments.amounts, strict=True)
            if amount
        ]
        found = Settlement(round_, tuple(a for a, _ in paid), tuple(amount for _, amount in paid))
        if found.total != payments.total:
            raise ConfigError(
                f"Round {round_} pays {payments.total} base units, its entries sum to {found.total}."
            )
        return found

    @property
    def total(self) -> int:
        """The exact sum, wei."""
        return sum(self.amounts)

    @property
    def root(self) -> bytes:
        return self._tree.root if self.accounts else EMPTY

    @property
    def claims(self) -> tuple[int, bytes, int, int]:
        """(round, root, entries, total): what a `RoundRecord` posts."""
        return (self.round, self.root, len(self.accounts), self.total)

    def claim(self, index: int) -> Claim:
        """Entry `index` with its proof."""
        if not 0 <= index < len(self.accounts):
            raise ConfigError(f"Round {self.round} has {len(self.accounts)} entries, no {index}.")
        path = self._tree.proof(index)
        return Claim(self.round, index, self.accounts[index], self.amounts[index], path)

    def claims_of(self, account: bytes) -> list[Claim]:
        """What an account may claim of this round."""
        return [self.claim(i) for i, one in enumerate(self.accounts) if one == account]

    @cached_property
    def _tree(self) -> Tree:
        pairs = zip(self.accounts, self.amounts, strict=True)
        return Tree([leaf(account, amount) for account, amount in pairs])

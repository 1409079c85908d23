"""Mirror: sealed rounds on an EVM chain of the same members, a block per round, readable by anybody.

A pure function of the rounds' records: every block carries the hash of the round block it settles
in its extra data, is written by the same leader and signed by the same servers. Its chain id is the
rounds' plus one, so that no signature of one fits the other.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (rounds in blocks); our derivation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from consensus.archive import Record
from consensus.audit import last_block
from consensus.chain.database import Database
from consensus.chain.genesis import ADDRESSES, Genesis
from consensus.chain.node import ChainNode
from consensus.chain.record import Ballots, Commits, RoundRecord, prediction_hash
from consensus.chain.seal import BlockSeal
from consensus.chain.transactions import signed
from consensus.encoding import unpack
from consensus.identity import Key
from consensus.pofel.hcds import ABSENT
from consensus.pofel.messages import Kind
from consensus.pofel.settings import Settings
from consensus.told import Told
from fedalign.core.agreement import SealedBlock
from fedalign.core.errors import IntegrityError


class Mirror:
    """The EVM chain beside the rounds of `settings`.

    keys: of all members, by node id. path: of its database, None for memory. escrow_wei: what
    servers are paid from; base units are wei.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Mapping[bytes, Key],
        path: Path | None = None,
        escrow_wei: int = 10**24,
    ):
        self._settings, self._keys = settings, keys
        self.node = ChainNode(genesis(settings, escrow_wei), Database(path))

    def settle(self, record: Record) -> None:
        """The round of a record, which must follow the last one or be one of those that are here.

        Raises IntegrityError where another round was settled at its height.
        """
        told, entry = round_record(record, self._settings), last_block(record)
        if told.round <= self.node.height:
            check(self.node, told)
            return
        signers, block = [final.sender for final in record.seal.finals], entry.content
        self._seal(told, block.header_hash, block.time_s, signers, entry.round, entry.view)

    def close(self, closing: SealedBlock, told: Told) -> None:
        """The closing block: the last model, and what clients may claim for the last round."""
        leader, members = self.node.head.coinbase, self._settings.members
        record = RoundRecord(
            closing.height, leader, closing.hash, start_digest=told.model, claims=told.claims
        )
        signers = [members[position] for position in closing.signers]
        self._seal(record, closing.hash, self.node.head.timestamp + 1, signers, closing.round, 0)

    def _seal(
        self, told: RoundRecord, extra: bytes, time_s: int, signed_by: Sequence[bytes],
        round_: int, rank: int,
    ) -> None:  # fmt: skip
        """A block with the one call that records `told`."""
        author, chain_id = self._keys[told.leader], self.node.genesis.chain_id
        call = signed(
            author,
            chain_id=chain_id,
            nonce=self.node.state().get_nonce(author.node_id),
            to=ADDRESSES["Rounds"],
            data=told.call(),
        )
        payload = self.node.build(author.node_id, time_s, extra, [call])
        signers = [self._keys[node] for node in signed_by]
        where = (chain_id, round_, rank, self.node.preview(payload).hash)
        self.node.import_final(payload, BlockSeal.sign(signers, author, *where))
        check(self.node, told)


def genesis(settings: Settings, escrow_wei: int = 10**24) -> Genesis:
    """The first block that follows from what the servers agreed on."""
    return Genesis(
        settings.members,
        chain_id=settings.chain_id + 1,
        faults=settings.faults,
        escrow_wei=escrow_wei,
    )


def round_record(record: Record, settings: Settings) -> RoundRecord:
    """What the contracts keep of a sealed round. Weights are those that the round led to; start
    digest and claims are what its block says of the round before."""
    entry, told = last_block(record), Told.decode(record.told)
    facts = unpack(entry.content.facts)
    scores = {voter: total for voter, _, _, total in facts["scores"]}
    weights = dict(facts["weights"][1])
    of_round = [e for e in record.stream if e.round == entry.round]
    shares = {e.sender: e.content.prediction_ppm for e in of_round if e.kind is Kind.VOTE}
    place = settings.members.index
    return RoundRecord(
        round=entry.content.height,
        leader=entry.sender,
        update_root=facts["aggregate"][0],
        start_digest=told.model,
        claims=told.claims,
        commits=Commits(
            [
                (e.sender, e.content.commitment, e.content.size)
                for e in of_round
                if e.kind is Kind.COMMIT and e.content.commitment != ABSENT
            ]
        ),
        ballots=Ballots(
            [
                (v, place(choice), prediction_hash(shares[v]), scores[v], weights.get(v, 0))
                for v, choice in facts["tally"][3]
            ]
        ),
        pay=dict(facts["rewards"][0]),
    )


def check(node: ChainNode, told: RoundRecord) -> None:
    """Raise IntegrityError unless `node` holds exactly this round."""
    kept = node.read("Rounds", "settled", told.round)
    if kept != told.facts_hash():
        raise IntegrityError(
            f"The EVM chain holds another round {told.round}: 0x{kept.hex()[:16]}, the servers "
            f"sealed 0x{told.facts_hash().hex()[:16]}."
        )

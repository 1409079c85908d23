"""Audit: replay a chain's records and name the first thing that is not as it should be.

Every byte of a record is covered: entries by their signatures and by having an effect, the block
by the replay, the seal by a quorum's signatures over the block, the snapshot by comparison.

Paper: none; our derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from consensus.archive import Archive, Record
from consensus.encoding import unpack
from consensus.identity import SignatureCheck
from consensus.pofel import seal
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Block, Entry, Kind
from consensus.pofel.plain import PlainMachine
from consensus.pofel.settings import Settings
from consensus.pofel.state import State
from consensus.pofel.task import Evaluated, Task
from consensus.told import Told
from fedalign.core.errors import ConfigError, DataError, IntegrityError

Recompute = Callable[[Task], Evaluated | None]


def audit(
    archive: Archive,
    settings: Settings,
    machine: type[RoundMachine] = RoundMachine,
    recompute: Mapping[int, Recompute] | None = None,
) -> list[tuple[int, bool]]:
    """Replay all heights from the first. Returns (height, whether its aggregate was recomputed).

    recompute: height -> the evaluation of a task where its models are still there, else None; then
    what the block says of similarities and the aggregate is taken as told, everything that follows
    from it is checked. Raises IntegrityError naming height and entry, DataError for a damaged file.
    """
    replica, done = machine(settings, check=SignatureCheck(1 << 18)), []
    for height in range(1, len(archive.heights()) + 1):
        if height not in archive.heights():
            raise IntegrityError(f"Height {height} is missing.")
        record = archive.read(height)
        try:
            done.append((height, _replay(replica, record, height, (recompute or {}).get(height))))
        except (LookupError, TypeError, ValueError) as error:
            raise IntegrityError(f"Height {height}: its facts do not fit: {error}.") from error
    return done


def replay(
    replica: RoundMachine,
    parent: bytes,
    record: Record,
    height: int,
    recompute: Recompute | None = None,
) -> State:
    """The state behind a record, followed from its parent's snapshot. Raises what `audit` raises."""
    replica.restore(parent)
    try:
        _replay(replica, record, height, recompute)
    except (LookupError, TypeError, ValueError) as error:
        raise IntegrityError(f"Height {height}: its facts do not fit: {error}.") from error
    return replica.state


def check_seal(state: State, settings: Settings, record: Record, check: SignatureCheck) -> None:
    """Raise IntegrityError unless a quorum signed the block that ends `record`. state: behind it."""
    entry = last_block(record)
    members, needs = state.sealers(settings)
    seal.verify(
        record.seal, chain_id=settings.chain_id, round_=entry.round, rank=entry.view,
        header_hash=entry.content.header_hash, members=members, needs=needs, check=check,
    )  # fmt: skip


def last_block(record: Record) -> Entry:
    """The accepted block."""
    entry = record.stream[-1] if record.stream else None
    if entry is None or entry.kind is not Kind.BLOCK:
        raise IntegrityError("The record of a block does not end with the block.")
    return entry


def _replay(
    replica: RoundMachine, record: Record, height: int, recompute: Recompute | None
) -> bool:
    told, proved = last_block(record), False
    for place, entry in enumerate(record.stream):
        if replica.state.height != height - 1:
            raise IntegrityError(f"Height {height}: entries follow the block, from {place} on.")
        if replica.stalls(entry):
            evaluated = _evaluated(replica, told.content, told.round == entry.round)
            again = None if recompute is None else recompute(replica.state.task(replica.settings))
            if again is not None and _measured(again) != _measured(evaluated):
                raise IntegrityError(f"Height {height}: the models give another aggregate.")
            proved = proved or again is not None
            replica.provide(evaluated if again is None else again)
        before = replica.state
        effects = replica.apply(entry)
        if replica.state is before:
            raise IntegrityError(
                f"Height {height}, entry {place} ({entry.kind.value}) has no effect: {effects}."
            )
    if replica.state.height != height:
        raise IntegrityError(f"Height {height}: the last block is refused by the replay.")
    if Told.decode(record.told).digest != unpack(told.content.facts)["sealed"]:
        raise IntegrityError(f"Height {height}: the record tells another round before it.")
    if replica.snapshot() != record.snapshot:
        raise IntegrityError(f"Height {height}: the snapshot is not what the entries lead to.")
    check_seal(replica.state, replica.settings, record, replica.check)
    return proved


def _evaluated(replica: RoundMachine, block: Block, same_round: bool) -> Evaluated:
    """What the accepted block says of its round's evaluation."""
    if not same_round and not isinstance(replica, PlainMachine):
        raise ConfigError("A round that counted votes ended without a block.")
    try:
        facts = unpack(block.facts)
        root, scale, _, likeness, denied = facts["aggregate"]
        _, _, _, votes, wrong = facts["tally"]
        best = tuple(dict.fromkeys(choice for voter, choice in votes if voter not in wrong))
        return Evaluated(replica.state.round, root, scale, likeness, best, copies=denied,
                         sealed=facts["sealed"], standing=facts["standing"])  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"The block of round {replica.state.round} states no outcome.") from error


def _measured(found: Evaluated) -> tuple:
    return found.global_root, found.scale, found.likeness_ppb, found.standing

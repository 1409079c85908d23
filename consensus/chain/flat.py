"""Flat: a finished chain as plain files, of which no byte goes unchecked.

    genesis            what the first block is made from
    000001.block ...   a block's bytes and its seal
    manifest.json      the head, and the SHA-256 of every file

Whoever has the folder executes every block again, checks every seal, and names the first file that
does not fit; a manifest alone would prove only that nobody was careless.

Paper: none; our derivation.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from consensus.chain.genesis import Genesis
from consensus.chain.node import ChainNode
from consensus.chain.seal import BlockSeal
from consensus.encoding import decode, encode, pack, unpack
from fedalign.core.errors import ConfigError, DataError, FedalignError, IntegrityError

GENESIS, MANIFEST = "genesis", "manifest.json"


def write(node: ChainNode, folder: Path) -> None:
    """Write the chain of `node` into a folder that is empty or missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: a finished chain is written once.")
    _keep(folder / GENESIS, _genesis_bytes(node.genesis))
    for height in range(1, node.height + 1):
        payload = node.payload(height)
        seal = node.seal_of(node.header_at(height).hash)
        _keep(folder / _name(height), encode([payload, seal.encode()]))
    _keep(folder / MANIFEST, _manifest(folder, node))


def verify(folder: Path) -> ChainNode:
    """The chain in `folder`, executed again in memory. Raises IntegrityError, which names the first
    file that lies."""
    try:
        node = ChainNode(_genesis(folder / GENESIS))
    except (FedalignError, OSError) as error:
        raise IntegrityError(f"{folder / GENESIS}: {error}") from error
    blocks = sorted(folder.glob("*.block"))
    for height, path in enumerate(blocks, start=1):
        if path.name != _name(height):
            raise IntegrityError(f"{folder / _name(height)}: this block is missing.")
        try:
            payload, seal = _pair(path.read_bytes())
            node.import_final(payload, BlockSeal.decode(seal))
        except (DataError, IntegrityError) as error:
            raise IntegrityError(f"{path}: {error}") from error
        if node.height != height:
            raise IntegrityError(f"{path}: this is block {node.height} once more.")
    _check_manifest(folder, node)
    return node


def _check_manifest(folder: Path, node: ChainNode) -> None:
    """Blocks may be missing at the end, and files may be there that nobody checked."""
    path = folder / MANIFEST
    try:
        told = path.read_bytes()
        said = json.loads(told)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: {error}.") from error
    if isinstance(said, dict) and said.get("height", 0) != node.height:
        raise IntegrityError(
            f"{path}: it says {said.get('height')} blocks, {node.height} are here."
        )
    for name in sorted(one.name for one in folder.iterdir()):
        known = name in (GENESIS, MANIFEST) or name.endswith(".block")
        if not known or not (folder / name).is_file():
            raise IntegrityError(f"{folder / name}: this is no file of a chain.")
    if told != _manifest(folder, node):
        raise IntegrityError(f"{path}: it does not describe the files beside it.")


def _manifest(folder: Path, node: ChainNode) -> bytes:
    names = sorted(p.name for p in folder.iterdir() if p.name != MANIFEST)
    told: dict[str, Any] = {
        "files": {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names},
        "head": node.head.hash.hex(),
        "height": node.height,
    }
    return json.dumps(told, indent=1, sort_keys=True).encode() + b"\n"


def _genesis_bytes(genesis: Genesis) -> bytes:
    told = {name: getattr(genesis, name) for name in genesis.__dataclass_fields__}
    return pack({**told, "balances": dict(genesis.balances)})


def _genesis(path: Path) -> Genesis:
    told = unpack(path.read_bytes())
    if not isinstance(told, dict) or set(told) != set(Genesis.__dataclass_fields__):
        raise DataError("these bytes are no genesis.")
    try:
        found = Genesis(**told)
    except TypeError as error:
        raise DataError(f"these bytes are no genesis: {error}.") from error
    if _genesis_bytes(found) != path.read_bytes():
        raise DataError("these bytes are not in canonical form.")
    return found


def _pair(data: bytes) -> tuple[bytes, bytes]:
    items = decode(data)
    if (
        not isinstance(items, tuple)
        or len(items) != 2
        or not all(isinstance(i, bytes) for i in items)
    ):
        raise DataError("these bytes are no block with its seal.")
    return items


def _name(height: int) -> str:
    return f"{height:06d}.block"


def _keep(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

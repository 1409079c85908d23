"""Compiler: our Vyper contracts as bytecode, compiled once per source and kept in a cache folder.

Paper: none; the Vyper compiler (contracts in the folder beside this file).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedalign.core.errors import UnknownNameError

SOURCES = Path(__file__).parent / "contracts"
EVM_VERSION = "prague"


@dataclass(frozen=True)
class Artifact:
    """A compiled contract. abi: as the compiler gives it. bytecode: creation code."""

    name: str
    abi: tuple[dict[str, Any], ...]
    bytecode: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of interface and bytecode."""
        text = json.dumps([self.name, self.abi, self.bytecode.hex()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def contracts() -> tuple[str, ...]:
    """The names of the contracts there are."""
    return tuple(sorted(path.stem for path in SOURCES.glob("*.vy") if path.stem[0].isupper()))


@cache
def compiled(name: str, evm_version: str = EVM_VERSION, folder: Path | None = None) -> Artifact:
    """The contract `name`, from the cache `folder` (default: the user's) or compiled into it.

    evm_version: prague, cancun, shanghai ...; bytecode for a newer EVM fails on an older one.
    """
    if name not in contracts():
        raise UnknownNameError("contract", name, contracts())
    folder = _user_cache() if folder is None else Path(folder)
    path = folder / f"{name}-{_fingerprint(evm_version)}.json"
    artifact = _read(path, name)
    if artifact is None:
        artifact = _compile(name, evm_version)
        _write(path, artifact)
    return artifact


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fedalign" / "contracts"


@cache
def _fingerprint(evm_version: str) -> str:
    """All sources, as one may import another, and the compiler."""
    total = hashlib.sha256(f"{version('vyper')} {evm_version}".encode())
    for path in sorted(SOURCES.glob("*.vy")):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:32]


def _read(path: Path, name: str) -> Artifact | None:
    """None where the file is missing or not what `_write` wrote: it is then compiled again."""
    try:
        kept = json.loads(path.read_text())
        artifact = Artifact(name, tuple(kept["abi"]), bytes.fromhex(kept["bytecode"]))
        return artifact if kept["digest"] == artifact.digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _compile(name: str, evm_version: str) -> Artifact:
    from vyper.compiler import compile_code
    from vyper.compiler.input_bundle import FilesystemInputBundle
    from vyper.compiler.settings import Settings

    output = compile_code(
        (SOURCES / f"{name}.vy").read_text(),
        contract_path=f"{name}.vy",
        output_formats=["abi", "bytecode"],
        settings=Settings(evm_version=evm_version),
        input_bundle=FilesystemInputBundle([SOURCES]),
    )
    return Artifact(name, tuple(output["abi"]), bytes.fromhex(output["bytecode"][2:]))


def _write(path: Path, artifact: Artifact) -> None:
    """Whole or not at all; a folder that cannot be written costs time, nothing else."""
    content = {"abi": artifact.abi, "bytecode": artifact.bytecode.hex(), "digest": artifact.digest}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as aside:
            json.dump(content, aside)
        os.replace(aside.name, path)
    except OSError:
        return

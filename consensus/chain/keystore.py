"""Keystore: a server's key in a file that only its owner can read, encrypted where asked.

Source: Web3 Secret Storage, version 3, which other Ethereum clients read as well.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from consensus.identity import Key
from fedalign.core.errors import ConfigError, DataError

SCRYPT_WORK = 1 << 17  # about a third of a second and 128 MiB per guess


def save(path: Path, key: Key, passphrase: str | None = None, work: int = SCRYPT_WORK) -> None:
    """Write a new file, mode 0600; an existing one is never replaced.

    passphrase: None keeps the key readable for whoever can read the file. work: scrypt's cost, a
    power of two.
    """
    if passphrase == "":
        raise ConfigError("An empty passphrase protects nothing: give one, or none at all.")
    if passphrase is None:
        told = {"address": key.node_id.hex(), "privateKey": key.secret.hex()}
    else:
        from eth_keyfile import create_keyfile_json

        told = create_keyfile_json(key.secret, passphrase.encode(), kdf="scrypt", iterations=work)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists and is kept: a lost key cannot be made again.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
    with os.fdopen(handle, "w") as file:
        json.dump(told, file)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path, passphrase: str | None = None) -> Key:
    """Read a key. Raises ConfigError where others could read the file too or the passphrase is
    missing or wrong, DataError where the file is damaged."""
    try:
        mode = path.stat().st_mode
        told = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"There is no key in {path}: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is no key file: {error}.") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"Others can read {path}: chmod 600 {path}.")
    if not isinstance(told, dict):
        raise DataError(f"{path} is no key file.")
    secret = _encrypted(path, told, passphrase) if "crypto" in told else _plain(path, told)
    key = Key(secret)
    if told.get("address", "").removeprefix("0x").lower() != key.node_id.hex():
        raise DataError(
            f"{path} says it is of {told.get('address')}, its key is of another server."
        )
    return key


def _plain(path: Path, told: dict) -> bytes:
    try:
        return bytes.fromhex(told["privateKey"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no key file: it has no privateKey in hexadecimal.") from error


def _encrypted(path: Path, told: dict, passphrase: str | None) -> bytes:
    from eth_keyfile import decode_keyfile_json

    if passphrase is None:
        raise ConfigError(f"The key in {path} is encrypted: give its passphrase.")
    try:
        return decode_keyfile_json(told, passphrase.encode())
    except Exception as error:  # the library raises several unrelated types
        if "MAC" in str(error):
            raise ConfigError(f"The passphrase does not open {path}.") from error
        raise DataError(f"{path} is no key file: {error}.") from error

"""Keys in files: for their owner only, encrypted where asked, never replaced."""

import hashlib
import json
import os

import pytest
from eth_account import Account

from consensus.chain import keystore
from consensus.identity import Key
from fedalign.core.errors import ConfigError, DataError

KEY = Key(hashlib.sha256(b"kept").digest())
QUICK = 1 << 10


def test_only_the_owner_can_read_it(tmp_path):
    path = tmp_path / "key.json"
    keystore.save(path, KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keystore.load(path).secret == KEY.secret
    for mode in (0o640, 0o604):
        os.chmod(path, mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            keystore.load(path)


def test_an_encrypted_key_needs_its_passphrase(tmp_path):
    path = tmp_path / "key.json"
    keystore.save(path, KEY, "correct horse", QUICK)
    assert KEY.secret.hex() not in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    assert keystore.load(path, "correct horse").node_id == KEY.node_id
    with pytest.raises(ConfigError, match="does not open"):
        keystore.load(path, "wrong")
    with pytest.raises(ConfigError, match="give its passphrase"):
        keystore.load(path)
    assert Account.decrypt(path.read_text(), "correct horse") == KEY.secret  # others read it too


def test_a_key_is_never_replaced(tmp_path):
    path = tmp_path / "key.json"
    keystore.save(path, KEY)
    with pytest.raises(ConfigError, match="is kept"):
        keystore.save(path, Key(bytes(31) + b"\1"))
    assert keystore.load(path) == KEY
    with pytest.raises(ConfigError, match="cannot be written"):
        keystore.save(tmp_path / "missing" / "key.json", KEY)
    with pytest.raises(ConfigError, match="empty passphrase"):
        keystore.save(tmp_path / "other.json", KEY, "")


@pytest.mark.parametrize(
    "content",
    ["", "no json", "[]", "{}", '{"privateKey": 5}', '{"privateKey": "zz"}', '{"crypto": {}}',
     json.dumps({"address": "00" * 20, "privateKey": KEY.secret.hex()})],
)  # fmt: skip
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "key.json"
    path.write_text(content)
    os.chmod(path, 0o600)
    with pytest.raises(DataError, match=r"key\.json"):
        keystore.load(path, "pass")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no key in"):
        keystore.load(tmp_path / "none.json")

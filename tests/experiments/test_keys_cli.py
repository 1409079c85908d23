"""`fedalign keys`: what it writes, who may read it, what it tells to do next."""

import shlex
from ipaddress import ip_address

import pytest
from cryptography import x509

from experiments import cli


def test_keys_are_the_owners_and_the_recipe_names_every_one(tmp_path, capsys):
    folder = tmp_path / "keys"
    words = ["--nodes", "2", "--host", "link.example", "--host", "10.0.0.5"]
    assert cli.main(["keys", "--dir", str(folder), *words]) == 0
    said = capsys.readouterr().out
    assert folder.stat().st_mode & 0o777 == 0o700
    secret = ["local_0.key", "local_1.key", "node_0", "node_1", "server.key"]
    assert [p.name for p in sorted(folder.iterdir()) if p.stat().st_mode & 0o077 == 0] == secret
    root = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    for name, hosts in (("server", ["link.example", "localhost"]), ("local_1", ["localhost"])):
        found = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        found.verify_directly_issued_by(root)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == hosts
        assert (ip_address("10.0.0.5") in names.get_values_for_type(x509.IPAddress)) == (
            name == "server"
        )
    assert "runtime.superlink=link.example:8000" in said
    for name in ("ca.crt", "server.crt", "server.key", "node_$i", "local_$i.crt", "local_$i.key"):
        assert f"{folder}/{name}" in said
    assert shlex.split(said.split("\n\n")[1])[:2] == ["export", "FLWR_TELEMETRY_ENABLED=0"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--dir", "{tmp}", "--nodes", "2"], "holds files already: take an empty --dir"),
        (["--dir", "{tmp}/new", "--nodes", "0"], "--nodes must be 1 or more, got 0"),
        (["--dir", "{tmp}/new"], "the following arguments are required: --nodes"),
    ],
)
def test_what_cannot_be_made_is_said(tmp_path, capsys, words, why):
    (tmp_path / "old").touch()
    assert cli.main(["keys", *(word.format(tmp=tmp_path) for word in words)]) == 1
    assert why in capsys.readouterr().err and not (tmp_path / "new").exists()

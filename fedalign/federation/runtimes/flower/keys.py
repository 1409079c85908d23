"""Keys of a deployment: an own certificate authority, a server certificate, one key per SuperNode.

TLS: ECDSA on P-256. SuperNodes: ECDSA on P-384 in OpenSSH's formats, as Flower asks for.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedalign.core.errors import ConfigError


def make(folder: Path, nodes: int, hosts: Sequence[str] = ("localhost", "127.0.0.1")) -> None:
    """Write ca.crt, server.crt, server.key and node_<i>, node_<i>.pub for i < nodes to `folder`,
    valid for a year. hosts: names and addresses under which the SuperLink is reached."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives import serialization as forms
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise ConfigError("Keys need cryptography: pip install 'cryptography>=46'.") from error

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(subject: str, key, issuer_key, ca: bool) -> bytes:
        start = datetime.now(UTC) - timedelta(minutes=5)
        built = (
            x509.CertificateBuilder(named("fedalign CA"), named(subject), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            built = built.add_extension(
                x509.SubjectAlternativeName([_general(x509, host) for host in hosts]), False
            )
        return built.sign(issuer_key, hashes.SHA256()).public_bytes(forms.Encoding.PEM)

    folder.mkdir(parents=True, exist_ok=True)
    root, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    (folder / "ca.crt").write_bytes(certificate("fedalign CA", root, root, True))
    (folder / "server.crt").write_bytes(certificate("SuperLink", server, root, False))
    plain = forms.NoEncryption()
    _secret(
        folder / "server.key",
        server.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, plain),
    )
    for i in range(nodes):
        key = ec.generate_private_key(ec.SECP384R1())
        _secret(
            folder / f"node_{i}",
            key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.OpenSSH, plain),
        )
        public = key.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH)
        (folder / f"node_{i}.pub").write_bytes(public)


def _general(x509, host: str):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _secret(path: Path, content: bytes) -> None:
    """A file that its owner alone may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)

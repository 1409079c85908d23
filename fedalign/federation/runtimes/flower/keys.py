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

LOCAL = ("localhost", "127.0.0.1")


def make(folder: Path, nodes: int, hosts: Sequence[str] = LOCAL) -> None:
    """Write to `folder`, valid for a year: ca.crt; server.crt and server.key of the SuperLink,
    reached under `hosts` (names and addresses); per SuperNode i < nodes its identity node_<i> and
    node_<i>.pub, and local_<i>.crt, local_<i>.key for its own programs on its own machine. The
    authority's key is not kept: nobody can add to what it has signed."""
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

    def certificate(subject: str, key, issuer_key, names: Sequence[str] = ()) -> bytes:
        start = datetime.now(UTC) - timedelta(minutes=5)
        built = (
            x509.CertificateBuilder(named("fedalign CA"), named(subject), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        )
        if names:
            built = built.add_extension(
                x509.SubjectAlternativeName([_general(x509, name) for name in names]), False
            )
        return built.sign(issuer_key, hashes.SHA256()).public_bytes(forms.Encoding.PEM)

    def signed(name: str, subject: str, names: Sequence[str]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{name}.crt").write_bytes(certificate(subject, key, root, names))
        plain = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, bare)
        _secret(folder / f"{name}.key", plain)

    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    root, bare = ec.generate_private_key(ec.SECP256R1()), forms.NoEncryption()
    (folder / "ca.crt").write_bytes(certificate("fedalign CA", root, root))
    signed("server", "SuperLink", hosts)
    for i in range(nodes):
        key = ec.generate_private_key(ec.SECP384R1())
        _secret(
            folder / f"node_{i}",
            key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.OpenSSH, bare),
        )
        public = key.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH)
        (folder / f"node_{i}.pub").write_bytes(public)
        signed(f"local_{i}", f"SuperNode {i}", LOCAL)


def _general(x509, host: str):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _secret(path: Path, content: bytes) -> None:
    """A file that its owner alone may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)

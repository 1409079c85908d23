"""TLS: contexts in which both sides must show a certificate of one authority.

Source: RFC 8446 (TLS 1.3), with client certificates.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def mutual(certificate: Path, key: Path, authority: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server, client) contexts from PEM files; server i's certificate names `server-i`.

    Raises OSError or ssl.SSLError for files that are missing or do not belong together.
    """
    contexts = []
    for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
        context = ssl.create_default_context(purpose, cafile=str(authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(str(certificate), str(key))
        contexts.append(context)
    return contexts[0], contexts[1]

"""The certificate of a server's gate: made once, signed by itself. Workers know it by its fingerprint."""

from __future__ import annotations

import datetime
import hashlib
import socket
import ssl
from pathlib import Path
from typing import Final

from jiffy.files import create_file

_YEARS: Final = 20


def ensure_certificate(path: Path) -> str:
    """Make the file with key and certificate unless it is there; gives the fingerprint: SHA-256 in hex. Readable by its
    owner only."""
    if not path.exists():
        create_file(path, _make(), private=True)
    certificate = path.read_text().partition(ssl.PEM_HEADER)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert("".join(certificate[1:]))).hexdigest()


def server_context(path: Path) -> ssl.SSLContext:
    """For connections that a server with this certificate accepts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(path)
    return context


def _make() -> bytes:
    """Once in a server's life: what it takes is not loaded at other starts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, socket.gethostname()[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded + certificate.public_bytes(serialization.Encoding.PEM)

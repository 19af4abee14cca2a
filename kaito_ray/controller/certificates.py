"""The webhook's certificate: self-signed, and pinned by the configuration that tells the API server of the webhook.

Replicas behind one Service must answer with one certificate, so it is kept in a Secret: who starts first makes it.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kaito_ray.api import names
from kaito_ray.errors import ApiUnavailable, Conflict
from kaito_ray.kube.cluster import SECRETS, Cluster, Manifest

VALID_FOR: Final = timedelta(days=3650)
RENEWED_BEFORE: Final = timedelta(days=365)
"""A start finds a certificate that is nearer to its end than this, and makes another."""
_VALID_SINCE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""The API server's clock may be behind ours, or be set back."""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Write both into that directory, the key for its owner alone; return the paths."""
        paths = directory / "tls.crt", directory / "tls.key"
        paths[0].write_bytes(self.certificate)
        paths[1].touch(mode=0o600)
        paths[1].write_bytes(self.key)
        return paths


def self_signed(host: str) -> Certificate:
    """Return a new certificate for that host name or address, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.MANAGED_BY)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_SINCE)
        .not_valid_after(datetime.now(UTC) + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName([_subject(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(certificate.public_bytes(serialization.Encoding.PEM), private)


async def kept(cluster: Cluster, namespace: str, name: str, host: str) -> Certificate:
    """Return the certificate in that Secret; made there, or made anew, where it is absent, old or another host's.

    Raises:
        errors.ApiUnavailable: the Secret could not be read or written, or others write it at the same time.
    """
    for _ in range(3):
        live = await cluster.get(SECRETS, name, namespace)
        if live is not None and (found := _usable(live, host)):
            return found
        made = self_signed(host)
        secret = _secret(namespace, name, made)
        try:
            if live is None:
                await cluster.create(SECRETS, secret)
            else:
                await cluster.replace(SECRETS, {**live, "data": secret["data"]})
        except Conflict:  # another replica was faster; its certificate is as good
            continue
        return made
    raise ApiUnavailable(f"the Secret {name} changes all the time")


def _secret(namespace: str, name: str, made: Certificate) -> Manifest:
    data = {"tls.crt": made.certificate, "tls.key": made.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(names.MANAGED_LABELS)},
        "type": "kubernetes.io/tls",
        "data": {file: base64.b64encode(content).decode() for file, content in data.items()},
    }


def _usable(secret: Manifest, host: str) -> Certificate | None:
    try:
        data = secret.get("data") or {}
        found = Certificate(*(base64.b64decode(data[file], validate=True) for file in ("tls.crt", "tls.key")))
        read = x509.load_pem_x509_certificate(found.certificate)
        key = serialization.load_pem_private_key(found.key, password=None)
        subjects = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (KeyError, ValueError, binascii.Error, x509.ExtensionNotFound):
        return None
    fits = key.public_key() == read.public_key() and _subject(host) in subjects
    lasts = read.not_valid_after_utc - datetime.now(UTC) > RENEWED_BEFORE
    return found if fits and lasts else None


def _subject(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

"""A server's certificate as facts: who it is for, who signed it, and how long it is good for."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from cryptography import x509

from services.checker.domain.kinds import Source

SOURCE = Source("texts", ("days_left", "issuer", "subject", "names"))
"""What assertions may look at; `days_left` is a number, `names` are several."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. `names` are the host names and addresses that it is for (RFC 5280, 4.2.1.6)."""

    until: datetime
    issuer: str
    subject: str
    names: tuple[str, ...]

    def days_left(self, now: datetime) -> float:
        """Return how many days remain, negative after the end; to a hundredth."""
        return round((self.until - now).total_seconds() / DAY_S, 2)

    def values(self, now: datetime) -> Mapping[str, Any]:
        """Return what `SOURCE` names."""
        return {"days_left": self.days_left(now), "issuer": self.issuer, "subject": self.subject, "names": self.names}


@lru_cache(maxsize=4096)
def from_pem(pem: str) -> Certificate | None:
    """Return what the first certificate in a PEM text says, or None if it cannot be read. Kept: a service shows the same one for months."""
    try:
        return _told(x509.load_pem_x509_certificate(pem.encode()))
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def from_der(der: bytes) -> Certificate | None:
    """Return what a certificate in DER says, or None if it cannot be read."""
    try:
        return _told(x509.load_der_x509_certificate(der))
    except ValueError:
        return None


def shown(tls: ssl.SSLObject | None, now: datetime) -> dict[str, Any]:
    """Return what assertions see of the certificate that a server showed; nothing without TLS, or if nobody but OpenSSL can read it."""
    read = from_der(tls.getpeercert(binary_form=True) or b"") if tls is not None else None
    return {"certificate": read.values(now)} if read is not None else {}


def _told(certificate: x509.Certificate) -> Certificate:
    return Certificate(
        certificate.not_valid_after_utc, certificate.issuer.rfc4514_string(), certificate.subject.rfc4514_string(), _names(certificate)
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*named.get_values_for_type(x509.DNSName), *map(str, named.get_values_for_type(x509.IPAddress)))

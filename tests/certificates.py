"""Certificates for servers that tests start: good ones, and bad ones of each sort.

Made once per process by an authority of the test run's own; the files go when the process ends.
"""

import atexit
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key. `file` holds both and the chain, `chain_file` and `key_file` one each."""

    file: Path
    chain_file: Path
    key_file: Path

    @property
    def chain(self) -> str:
        """The certificate and what signed it, as PEM."""
        return self.chain_file.read_text(encoding="ascii")

    @property
    def key(self) -> str:
        """The private key as PEM."""
        return self.key_file.read_text(encoding="ascii")

    def server_context(self, *, client_authority: "Authority | None" = None) -> ssl.SSLContext:
        """Return what a TLS server runs with; one that asks clients for a certificate of `client_authority`, if that is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        if client_authority is not None:
            context.load_verify_locations(client_authority.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs. `file` is its own certificate, for those who are to trust it."""

    ca: trustme.CA
    file: Path

    @property
    def pem(self) -> str:
        """Its certificate as PEM."""
        return self.file.read_text(encoding="ascii")


def authority(name: str = "trusted") -> Authority:
    """Return the authority of this process that tests trust; another `name` is another one, which nobody trusts."""
    return _authority(name)


@cache
def _authority(name: str) -> Authority:
    ca = trustme.CA(organization_name=f"Authority {name}")
    file = _folder() / f"authority-{name}.pem"
    ca.cert_pem.write_to_path(file)
    return Authority(ca, file)


@cache
def good(*names: str, signed_by: str = "trusted", days_left: int = 365) -> Certificate:
    """Return a certificate for host names or addresses, valid since yesterday and for so many days and half a day more."""
    now = datetime.now(UTC)
    until = now + timedelta(days=days_left, hours=12)
    leaf = authority(signed_by).ca.issue_cert(
        *names, common_name=names[0], organization_name="Good", not_before=now - timedelta(days=1), not_after=until
    )
    return _of_leaf(leaf)


@cache
def expired(*names: str) -> Certificate:
    """Return a certificate of the trusted authority that ended yesterday."""
    now = datetime.now(UTC)
    leaf = authority().ca.issue_cert(*names, common_name=names[0], not_before=now - timedelta(days=30), not_after=now - timedelta(days=1))
    return _of_leaf(leaf)


@cache
def self_signed(*names: str) -> Certificate:
    """Return a certificate that is nobody's but its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    written = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _write(written, certificate.public_bytes(serialization.Encoding.PEM))


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sla-certificates-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _of_leaf(leaf: trustme.LeafCert) -> Certificate:
    return _write(leaf.private_key_pem.bytes(), b"".join(pem.bytes() for pem in leaf.cert_chain_pems))


def _write(key: bytes, chain: bytes) -> Certificate:
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    file, chain_file, key_file = folder / "all.pem", folder / "chain.pem", folder / "key.pem"
    file.write_bytes(key + chain)
    chain_file.write_bytes(chain)
    key_file.write_bytes(key)
    return Certificate(file, chain_file, key_file)

"""What an HTTP check can be told, and what curl is told of it. Headers, bodies and credentials are secrets, every one of them."""

import re
from base64 import b64encode
from functools import cached_property, lru_cache
from typing import Annotated, Literal

import pycurl
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pydantic import Field, SecretStr, field_validator, model_validator

from services.checker.domain.hosts import PROXY_FORM
from services.checker.probes.exchange import NO_BODY_HEADERS, Extras
from services.checker.probes.journey import MAX_REDIRECTS
from services.checker.probes.options import Options
from services.checker.probes.secure import MAX_PEM, Authorities

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_HEADERS = 50
MAX_TEXT = 8_000

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_AUTHORITY = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_FRAMING = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization"}
)
"""Headers that say how the message is sent, and are for the HTTP client alone to set (RFC 9110, 7.6.1)."""
_ANYWHERE = frozenset({"accept", "accept-language", "user-agent"})
"""Headers that are told to other origins, too, where a redirect leads there."""
_BODY_HEADERS = frozenset({"content-type", "content-encoding", "content-language"})
_HTTP_VERSIONS = {
    "auto": pycurl.CURL_HTTP_VERSION_2TLS,
    "1.1": pycurl.CURL_HTTP_VERSION_1_1,
    "2": pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,
}
_IP_VERSIONS = {"any": pycurl.IPRESOLVE_WHATEVER, "4": pycurl.IPRESOLVE_V4, "6": pycurl.IPRESOLVE_V6}


class Basic(Options):
    """A user name and a password (RFC 7617)."""

    username: str = Field(min_length=1, max_length=256, pattern=r"^[^:\x00-\x1f\x7f]+$")
    """Without a colon."""
    password: SecretStr = Field(max_length=1024)
    """May be empty."""

    @property
    def header(self) -> str:
        """The header's value."""
        return f"Basic {b64encode(f'{self.username}:{self.password.get_secret_value()}'.encode()).decode()}"


class ClientCertificate(Options):
    """What the check shows to services that ask who it is (mutual TLS)."""

    certificate: str = Field(min_length=1, max_length=MAX_PEM)
    """The certificate, and those between it and its authority, as PEM."""
    key: SecretStr = Field(min_length=1, max_length=MAX_PEM)
    """Its private key as PEM, without a pass phrase."""

    @model_validator(mode="after")
    def _belong_together(self) -> "ClientCertificate":
        try:
            own = x509.load_pem_x509_certificates(self.certificate.encode())[0].public_key()
        except ValueError:
            message = "must hold a certificate as PEM"
            raise ValueError(message) from None
        try:
            key = serialization.load_pem_private_key(self.key.get_secret_value().encode(), None).public_key()
        except (ValueError, TypeError):
            message = "must hold the private key as PEM, without a pass phrase"
            raise ValueError(message) from None
        if key != own:
            message = "must hold a certificate and its own key: these do not belong together"
            raise ValueError(message)
        return self


class HttpOptions(Options):
    """How an HTTP check asks and what it takes for an answer."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """How it asks."""
    headers: dict[str, SecretStr] = Field(default_factory=dict, max_length=MAX_HEADERS)
    """Headers to send. A redirect to another origin is sent none of them but Accept, Accept-Language and User-Agent."""
    body: SecretStr | None = Field(default=None, max_length=MAX_TEXT)
    """What is sent, as application/json unless a Content-Type is among the headers. Never sent to another origin."""
    basic: Basic | None = None
    """Signs in by user name and password. Never sent to another origin."""
    bearer: SecretStr | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    """Signs in by a token (RFC 6750). Never sent to another origin."""
    client_certificate: ClientCertificate | None = None
    """Signs in by a certificate. Never shown to another origin."""
    expected_codes: tuple[Annotated[int, Field(ge=100, le=599)] | Annotated[str, Field(pattern="^[1-5]xx$")], ...] = Field(
        default=("2xx",), min_length=1, max_length=50
    )
    """The codes that are healthy, as in 204 or "3xx"."""
    follow_redirects: bool = True
    """Whether redirects are followed; otherwise they are the answer."""
    max_redirects: int = Field(default=MAX_REDIRECTS, ge=1, le=20)
    """How many redirects are followed at most."""
    max_body_bytes: int = Field(default=1024 * 1024, ge=0, le=MAX_BODY_BYTES)
    """How much of an answer is read, after decompression; more is left unread."""
    http_version: Literal["auto", "1.1", "2"] = "auto"
    """`auto`: HTTP/2 where a secured service offers it. `2`: nothing else will do."""
    ip_version: Literal["any", "4", "6"] = "any"
    """Which addresses of a name are tried."""
    proxy: str | None = Field(default=None, max_length=300, pattern=PROXY_FORM)
    """A proxy to go through, as http://host:port; it must be among those that the installation allows (SLA_ALLOWED_PROXIES)."""
    verify_tls: bool = True
    """Whether the certificate must be trusted, in date and for the right name."""
    authorities: Authorities = ""
    """Certificate authorities to trust in place of the system's, as PEM."""

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        small = [name.lower() for name in headers]
        for name, value in headers.items():
            if reason := _header_flaw(name, value.get_secret_value()):
                raise ValueError(reason)
        if len(set(small)) < len(small):
            message = "must name each header once, in capital or small letters"
            raise ValueError(message)
        return headers

    @field_validator("bearer")
    @classmethod
    def _is_a_token(cls, bearer: SecretStr | None) -> SecretStr | None:
        if bearer is not None and not re.fullmatch(r"[!-~]+", bearer.get_secret_value()):
            message = "must be a token: ASCII, without spaces"
            raise ValueError(message)
        return bearer

    @model_validator(mode="after")
    def _fit_together(self) -> "HttpOptions":
        named = any(name.lower() == "authorization" for name in self.headers)
        if named + (self.basic is not None) + (self.bearer is not None) > 1:
            message = "must sign in one way: an Authorization header, basic or bearer"
            raise ValueError(message)
        if self.body is not None and self.method == "HEAD":
            message = "must have no body with HEAD"
            raise ValueError(message)
        return self

    @property
    def expected_words(self) -> str:
        """The codes in words."""
        return ", ".join(str(code) for code in self.expected_codes)

    def accepts(self, code: int) -> bool:
        """Say whether a status code counts as healthy."""
        return code in _codes(self.expected_codes)

    @cached_property
    def plain(self) -> bool:
        """Whether curl needs to be told nothing beyond what every check tells it."""
        return not self.dress(own_origin=True, with_body=True)

    def dress(self, *, own_origin: bool, with_body: bool) -> Extras:
        """Return curl's options for one hop; secrets are among them for the service's own origin alone."""
        return (
            *self._of_request(own_origin=own_origin, with_body=with_body),
            *self._of_connection(),
            *(self._of_client() if own_origin else ()),
        )

    def _of_request(self, *, own_origin: bool, with_body: bool) -> Extras:
        with_body = with_body and self.body is not None
        lines = [
            f"{name}: {value}" if value else f"{name};"
            for name, value in self._headers().items()
            if (own_origin or name.lower() in _ANYWHERE) and (with_body or name.lower() not in _BODY_HEADERS)
        ]
        if with_body and not any(line.lower().startswith("content-type") for line in lines):
            lines.append("Content-Type: application/json")
        if not lines:
            return ()
        extras: Extras = (
            (pycurl.HTTPHEADER, [line.encode() for line in (*lines, *(NO_BODY_HEADERS[1:] if with_body else NO_BODY_HEADERS))]),
        )
        if with_body and self.body is not None:
            extras += ((pycurl.POSTFIELDS, self.body.get_secret_value().encode()), (pycurl.CUSTOMREQUEST, self.method))
        return extras

    def _headers(self) -> dict[str, str]:
        """Return all headers, in clear."""
        headers = {name: value.get_secret_value().strip() for name, value in self.headers.items()}
        if self.basic is not None:
            headers["Authorization"] = self.basic.header
        if self.bearer is not None:
            headers["Authorization"] = f"Bearer {self.bearer.get_secret_value()}"
        return headers

    def _of_connection(self) -> Extras:
        extras: Extras = ()
        if self.http_version != "auto":
            extras += ((pycurl.HTTP_VERSION, _HTTP_VERSIONS[self.http_version]),)
        if self.ip_version != "any":
            extras += ((pycurl.IPRESOLVE, _IP_VERSIONS[self.ip_version]),)
        if self.proxy is not None:
            extras += ((pycurl.PROXY, self.proxy),)
        if self.authorities:
            extras += ((pycurl.CAINFO_BLOB, self.authorities.encode()),)
        return extras

    def _of_client(self) -> Extras:
        shown = self.client_certificate
        if shown is None:
            return ()
        key = shown.key.get_secret_value().encode()
        return ((pycurl.SSLCERT_BLOB, shown.certificate.encode()), (pycurl.SSLKEY_BLOB, key))


def _header_flaw(name: str, value: str) -> str | None:
    """Return what is wrong with a header, without its value."""
    if not _TOKEN.fullmatch(name):
        return "must have names of headers: letters, digits and hyphens"
    if name.lower() in _FRAMING:
        return f"must not set {name}: the HTTP client does"
    if len(value) > MAX_TEXT or _CONTROL.search(value):
        return f"must have a value of one line for {name}, of at most {MAX_TEXT} characters"
    if name.lower() == "host" and not _AUTHORITY.fullmatch(value):
        return "must have a host, and perhaps a port, for Host"
    return None


@lru_cache(maxsize=1024)
def _codes(expected: tuple[int | str, ...]) -> frozenset[int]:
    """Return every code that counts as healthy; most services expect the same."""
    return frozenset(
        number
        for code in expected
        for number in (range(int(code[0]) * 100, int(code[0]) * 100 + 100) if isinstance(code, str) else (code,))
    )

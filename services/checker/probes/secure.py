"""What the kinds that sign in have in common of TLS: whom to trust, which name to expect, and the databases' modes."""

import ssl
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from services.checker.probes.options import Options
from services.checker.probes.talk import trusting
from services.checker.probes.tools import Tools

MAX_PEM = 12_000


def _are_certificates(value: str) -> str:
    if value:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=value)
        except (ssl.SSLError, ValueError, TypeError):
            message = "must be certificates as PEM"
            raise ValueError(message) from None
    return value


Authorities = Annotated[str, Field(max_length=MAX_PEM), AfterValidator(_are_certificates)]
"""Certificates as PEM, or nothing."""


class Trust(Options):
    """Whom to trust, and for which name."""

    authorities: Authorities = ""
    """Certificate authorities to trust in place of the system's, as PEM."""
    server_name: str = Field(default="", max_length=253, pattern=r"^[A-Za-z0-9._:-]*$")
    """The name that the certificate must be for, where it is not the address's."""


class TlsOptions(Trust):
    """How a connection is secured, for kinds whose address says whether it is."""

    verify_tls: bool = True
    """Whether the certificate must be trusted, in date and for the right name."""

    def context(self, tools: Tools, *protocols: str) -> ssl.SSLContext:
        """Return what TLS is made with. Raises `Ended`, so make it before a connection is open."""
        return trusting(tools.ca_file, self.authorities, verify=self.verify_tls, protocols=protocols)


class DatabaseTls(Trust):
    """How a database's connection is secured, which its address does not say."""

    tls: Literal["off", "prefer", "require", "verify"] = "prefer"
    """`off`: never. `prefer`: if the server can, whatever its certificate. `require`: always, whatever its certificate. `verify`: always, \
with a certificate that is trusted, in date and for the right name; the only one that keeps a password from somebody on the way."""

    def context(self, tools: Tools) -> ssl.SSLContext:
        """Return what TLS is made with, where it is made."""
        return trusting(tools.ca_file, self.authorities, verify=self.tls == "verify")

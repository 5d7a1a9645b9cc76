"""SMTP checks: greeting, EHLO, STARTTLS and a sign-in if they are wanted, QUIT. No mail is sent.

A refusal is told by its reply code (RFC 5321, section 4.2), never by the server's text.
"""

import contextlib
import ssl
from typing import Literal
from urllib.parse import urlsplit

import aiosmtplib
from pydantic import Field, SecretStr

from services.checker.domain.kinds import Flaw, Kind, Source
from services.checker.domain.target import Facts, Measurement, Target
from services.checker.probes.dial import dial
from services.checker.probes.line import SOURCES, Line, carried
from services.checker.probes.options import reader
from services.checker.probes.secure import TlsOptions
from services.checker.probes.talk import Ended, Talk, talking
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType

PORT, SECURE_PORT = 25, 465
ENDPOINT = "smtp://host, smtp://host:port or smtps://host"
WRONG_PASSWORD = 535
"""RFC 4954, section 6."""
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


class SmtpOptions(TlsOptions):
    """How to sign in to a mail server."""

    starttls: Literal["auto", "required", "never"] = "auto"
    """For smtp://: whether to secure the connection after the greeting; `auto`: if the server offers it."""
    username: str = Field(default="", max_length=200, pattern=PRINTABLE)
    """Who signs in; empty: nobody does."""
    password: SecretStr = SecretStr("")
    """The password. It is never sent over a connection that is not secured, unless STARTTLS is set to `never`."""
    helo: str = Field(default="sla-monitor.invalid", min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:\[\]_-]*$")
    """The name that the checker greets with."""


def _flaws(url: str, _options: object) -> list[Flaw]:
    parts = urlsplit(url)
    strange = parts.path not in {"", "/"} or parts.query or parts.fragment
    return [Flaw("endpoint_url", f"must be {ENDPOINT}")] if strange else []


KIND = Kind(
    "smtp",
    "SMTP",
    ("smtp", "smtps"),
    ENDPOINT,
    reader(SmtpOptions),
    SmtpOptions.model_json_schema(),
    sources={**SOURCES, "extensions": Source("texts")},
    flaws=_flaws,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Greet a target once, and sign in."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: SmtpOptions = talk.target.options
    secure = urlsplit(talk.target.endpoint_url).scheme == "smtps"
    tls = options.context(tools)
    way = await dial(talk, tools, default_port=SECURE_PORT if secure else PORT)
    name = options.server_name or way.host
    async with carried(talk, way, protocol="SMTP", words=_words, tls=tls if secure else None, server_name=options.server_name) as line:
        client = aiosmtplib.SMTP(local_hostname=options.helo, start_tls=False, timeout=None)
        try:
            async with line.phase("waiting for the greeting", "first_byte_ms"):
                await client.connect(sock=line.take())
            async with line.phase("asking"):
                await client.ehlo()
            if not secure:
                await _secure(line, client, options, tls, name)
            if options.username:
                await _sign_in(line, client, options)
            extensions = tuple(sorted(client.esmtp_extensions))
            facts = Facts(values={"extensions": extensions} | line.shown(tools.clock()))
            found = talk.healthy(facts=facts, details={"tls": line.secure})
            with contextlib.suppress(Ended):  # the verdict stands, however it says good-bye
                async with line.phase("saying good-bye"):
                    await client.quit()
        finally:
            client.close()
    return found


async def _secure(line: Line, client: aiosmtplib.SMTP, options: SmtpOptions, tls: ssl.SSLContext, name: str) -> None:
    """Make TLS if it is wanted. Raises `Ended`."""
    if options.starttls == "never":
        return
    if not client.supports_extension("starttls"):
        if options.starttls == "required" or options.username:
            line.talk.doing = "securing the connection"
            raise line.talk.failure(ErrorType.TLS_ERROR, "the server offers no TLS")
        return
    async with line.phase("securing the connection", "tls_ms"):
        await client.starttls(tls_context=tls, server_hostname=name)
    line.tls = client.get_transport_info("ssl_object")
    async with line.phase("asking"):
        await client.ehlo()


async def _sign_in(line: Line, client: aiosmtplib.SMTP, options: SmtpOptions) -> None:
    if not client.supports_extension("auth") or not client.supported_auth_methods:
        line.talk.doing = "signing in"
        refused = line.refused("refused: no way to sign in is offered")
        raise refused
    async with line.phase("signing in"):
        await client.login(options.username, options.password.get_secret_value())


def _words(error: Exception) -> str | None:
    if not isinstance(error, aiosmtplib.SMTPResponseException) or not 400 <= error.code < 600:  # noqa: PLR2004  # RFC 5321, section 4.2.1
        return None
    if isinstance(error, aiosmtplib.SMTPAuthenticationError) and error.code == WRONG_PASSWORD:
        return f"refused: wrong user name or password ({error.code})"
    return f"refused: code {error.code}"

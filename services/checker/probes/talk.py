"""One check as a talk with a service: phases that end at the check's deadline, what each took, and stable words for what breaks them.

A kind that is no HTTP is written as a function that takes a `Talk`; whatever ends it early is raised as `Ended`:

    async def probe(target: Target, tools: Tools) -> Measurement:
        return await talking(target, tools, _ask)

    async def _ask(talk: Talk, tools: Tools) -> Measurement:
        way = await dial(talk, tools)
        with closing(way.connection):
            async with talk.phase("waiting for the answer", "first_byte_ms"):
                answer = await asyncio.get_running_loop().sock_recv(way.connection, 100)
            if not answer:
                raise talk.failure(ErrorType.CONNECTION_ERROR, "connection closed without an answer")
            return talk.healthy(facts=Facts(body=answer))
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from time import perf_counter
from typing import Any, Literal

from services.checker.domain.kinds import Source
from services.checker.domain.target import NO_FACTS, Facts, Measurement, Target, Times, failed, not_looked
from services.checker.probes.tools import Tools
from services.checker.probes.trouble import OS_WORDS, OWN_TROUBLE
from shared.contracts.codes import ErrorType, Outcome

Taken = Literal["name_lookup_ms", "connect_ms", "tls_ms", "first_byte_ms"]
Phase = Literal["name_lookup", "connect", "tls", "first_byte"]
Wrong = OSError | EOFError
"""What networks raise; `ssl.SSLError`, `TimeoutError` and `asyncio.IncompleteReadError` are among it."""

HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH = 62, 64
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL's x509_vfy.h."""


def timed(*phases: Phase) -> dict[str, Source]:
    """Return the sources for assertions on times that a kind offers which goes through these phases."""
    return {"response_time": Source("number"), "phase": Source("number", (*phases, "total"))}


class Ended(Exception):  # noqa: N818  # says what happened
    """The check is over; `measurement` says why."""

    def __init__(self, measurement: Measurement) -> None:
        """Carry what is to be told."""
        super().__init__(measurement.error_message)
        self.measurement = measurement


class Talk:
    """One check under way. `deadline` is the loop's time at which the target's timeout is over."""

    def __init__(self, target: Target) -> None:
        """Begin now."""
        self.target = target
        self.doing = ""
        self.deadline = asyncio.get_running_loop().time() + target.timeout_ms / 1000
        self._began = perf_counter()
        self._taken: dict[Taken, float] = {}

    @asynccontextmanager
    async def phase(self, doing: str, taken: Taken | None = None) -> AsyncIterator[None]:
        """Do something until the deadline, such as "signing in"; `taken` is what its duration is told as, if it succeeds.

        Raises `Ended` for all that `failure_of` knows.
        """
        self.doing = doing
        began = perf_counter()
        try:
            async with asyncio.timeout_at(self.deadline):
                yield
        except (OSError, EOFError) as error:
            raise self.failure_of(error) from error
        if taken:
            self.took(taken, perf_counter() - began)

    def took(self, taken: Taken, seconds: float) -> None:
        """Note what a phase took, for those that are measured elsewhere."""
        self._taken[taken] = _ms(seconds)

    @property
    def times(self) -> Times:
        """What has been taken so far."""
        return Times(**self._taken, total_ms=_ms(perf_counter() - self._began))

    def failure_of(self, error: Wrong) -> Ended:
        """Return the end that an error of the network means, in the phase that is under way. Own trouble leaves the service unjudged."""
        if isinstance(error, TimeoutError) and error.errno is None:
            return self.failure(ErrorType.TIMEOUT, f"not done within {self.target.timeout_ms} ms")
        if isinstance(error, ssl.SSLCertVerificationError):
            return Ended(failed(ErrorType.TLS_ERROR, _certificate_words(error), times=self.times))
        if isinstance(error, EOFError | ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return self.failure(ErrorType.CONNECTION_ERROR, "connection closed")
        if isinstance(error, ssl.SSLError):
            return self.failure(ErrorType.TLS_ERROR, (error.reason or "TLS failed").replace("_", " ").lower())
        if error.errno in OWN_TROUBLE:
            return Ended(not_looked(OWN_TROUBLE[error.errno]))
        # asyncio raises ConnectionResetError and the like without the system's number, too
        fallback = "connection reset" if isinstance(error, ConnectionError) else "connection failed"
        return self.failure(ErrorType.CONNECTION_ERROR, OS_WORDS.get(error.errno or 0, fallback))

    def failure(self, error_type: ErrorType, words: str) -> Ended:
        """Return the end of a check that failed in the phase that is under way; the phase is added to the words."""
        return Ended(failed(error_type, f"{words}, while {self.doing}", times=self.times))

    def unwell(
        self, error_type: ErrorType, words: str, *, facts: Facts = NO_FACTS, details: Mapping[str, Any] | None = None
    ) -> Measurement:
        """Return the measurement of a service that answered, and not well: in these words, with what it took."""
        times = self.times
        return Measurement(
            Outcome.FAILED, times.total_ms, error_type=error_type, error_message=words, times=times, facts=facts, details=details or {}
        )

    def healthy(self, *, facts: Facts = NO_FACTS, details: Mapping[str, Any] | None = None) -> Measurement:
        """Return the measurement of a service that answered as it should."""
        times = self.times
        return Measurement(Outcome.HEALTHY, times.total_ms, times=times, facts=facts, details=details or {})


async def talking(target: Target, tools: Tools, ask: Callable[[Talk, Tools], Awaitable[Measurement]]) -> Measurement:
    """Return what asking comes to, or how it ended early."""
    try:
        return await ask(Talk(target), tools)
    except Ended as ended:
        return ended.measurement


@lru_cache(maxsize=256)
def trusting(ca_file: str, own_authorities: str = "", *, verify: bool = True, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return what TLS clients need: the authorities to trust, `own_authorities` (PEM) instead of the file's where there are any.

    Kept, because reading the authorities costs more than a check: nobody may add to it. `protocols` are offered by ALPN (RFC 7301).
    Raises `Ended` for authorities that cannot be read: the service is not to blame for them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols(protocols)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if own_authorities:
            context.load_verify_locations(cadata=own_authorities)
        else:
            context.load_verify_locations(cafile=ca_file)
    except OSError as error:
        raise Ended(not_looked("the certificate authorities to trust cannot be read")) from error
    return context


def _certificate_words(error: ssl.SSLCertVerificationError) -> str:
    """Return OpenSSL's words; for another name's certificate those of curl, which HTTP checks give."""
    if error.verify_code not in {HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH}:
        return error.verify_message
    name = error.verify_message.partition("'")[2].rpartition("'")[0]
    kind = "hostname" if error.verify_code == HOSTNAME_MISMATCH else "IPv6 address" if ":" in name else "IPv4 address"
    return f"SSL: no alternative certificate subject name matches target {kind} '{name}'"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)

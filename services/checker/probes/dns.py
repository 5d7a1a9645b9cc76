"""DNS checks: one question to one resolver (RFC 1035), and what it answers."""

import asyncio
import random
import socket
import struct
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver
import dns.reversename
from dns.rdtypes.ANY.TXT import TXT
from pydantic import Field, field_validator

from services.checker.domain.hosts import literal
from services.checker.domain.kinds import Flaw, Kind, Source
from services.checker.domain.target import Facts, Measurement, Target, not_looked
from services.checker.probes.dial import connect_any
from services.checker.probes.names import Way
from services.checker.probes.options import Options, reader
from services.checker.probes.talk import Ended, Talk, talking, timed
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome

ENDPOINT = "dns://name"
PORT = 53
ASK_AGAIN_S = 1.0
"""A datagram may be lost: the question is repeated."""
PAYLOAD = 1232
"""The size of datagrams that pass everywhere: DNS Flag Day 2020."""
MAX_DATAGRAM = 65_535
MAX_ANSWERS = 20
"""How many are told on."""


class DnsOptions(Options):
    """What is asked, whom, and what is expected."""

    record_type: Literal["A", "AAAA", "CNAME", "MX", "TXT", "NS", "SOA", "SRV", "CAA", "PTR"] = "A"
    """The type of record to ask for. PTR takes an address for a name, as in dns://192.0.2.1."""
    resolver: str | None = Field(default=None, max_length=60)
    """Address of the resolver to ask, as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53, subject to the policy of addresses; null: \
those of the checker's own system, whatever their addresses are."""
    transport: Literal["udp", "tcp"] = "udp"
    """How to ask. An answer that is too long for UDP is fetched by TCP in any case."""
    expected: tuple[Annotated[str, Field(min_length=1, max_length=500)], ...] = Field(default=(), max_length=50)
    """Values that must be among the answers, such as 192.0.2.1 or "10 mail.example.com"; empty: any answer will do."""
    expected_match: Literal["any", "all"] = "any"
    """Whether any of the expected values is enough, or all must be there."""

    @field_validator("resolver")
    @classmethod
    def _is_address(cls, resolver: str | None) -> str | None:
        if resolver is not None:
            _place(resolver)
        return resolver

    @cached_property
    def place(self) -> tuple[str, int] | None:
        """Address and port of the resolver, or None for the system's."""
        return _place(self.resolver) if self.resolver is not None else None

    def met_by(self, answers: tuple[str, ...]) -> bool:
        """Say whether the answers are what is expected. Case and the last dot of names do not count."""
        found = {_alike(answer) for answer in answers}
        enough = all if self.expected_match == "all" else any
        return not self.expected or enough(_alike(value) in found for value in self.expected)


def _place(resolver: str) -> tuple[str, int]:
    """Return address and port. Raises `ValueError`."""
    try:
        return str(ip_address(resolver)), PORT
    except ValueError:
        pass
    try:
        parts = urlsplit(f"dns://{resolver}")
        plain = parts.netloc == resolver and "@" not in resolver and parts.port != 0
        if plain:
            return str(ip_address(parts.hostname or "")), parts.port or PORT
    except ValueError:
        pass
    message = "must be an address, and a port after a colon if it is not 53, as in 192.0.2.53:5353"
    raise ValueError(message)


def _alike(value: str) -> str:
    return value.strip().rstrip(".").lower()


def _flaws(url: str, options: object) -> list[Flaw]:
    parts = urlsplit(url)
    if parts.port is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        return [Flaw("endpoint_url", f"must be {ENDPOINT}")]
    try:
        _question(url, options.record_type if isinstance(options, DnsOptions) else "A")
    except (dns.exception.DNSException, UnicodeError):
        return [Flaw("endpoint_url", "has a host that is no name")]
    return []


KIND = Kind(
    "dns",
    "DNS",
    ("dns",),
    ENDPOINT,
    reader(DnsOptions),
    DnsOptions.model_json_schema(),
    # The name is asked for, never connected to.
    needs_host=False,
    sources={
        **timed("connect", "first_byte"),
        "answers": Source("texts"),
        "answer_count": Source("number"),
        "ttl": Source("number"),
    },
    flaws=_flaws,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Ask for a name once. Resolvers of the system are asked in turn, until one has an answer, of whatever sort."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: DnsOptions = talk.target.options
    question = _question(talk.target.endpoint_url, options.record_type)
    if options.place is not None:
        refusal = tools.rules.refusal(options.place[0])
        if refusal:
            raise Ended(not_looked(refusal))
        return _judged(talk, await _answer(talk, options.place, question, options.transport, talk.deadline), options)
    places = _of_system()
    loop = asyncio.get_running_loop()
    last = Ended(not_looked("this checker has no resolver"))
    for number, place in enumerate(places):
        share = (talk.deadline - loop.time()) / (len(places) - number)
        try:
            return _judged(talk, await _answer(talk, place, question, options.transport, loop.time() + share), options)
        except Ended as ended:
            last = ended
    if last.measurement.error_type is ErrorType.TIMEOUT or last.measurement.outcome is Outcome.UNKNOWN:
        raise last
    # What the system's own resolver cannot do says nothing of the name.
    raise Ended(not_looked("this checker's resolver failed")) from last


def _of_system() -> list[tuple[str, int]]:
    try:
        return [(str(server), PORT) for server in dns.resolver.Resolver().nameservers]
    except dns.resolver.NoResolverConfiguration:
        raise Ended(not_looked("this checker has no resolver")) from None


def _question(url: str, record_type: str) -> dns.message.QueryMessage:
    """Return the question. Raises `dns.exception.DNSException`, and `UnicodeError` for what is no name."""
    host = urlsplit(url).hostname or ""
    address = literal(host)
    name = dns.reversename.from_address(str(address)) if address is not None and record_type == "PTR" else dns.name.from_text(host)
    return dns.message.make_query(name, record_type, use_edns=0, payload=PAYLOAD, id=random.SystemRandom().getrandbits(16))


async def _answer(
    talk: Talk, place: tuple[str, int], question: dns.message.QueryMessage, transport: str, deadline: float
) -> dns.message.Message:
    """Return what a resolver answers by a moment. Raises `Ended`."""
    if transport == "udp":
        answer = await _by_datagram(talk, place, question, deadline)
        if not answer.flags & dns.flags.TC:
            return answer
    return await _by_stream(talk, place, question, deadline)


async def _by_datagram(talk: Talk, place: tuple[str, int], question: dns.message.QueryMessage, deadline: float) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    async with talk.phase("waiting for the answer", "first_byte_ms"), asyncio.timeout_at(deadline):
        family, address = _way(place)
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as connection:
            connection.setblocking(False)
            # A connected socket hears nobody else, and hears of a refusal.
            connection.connect(address)
            while True:
                await loop.sock_sendall(connection, question.to_wire())
                try:
                    async with asyncio.timeout(ASK_AGAIN_S):
                        return await _heard(talk, connection, question)
                except TimeoutError as error:
                    if error.errno is not None:
                        raise


async def _heard(talk: Talk, connection: socket.socket, question: dns.message.QueryMessage) -> dns.message.Message:
    """Return the first datagram that answers the question; others, such as a late or a forged one, are passed over."""
    loop = asyncio.get_running_loop()
    while True:
        wire = await loop.sock_recv(connection, MAX_DATAGRAM)
        if wire[:2] == question.id.to_bytes(2, "big"):
            answer = _read(talk, wire)
            if question.is_response(answer):
                return answer


async def _by_stream(talk: Talk, place: tuple[str, int], question: dns.message.QueryMessage, deadline: float) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    async with talk.phase("connecting", "connect_ms"), asyncio.timeout_at(deadline):
        connection, _address = await connect_any((_way(place),), deadline)
    with closing(connection):
        async with talk.phase("waiting for the answer", "first_byte_ms"), asyncio.timeout_at(deadline):
            wire = question.to_wire()
            await loop.sock_sendall(connection, struct.pack("!H", len(wire)) + wire)
            first = await _exactly(connection, 2)
        async with talk.phase("reading the answer"), asyncio.timeout_at(deadline):
            answer = _read(talk, await _exactly(connection, int.from_bytes(first, "big")))
            if not question.is_response(answer):
                raise talk.failure(ErrorType.DNS_ERROR, "the answer is to another question")
            return answer


async def _exactly(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes. Raises `EOFError` and `OSError`."""
    read = b""
    while len(read) < size:
        came = await asyncio.get_running_loop().sock_recv(connection, size - len(read))
        if not came:
            raise EOFError
        read += came
    return read


def _way(place: tuple[str, int]) -> Way:
    return (socket.AF_INET6 if ":" in place[0] else socket.AF_INET), place


def _read(talk: Talk, wire: bytes) -> dns.message.Message:
    try:
        return dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        raise talk.failure(ErrorType.DNS_ERROR, "the answer is not DNS") from None


_WORDS = {
    dns.rcode.NXDOMAIN: "name does not exist",
    dns.rcode.SERVFAIL: "the resolver failed (SERVFAIL)",
    dns.rcode.REFUSED: "the resolver refused (REFUSED)",
}


@dataclass(frozen=True, slots=True)
class _Records:
    answers: tuple[str, ...]
    ttl: int


def _judged(talk: Talk, answer: dns.message.Message, options: DnsOptions) -> Measurement:
    """Return what an answer means."""
    code = answer.rcode()
    if code is not dns.rcode.NOERROR:
        words = _WORDS.get(code, f"the resolver answered {dns.rcode.to_text(code)}")
        return talk.unwell(ErrorType.DNS_ERROR, words)
    records = _records(answer)
    if records is None:
        return talk.unwell(ErrorType.DNS_ERROR, "no such record")
    facts = Facts(
        body="\n".join(records.answers).encode(),
        values={"answers": records.answers, "answer_count": len(records.answers), "ttl": records.ttl},
    )
    details = {"answers": list(records.answers[:MAX_ANSWERS]), "ttl": records.ttl}
    if not options.met_by(records.answers):
        return talk.unwell(ErrorType.ASSERTION_FAILED, "the answers are not what was expected", facts=facts, details=details)
    return talk.healthy(facts=facts, details=details)


def _records(answer: dns.message.Message) -> _Records | None:
    """Return the records of the type that was asked for, at the end of whatever aliases lead there."""
    if not isinstance(answer, dns.message.QueryMessage):
        return None
    try:
        chain = answer.resolve_chaining()
    except dns.exception.DNSException:
        return None
    if chain.answer is None:
        return None
    return _Records(tuple(sorted(_text(one) for one in chain.answer)), chain.minimum_ttl)


def _text(record: dns.rdata.Rdata) -> str:
    """Return a record's data as people write it: text without its quotes, names without the last dot."""
    if isinstance(record, TXT):
        return b"".join(record.strings).decode(errors="replace")
    text = record.to_text()
    return text if record.rdtype == dns.rdatatype.CAA else " ".join(part.rstrip(".") or "." for part in text.split(" "))

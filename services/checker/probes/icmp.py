"""ICMP (ping) checks: echo requests, how many of them were answered, and how fast (RFC 792, RFC 4443)."""

import asyncio
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from icmplib import AsyncSocket, ICMPRequest, ICMPv4Socket, ICMPv6Socket  # type: ignore[import-untyped]  # no type information
from icmplib.exceptions import (  # type: ignore[import-untyped]  # no type information
    ICMPSocketError,
    SocketPermissionError,
    TimeoutExceeded,
)
from icmplib.utils import unique_identifier  # type: ignore[import-untyped]  # no type information
from pydantic import Field

from services.checker.domain.kinds import Flaw, Kind, Source
from services.checker.domain.target import Facts, Measurement, Target, not_looked
from services.checker.probes.dial import resolve
from services.checker.probes.options import Options, reader
from services.checker.probes.talk import Ended, Talk, talking, timed
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome

ENDPOINT = "icmp://host"
NOT_PERMITTED = "this checker may send no ICMP: have net.ipv4.ping_group_range hold its group, or give it CAP_NET_RAW"
ECHO_REPLY, ECHO_REPLY_6 = 0, 129
UNREACHABLE, UNREACHABLE_6 = 3, 1


class IcmpOptions(Options):
    """How many echo requests are sent, how fast and how large.

    Some of them unanswered is no failure but a matter for an assertion on `loss`, a percentage; all unanswered is a timeout. The response
    time is the mean of the round trips.
    """

    packets: int = Field(default=3, ge=1, le=20)
    """How many echo requests are sent, as far as the timeout leaves time for them."""
    interval_ms: int = Field(default=200, ge=10, le=5_000)
    """Milliseconds from one to the next."""
    size: int = Field(default=56, ge=0, le=1_400)
    """Bytes that each carries."""


def _flaws(url: str, _options: object) -> list[Flaw]:
    parts = urlsplit(url)
    strange = parts.port is not None or parts.path not in {"", "/"} or parts.query or parts.fragment
    return [Flaw("endpoint_url", f"must be {ENDPOINT}")] if strange else []


KIND = Kind(
    "icmp",
    "ICMP (ping)",
    ("icmp",),
    ENDPOINT,
    reader(IcmpOptions),
    IcmpOptions.model_json_schema(),
    sources={**timed("name_lookup"), "loss": Source("number"), "round_trip": Source("number", ("min", "avg", "max"))},
    flaws=_flaws,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Ping a target once. The response time is the mean of the round trips."""
    return await talking(target, tools, _ask)


@dataclass(slots=True)
class _Echoes:
    """What was sent when (by sequence number), how long each answer took, and the last sign that there is no way."""

    version_6: bool
    sent: dict[int, float] = field(default_factory=dict)
    took_ms: dict[int, float] = field(default_factory=dict)
    unreachable: bool = False


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: IcmpOptions = talk.target.options
    found = await resolve(talk, tools)
    talk.doing = "waiting for the answer"
    connection, address = _open(talk, found.addresses)
    with connection:
        echoes = await _exchange(talk, connection, address, options)
    if echoes.took_ms:
        return _answered(talk, echoes)
    if echoes.unreachable:
        raise talk.failure(ErrorType.CONNECTION_ERROR, "no route to the host")
    raise talk.failure_of(TimeoutError())


def _open(talk: Talk, addresses: tuple[str, ...]) -> tuple[Any, str]:
    """Return a socket that hears only the first address that there is a way to."""
    ended: Ended | None = None
    for address in addresses:
        made = ICMPv6Socket if ":" in address else ICMPv4Socket
        try:
            opened = _permitted(made)
        except ICMPSocketError as error:
            ended = _trouble(talk, error)
            continue
        try:
            opened.sock.connect((address, 0))
        except OSError as error:
            opened.close()
            ended = talk.failure_of(error)
        else:
            return AsyncSocket(opened), address
    raise ended or Ended(not_looked("no address"))


def _permitted(made: Any) -> Any:  # noqa: ANN401  # icmplib has no type information
    """Open a socket of the kind that everybody may have, where the kernel lets this group have it, or else a raw one."""
    try:
        return made(privileged=False)
    except SocketPermissionError:
        pass
    try:
        return made(privileged=True)
    except SocketPermissionError:
        raise Ended(not_looked(NOT_PERMITTED)) from None


def _trouble(talk: Talk, error: ICMPSocketError) -> Ended:
    """Return what an error of icmplib means: it keeps the system's own as context only."""
    cause = error.__context__
    return talk.failure_of(cause if isinstance(cause, OSError) else OSError())


async def _exchange(talk: Talk, connection: Any, address: str, options: IcmpOptions) -> _Echoes:  # noqa: ANN401  # icmplib's
    """Send at the interval, and listen until all are answered or the time is over."""
    loop = asyncio.get_running_loop()
    echoes = _Echoes(version_6=":" in address)
    identifier = unique_identifier()
    due = loop.time()
    for sequence in range(1, options.packets + 1):
        await _listen(talk, connection, echoes, identifier, until=due, all_sent=False)
        if loop.time() >= talk.deadline:
            break
        request = ICMPRequest(address, identifier, sequence, payload_size=options.size)
        echoes.sent[sequence] = perf_counter()
        try:
            connection.send(request)
        except ICMPSocketError as error:
            raise _trouble(talk, error) from error
        identifier = request.id  # the kernel's own choice on an unprivileged socket
        due += options.interval_ms / 1000
    await _listen(talk, connection, echoes, identifier, until=talk.deadline, all_sent=True)
    return echoes


async def _listen(talk: Talk, connection: Any, echoes: _Echoes, identifier: int, *, until: float, all_sent: bool) -> None:  # noqa: ANN401  # icmplib's
    """Take answers until a moment, or until none is missing of those that were sent."""
    loop = asyncio.get_running_loop()
    until = min(until, talk.deadline)
    while (left := until - loop.time()) > 0 and not (all_sent and len(echoes.took_ms) == len(echoes.sent)):
        try:
            reply = await connection.receive(timeout=left)
        except TimeoutExceeded:
            return
        except ICMPSocketError as error:
            raise _trouble(talk, error) from error
        if reply.id != identifier or reply.sequence not in echoes.sent:
            continue
        if reply.type == (ECHO_REPLY_6 if echoes.version_6 else ECHO_REPLY):
            echoes.took_ms.setdefault(reply.sequence, (perf_counter() - echoes.sent[reply.sequence]) * 1000)
        elif reply.type == (UNREACHABLE_6 if echoes.version_6 else UNREACHABLE):
            echoes.unreachable = True


def _answered(talk: Talk, echoes: _Echoes) -> Measurement:
    took = tuple(echoes.took_ms.values())
    trips = {"min": round(min(took), 3), "avg": round(sum(took) / len(took), 3), "max": round(max(took), 3)}
    loss = round(100 * (1 - len(took) / len(echoes.sent)), 1)
    return Measurement(
        Outcome.HEALTHY,
        response_time_ms=trips["avg"],
        times=talk.times,
        facts=Facts(values={"loss": loss, "round_trip": trips}),
        details={"loss": loss, "round_trip_ms": trips["avg"]},
    )

"""TCP checks: a connection that opens within the time is healthy; by choice something is said over it, and something answered."""

import asyncio
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from services.checker.domain.kinds import Kind, Source
from services.checker.domain.target import Facts, Measurement, Target
from services.checker.probes.dial import dial
from services.checker.probes.expect import MAX_ANSWER_BYTES, NOT_AS_EXPECTED, Saying
from services.checker.probes.options import reader
from services.checker.probes.talk import Ended, Talk, talking, timed
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType

if TYPE_CHECKING:
    import socket

GATHER_S = 0.01
"""How long an answer that is not yet what was expected is let grow before it is looked at again: drips of a byte would cost too much."""


class TcpOptions(Saying):
    """What is said over the connection and expected of the answer; without either, the connection is all that is checked."""


KIND = Kind(
    "tcp",
    "TCP",
    ("tcp",),
    "tcp://host:port",
    reader(TcpOptions),
    TcpOptions.model_json_schema(),
    needs_port=True,
    sources={**timed("name_lookup", "connect", "first_byte"), "message": Source("text")},
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Connect to a target once."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    options: TcpOptions = talk.target.options
    way = await dial(talk, tools)
    with closing(way.connection) as connection:
        if options.said:
            async with talk.phase("sending"):
                await asyncio.get_running_loop().sock_sendall(connection, options.said)
        return await _listen(talk, connection, options) if options.listens else talk.healthy()


async def _listen(talk: Talk, connection: "socket.socket", options: TcpOptions) -> Measurement:
    """Read until the answer is what was expected, or can no longer become so."""
    answer = bytearray()
    try:
        async with talk.phase("waiting for the answer", "first_byte_ms"):
            if not await _more(connection, answer):
                raise talk.failure(ErrorType.CONNECTION_ERROR, "connection closed without an answer")
        async with talk.phase("reading the answer"):
            while not options.met_by(bytes(answer)):
                await asyncio.sleep(GATHER_S)
                if not await _more(connection, answer):
                    break
    except Ended as ended:
        raise Ended(replace(ended.measurement, facts=_facts(answer))) from ended
    if not options.met_by(bytes(answer)):
        return talk.unwell(ErrorType.ASSERTION_FAILED, NOT_AS_EXPECTED, facts=_facts(answer))
    return talk.healthy(facts=_facts(answer))


async def _more(connection: "socket.socket", answer: bytearray) -> bool:
    """Add what came to the answer, up to the limit. False if nothing more will."""
    room = MAX_ANSWER_BYTES - len(answer)
    came = await asyncio.get_running_loop().sock_recv(connection, room) if room else b""
    answer += came
    return bool(came)


def _facts(answer: bytearray) -> Facts:
    body = bytes(answer)
    truncated = len(body) == MAX_ANSWER_BYTES
    return Facts(body=body, truncated=truncated, values={"message": body.decode(errors="replace")} if body else {})

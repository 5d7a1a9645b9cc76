"""TCP checks: a connection that opens within the time is healthy. Nothing is said over it."""

from services.checker.domain.kinds import Kind
from services.checker.domain.target import Measurement, Target
from services.checker.probes.dial import dial
from services.checker.probes.options import NoOptions, reader
from services.checker.probes.talk import Talk, talking
from services.checker.probes.tools import Tools

KIND = Kind("tcp", "TCP", ("tcp",), "tcp://host:port", reader(NoOptions), NoOptions.model_json_schema(), needs_port=True)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Connect to a target once."""
    return await talking(target, tools, _ask)


async def _ask(talk: Talk, tools: Tools) -> Measurement:
    (await dial(talk, tools)).connection.close()
    return talk.healthy()

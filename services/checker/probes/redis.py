"""Redis and Valkey checks."""

from services.checker.domain.kinds import Kind
from services.checker.domain.target import Measurement, Target
from services.checker.probes.options import NoOptions, reader
from services.checker.probes.tools import Tools

KIND = Kind(
    "redis",
    "Redis and Valkey",
    ("redis", "rediss"),
    "redis://host/number",
    reader(NoOptions),
    NoOptions.model_json_schema(),
    needs_port=False,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Check a target once."""
    raise NotImplementedError

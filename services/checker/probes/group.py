"""Group of services checks."""

from services.checker.domain.kinds import Kind
from services.checker.domain.target import Measurement, Target
from services.checker.probes.options import NoOptions, reader
from services.checker.probes.tools import Tools

KIND = Kind(
    "group",
    "Group of services",
    ("group",),
    "group://name",
    reader(NoOptions),
    NoOptions.model_json_schema(),
    needs_port=False,
    needs_host=False,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Check a target once."""
    raise NotImplementedError

"""Push (the job reports itself) checks."""

from services.checker.domain.kinds import Kind
from services.checker.domain.target import Measurement, Target
from services.checker.probes.options import NoOptions, reader
from services.checker.probes.tools import Tools

KIND = Kind(
    "push",
    "Push (the job reports itself)",
    ("push",),
    "push://name",
    reader(NoOptions),
    NoOptions.model_json_schema(),
    needs_port=False,
    needs_host=False,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Check a target once."""
    raise NotImplementedError

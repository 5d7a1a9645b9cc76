"""gRPC health checks."""

from services.checker.domain.kinds import Kind
from services.checker.domain.target import Measurement, Target
from services.checker.probes.options import NoOptions, reader
from services.checker.probes.tools import Tools

KIND = Kind(
    "grpc",
    "gRPC health",
    ("grpc", "grpcs"),
    "grpc://host:port or grpcs://host:port",
    reader(NoOptions),
    NoOptions.model_json_schema(),
    needs_port=True,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Check a target once."""
    raise NotImplementedError

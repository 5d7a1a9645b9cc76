"""MySQL and MariaDB checks."""

from services.checker.domain.kinds import Kind
from services.checker.domain.target import Measurement, Target
from services.checker.probes.options import NoOptions, reader
from services.checker.probes.tools import Tools

KIND = Kind("mysql", "MySQL and MariaDB", ("mysql",), "mysql://host/database", reader(NoOptions), NoOptions.model_json_schema())


async def probe(target: Target, tools: Tools) -> Measurement:
    """Check a target once."""
    raise NotImplementedError

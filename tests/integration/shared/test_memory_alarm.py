"""Point 1 for real: a broker under a memory alarm takes nothing, and says nothing of it to a publish."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.ops import servers
from infra.ops.processes import ProcessId
from infra.ops.servers import Server
from shared.health import Health
from shared.messaging import NotConfirmed, open_publisher
from tests.integration.shared.facts import fact, outgoing
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    """A broker of the test's own: an alarm stops every publisher of a server."""
    if os.environ.get("SLA_TEST_SERVERS", "local") == "docker":
        pytest.skip("raises the alarm with the installed server's rabbitmqctl")
    try:
        yield servers.start_all(tmp_path, ["rabbitmq"], durable=False)["rabbitmq"]
    finally:
        servers.stop_all(tmp_path, ["rabbitmq"], graceful=False)


def set_memory_limit(broker: Server, limit: str) -> None:
    """Set the broker's memory high watermark by its own tool, in its own environment."""
    pid = ProcessId.parse(broker.processes[0]).pid
    raw = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    environment = dict(line.decode().split("=", 1) for line in raw if b"=" in line)
    tool = shutil.which("rabbitmqctl", path=f"/usr/lib/rabbitmq/bin:{os.environ['PATH']}")
    assert tool is not None
    subprocess.run([tool, "set_vm_memory_high_watermark", "absolute", limit], env=environment, check=True, capture_output=True, timeout=60)


async def test_point_1_publishing_under_a_memory_alarm_is_bounded_and_goes_on_afterwards(broker: Server) -> None:
    """Seen red without asyncio.timeout in `publish`: hung until the test's own bound."""
    async with open_publisher(broker.url("%2F"), name="test", health=Health("test"), timeout_s=1) as publisher:
        await publisher.connected.wait()
        await publisher.publish(outgoing(fact(1)))
        await asyncio.to_thread(set_memory_limit, broker, "1MB")
        began = time.monotonic()
        async with asyncio.timeout(8):
            with pytest.raises(NotConfirmed):
                await publisher.publish(outgoing(fact(2)))
        assert time.monotonic() - began < 2
        await asyncio.to_thread(set_memory_limit, broker, "1GB")

        async def published() -> bool:
            try:
                await publisher.publish(outgoing(fact(2)))
            except NotConfirmed:
                return False
            return True

        await until(published, within_s=15, what="a publish after the alarm")

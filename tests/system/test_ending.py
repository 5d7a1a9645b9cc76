"""A process ends in time after SIGTERM, whatever its threads are doing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

STUCK = """
import asyncio, sys, time
from shared.runtime import run
from shared.settings import ServiceSettings

async def main(stack, health):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    print("stuck", flush=True)

run("stuck", ServiceSettings(database_url="postgresql://x", broker_url="amqp://x", health_port=0), main)
"""


def test_a_hanging_name_lookup_does_not_keep_a_process_from_ending() -> None:
    """A thread of the loop's executor sleeps for a minute. Seen red with sys.exit in place of os._exit: it waited for the thread."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"stuck\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - begun < 5
    finally:
        process.kill()
        process.stdout.close()

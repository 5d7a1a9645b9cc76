"""The process that draws PDF: beside the gateway's own, and gone with it, however that ends."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from services.gateway.cache import open_cache
from services.gateway.web.reports.content import Content, content
from services.gateway.web.reports.drawing import pdf
from services.gateway.web.reports.press import Press, open_press
from tests.integration.gateway import past
from tests.waiting import until

pytestmark = pytest.mark.slow

DIES = """
import asyncio, os, signal
from services.gateway.cache import open_cache
from services.gateway.web.reports.press import Press, open_press
from tests.integration.gateway.test_press import told

async def main():
    async with open_cache("redis://127.0.0.1:1", name="test") as cache, open_press(cache) as press:
        await press.pdf(told())
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":  # the press imports it, too
    asyncio.run(main())
"""


def told() -> Content:
    """Return what a report says."""
    return content(past.report(), language="en", names={}, most_rows=1000)


def children(of: int) -> set[int]:
    """Return the processes that another one began."""
    return {int(one) for one in Path(f"/proc/{of}/task/{of}/children").read_text(encoding="utf-8").split()}


async def test_a_report_is_drawn_beside_and_kept(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without `put`, with a press that draws in a thread, and with one that does not replace a process that was killed."""
    async with open_cache(redis_url, name="test") as cache:
        before = children(os.getpid())
        async with open_press(cache) as press:
            drawn = await press.pdf(told())
            assert drawn == pdf(told()), "the same file, whoever draws it"
            mine = _workers(before)
            assert mine
            with monkeypatch.context() as patch:
                patch.delattr(Press, "_draw")
                assert await press.pdf(told()) == drawn, "kept"
            for one in mine:
                os.kill(one, signal.SIGKILL)
            other = content(past.report(), language="ko", names={}, most_rows=1000)
            assert await press.pdf(other) == pdf(other), "by another process"
        assert not _workers(before), "the press is gone"


async def test_it_is_gone_when_the_gateway_was_killed(tmp_path: Path) -> None:
    """Seen red without the thread that waits for the parent: the process waits for work for ever."""
    script = tmp_path / "dies.py"
    script.write_text(DIES, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "PRESS_OF": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), env=env)
    assert await process.wait() == -signal.SIGKILL

    async def gone() -> bool:
        return not [one for one in _everybody() if f"PRESS_OF={tmp_path}" in _read(one, "environ")]

    await until(gone, within_s=10, what="nobody is left of it")


def _workers(before: set[int]) -> set[int]:
    """Return who was begun since, but for Python's own tracker of what processes share."""
    return {one for one in children(os.getpid()) - before if "resource_tracker" not in _read(one, "cmdline")}


def _everybody() -> list[int]:
    return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""

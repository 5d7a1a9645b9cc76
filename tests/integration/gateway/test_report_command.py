"""`sla-monitor report` as people run it, against a gateway."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from shared.contracts.codes import Role
from tests.integration.gateway import past, rig

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: bytes
    err: str


async def run(url: str, *arguments: str) -> Ran:
    """Run the command as the viewer."""
    env = {**os.environ, "SLA_URL": url, "SLA_USERNAME": Role.VIEWER, "SLA_PASSWORD": rig.PASSWORD}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infra.ops.cli", "report", *arguments),
        cwd=ROOT,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return Ran(process.returncode or 0, out, err.decode())


async def test_a_report_is_written_as_a_file_and_every_mistake_has_its_sentence(
    running: rig.Running, others: rig.World, tmp_path: Path
) -> None:
    others.owners.past.contracts["gold"] = past.contract()
    file = tmp_path / "gold.pdf"
    written = await run(running.url, "gold", "--month", "2026-03", "--format", "pdf", "--language", "ko", "-o", str(file))
    assert (written.code, written.out, written.err) == (0, b"", ""), written
    assert file.read_bytes().startswith(b"%PDF-")
    table = await run(running.url, "gold", "--month", "2026-03", "--format", "csv", "--rows", "outages")
    assert (table.code, len(table.out.splitlines())) == (0, 6), table
    page = await run(running.url, "gold", "--format", "html", "--language", "ko")
    assert (page.code, '<html lang="ko">' in page.out.decode()) == (0, True), page
    day = await run(running.url, "gold", "--first-day", "2026-03-15", "--format", "csv")
    assert (day.code, str(others.owners.past.asked[-1][1].first_day)) == (0, "2026-03-15"), day
    unknown = await run(running.url, "silver", "--format", "csv")
    assert (unknown.code, unknown.err) == (1, "sla-monitor: Not found: no such contract\n"), unknown
    wrong = await run(running.url, "gold", "--month", "March", "--format", "csv")
    assert (wrong.code, "month" in wrong.err) == (2, True), wrong
    nowhere = await run(running.url, "gold", "--month", "2026-03", "-o", str(tmp_path / "absent" / "x.pdf"))
    assert (nowhere.code, "cannot be written" in nowhere.err) == (2, True), nowhere
    away = await run("http://127.0.0.1:1", "gold", "--format", "csv")
    assert (away.code, away.err.startswith("sla-monitor: ")) == (1, True), away

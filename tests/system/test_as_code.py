"""Configuration as code against the running product, with the command as people and CI run it."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet

from tests.product import ROOT, Product, running_product
from tests.servers import Database, Vhost

pytestmark = [pytest.mark.system, pytest.mark.slow]

MONITORS = """\
services:
- id: orders
  name: Orders
  kind: http
  endpoint_url: http://127.0.0.1:1/health
  check_interval: ${INTERVAL:-60000}
  options:
    headers:
      X-Team: shop
    bearer: ${TOKEN}
  assertions:
  - {source: json, property: $.status, comparison: equals, target: ok}
  - {source: response_time, comparison: less_than, target: 500, severity: degraded}
- id: database
  name: Database
  kind: tcp
  endpoint_url: tcp://127.0.0.1:1
  regions: [default]
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Command:
    """`sla-monitor` against a product, in a folder without a local stack."""

    product: Product
    folder: Path

    async def __call__(self, *arguments: str | Path, **env: str) -> Ran:
        """Run it; what is given by name is its environment's."""
        given = {
            **os.environ,
            "SLA_URL": self.product.of("gateway").url,
            "SLA_PASSWORD": self.product.admin_password,
            "SLA_LOCAL_FOLDER": str(self.folder / "no-stack"),
            "TOKEN": "secret-of-orders",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.ops.cli", *map(str, arguments)),
            cwd=ROOT,
            env=given | env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return Ran(process.returncode or 0, out.decode(), err.decode())


async def test_definitions_as_code_from_the_first_plan_to_an_export_that_changes_nothing(
    database: Database, vhost: Vhost, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLA_SECRET_KEYS", Fernet.generate_key().decode())
    file, exported = tmp_path / "monitors.yaml", tmp_path / "exported.yaml"
    file.write_text(MONITORS, encoding="utf-8")
    async with running_product(database, vhost, redis_url, tmp_path) as product:
        run = Command(product, tmp_path)

        planned = await run("apply", file, "--dry-run")
        assert (planned.code, planned.out.splitlines()[-1]) == (0, "Plan: 2 to create, 0 unchanged."), planned
        assert "secret-of-orders" not in planned.out
        assert (await run("apply", file, "--dry-run", "--exit-code")).code == 3
        unasked = await run("apply", file)
        assert (unasked.code, "say --yes" in unasked.err) == (2, True), unasked

        applied = await run("apply", file, "--yes")
        assert (applied.code, applied.out.splitlines()[-2:]) == (0, ["Plan: 2 to create, 0 unchanged.", "Applied."]), applied
        again = await run("apply", file, "--dry-run", "--exit-code")
        assert (again.code, again.out) == (0, "Nothing to do: 2 unchanged.\n"), again

        changed = await run("apply", file, "--yes", INTERVAL="30000")
        assert changed.out.splitlines() == [
            "~ orders",
            "    check_interval: 60000 → 30000",
            "Plan: 1 to change, 1 unchanged.",
            "Applied.",
        ], changed

        export = await run("export", "--output", exported)
        text = exported.read_text(encoding="utf-8")
        assert (export.code, "secret-of-orders" in text, "'********'" in text) == (0, False, True), text
        assert [one["id"] for one in yaml.safe_load(text)["services"]] == ["database", "orders"]
        kept = await run("apply", exported, "--dry-run", "--exit-code", "--prune")
        assert (kept.code, kept.out) == (0, "Nothing to do: 2 unchanged.\n"), kept

        file.write_text(MONITORS[: MONITORS.index("- id: database")], encoding="utf-8")
        pruned = await run("apply", file, "--prune", "--yes", INTERVAL="30000")
        assert pruned.out.splitlines() == ["- database", "Plan: 1 to remove, 1 unchanged.", "Applied."], pruned
        assert [one["id"] for one in yaml.safe_load((await run("export")).out)["services"]] == ["orders"]

        file.write_text(MONITORS.replace("less_than", "lesser").replace("tcp://127.0.0.1:1", "tcp://127.0.0.1"), encoding="utf-8")
        await _what_goes_wrong(run, file)


async def _what_goes_wrong(run: Command, file: Path) -> None:
    """What a person may mend ends with 2 and the line; what they may not, with 1. Nothing is applied."""
    refused = await run("apply", file, "--yes")
    told = [line.replace(str(file), "") for line in refused.err.splitlines()[1:]]
    assert refused.code == 2
    assert [line.split(" must ")[0] for line in told] == [":13: orders: assertions.1.comparison", ":17: database: endpoint_url"], (
        refused.err
    )
    unset = await run("apply", file, "--yes", TOKEN="")
    assert (unset.code, ":10: the environment variable TOKEN is not set" in unset.err) == (2, True), unset
    for env in ({"SLA_URL": "http://127.0.0.1:1"}, {"SLA_PASSWORD": "wrong"}):
        away = await run("export", **env)
        assert (away.code, away.out) == (1, ""), away
        assert away.err.startswith("sla-monitor: "), away
    assert [one["id"] for one in yaml.safe_load((await run("export")).out)["services"]] == ["orders"]
    checked = await run("check", file, "--id", "nobody")
    assert checked.code == 2, checked

"""Contracts, corrections, maintenance and reports through the whole product: what the gateway asks is what its owners answer."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from pypdf import PdfReader

from tests.product import running_product
from tests.servers import Database, Vhost
from tests.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.slow]

SEOUL = ZoneInfo("Asia/Seoul")


async def test_a_report_has_the_digest_of_the_audit_and_tells_of_what_people_did(
    database: Database, vhost: Vhost, redis_url: str, tmp_path: Path
) -> None:
    async with running_product(database, vhost, redis_url, tmp_path) as product, product.signed_in() as http:
        watched = {"id": "watched", "name": "Watched", "kind": "tcp", "endpoint_url": "tcp://127.0.0.1:1", "display_name_ko": "감시 대상"}
        assert (await http.post("/api/v1/services", json=watched)).status_code == 201
        this_month = datetime.now(SEOUL).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        month = (this_month - timedelta(days=1)).replace(day=1)
        promise = {"name": "골드", "target": "99.95", "period": "month", "time_zone": "Asia/Seoul", "services": ["watched"]}

        async def promised() -> bool:  # the aggregator hears of the service by its event
            return (await http.put("/api/v1/sla/contracts/gold", json=promise)).status_code == 200

        await until(promised, within_s=20, what="a contract")
        stretch = {"starts_at": (month + timedelta(days=9)).isoformat(), "ends_at": (month + timedelta(days=9, hours=2)).isoformat()}
        conn = await asyncpg.connect(database.url("aggregator"))
        earlier = month - timedelta(days=1)  # as if it had been watched then
        await conn.execute("update definition_history set since = $1 where service_id = 'watched'", earlier)
        await conn.execute("update service set created_at = $1 where id = 'watched'", earlier)
        await conn.close()
        correction = stretch | {"state": "down", "reason": "The checkers were off; the log of the service says so"}
        made = await http.post("/api/v1/services/watched/corrections", json=correction)
        assert made.status_code == 201, made.text
        exclusion = {"starts_at": stretch["starts_at"], "ends_at": (month + timedelta(days=9, hours=1)).isoformat(), "reason": "Power cut"}
        excluded = await http.post("/api/v1/sla/contracts/gold/exclusions", json=exclusion)
        assert excluded.status_code == 201, excluded.text

        path, asked = "/api/v1/sla/contracts/gold/report", {"month": f"{month:%Y-%m}"}
        window = {"from": month.isoformat(), "to": this_month.isoformat(), "contract": "gold"}
        told: dict[str, Any] = {}

        async def settled() -> bool:  # as soon as nothing waits to be computed; both have to say so while something does
            told["report"] = (await http.get(path, params=asked)).json()
            told["audit"] = (await http.get("/api/v1/services/watched/uptime/audit", params=window)).json()
            ours, theirs = told["report"]["audits"][0], told["audit"]
            if ours["settled"] and theirs["settled"]:
                assert ours["digest"] == theirs["digest"], sorted(name for name in theirs if theirs[name] != ours[name])
            assert told["report"]["settled"] == ours["settled"]
            return bool(ours["settled"] and theirs["settled"])

        await until(settled, within_s=40, what="a report and an audit that nothing waits for")
        report, audit = told["report"], told["audit"]
        assert [one["downtime_minutes"] for one in report["standings"]] == [60.0], report

        paper = await http.get(path, params=asked | {"format": "pdf", "language": "ko"})
        text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(paper.content)).pages)
        for said in (report["digest"], audit["digest"], "Power cut", "감시 대상", "SLA 보고서"):
            assert said.replace(" ", "") in "".join(text.split()), said
        standing = await http.get("/api/v1/sla/contracts/gold/standing")
        assert standing.json()["contract"]["id"] == "gold", standing.text
        assert (await http.get("/api/v1/services/watched/timeline")).json()["intervals"]
        assert (await http.get("/api/v1/services/watched/response-times/series")).status_code == 200
        assert (await http.post("/api/v1/services/watched/dry-run", json={"failure_threshold": 5})).status_code == 200

        soon = datetime.now(UTC) + timedelta(hours=1)
        plan = {
            "title": "Upgrade",
            "services": ["watched"],
            "starts_at": soon.isoformat(),
            "ends_at": (soon + timedelta(hours=1)).isoformat(),
        }
        planned = await http.post("/api/v1/maintenances", json=plan)
        assert planned.status_code == 201, planned.text
        assert [one["title"] for one in (await http.get("/api/v1/status")).json()["maintenances"]] == ["Upgrade"]
        ended = await http.post(f"/api/v1/maintenances/{planned.json()['id']}/end")
        assert ended.json()["status"] == "cancelled", ended.text

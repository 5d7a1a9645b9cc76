"""Statuses of the past with their evidence, on a real database.

Seen red without the interval that began before the time, without the one of no length, with the end of the time counted in, and with
`detected_at` taken from when the next one was found.
"""

from datetime import timedelta

import pytest

from services.aggregator import chronicle
from shared.contracts.codes import Status
from shared.contracts.commands import STATUS_HISTORY
from shared.contracts.history import Period, StatusHistory
from shared.database import Pool
from shared.health import Health
from shared.rpc import Refused, open_client
from tests.integration.aggregator.story import START, at, definition, learn, results, see, service_changes
from tests.integration.aggregator.test_messages import aggregator
from tests.servers import Vhost
from tests.waiting import until

SERVICE = "id-recognition"


async def read(pool: Pool, start: float, end: float, *, service_id: str = SERVICE) -> StatusHistory:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await chronicle.read(conn, Period(service_id=service_id, starts_at=at(start), ends_at=at(end)))


async def an_outage(pool: Pool) -> None:
    """Down from slot 2 up to 4; told of with the second failure and the second success."""
    await learn(pool, definition())
    for slot, sign in enumerate("++--++"):
        await see(pool, sign, first=slot)


async def test_an_outage_of_the_past_is_read_with_its_evidence_and_when_it_was_published(pool: Pool) -> None:
    await an_outage(pool)
    told = {one.version: one for one in await service_changes(pool)}

    found = (await read(pool, 0, 6)).intervals

    assert [(one.status, one.started_at, one.ended_at) for one in found] == [
        (Status.NO_DATA, START, START),
        (Status.OPERATIONAL, START, at(2)),
        (Status.MAJOR_OUTAGE, at(2), at(4)),
        (Status.OPERATIONAL, at(4), None),
    ]
    assert [one.detected_at for one in found] == [told[one.version].detected_at for one in found]
    assert [one.evidence for one in found] == [told[one.version].evidence for one in found]
    assert found[2].detected_at == at(3.5)
    assert [one.id for one in found[2].evidence.checks] == [one.id for one in results("--", first=2)]
    assert (found[2].evidence.first_failed_at, found[2].evidence.confirmed_at) == (at(2), at(3))


@pytest.mark.parametrize(
    ("start", "end", "versions"),
    [(2, 4, [3]), (3, 3.5, [3]), (1, 2, [2]), (1, 2.5, [2, 3]), (4, 5, [4]), (100, 200, [4]), (-5, 0, []), (-5, 0.5, [1, 2])],
)
async def test_what_touches_the_time_is_read_uncut(pool: Pool, start: float, end: float, versions: list[int]) -> None:
    await an_outage(pool)
    found = (await read(pool, start, end)).intervals
    assert [one.version for one in found] == versions
    whole = {one.version: one for one in (await read(pool, 0, 6)).intervals}
    assert all(one == whole[one.version] for one in found)


async def test_what_cannot_be_asked(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without the limit."""
    await an_outage(pool)
    day = timedelta(days=1) / (at(1) - at(0))
    for start, end, service_id, status in ((0, 1, "nobody", 404), (1, 1, SERVICE, 422), (0, 401 * day, SERVICE, 422)):
        with pytest.raises(Refused) as refused:
            await read(pool, start, end, service_id=service_id)
        assert refused.value.problem.status == status
    monkeypatch.setattr(chronicle, "MOST", 3)
    assert len((await read(pool, 0, 4)).intervals) == 3
    with pytest.raises(Refused) as refused:
        await read(pool, 0, 5)
    assert [one.field for one in refused.value.problem.errors] == ["ends_at"]


async def test_it_is_asked_over_the_broker(pool: Pool, vhost: Vhost) -> None:
    await an_outage(pool)
    health = Health("asker")
    async with aggregator(pool, vhost), open_client(vhost.amqp_url, name="asker", health=health) as client:

        async def linked() -> bool:
            return "rpc client" not in await health.reasons()

        await until(linked, within_s=10, what="the asker is connected")
        found = await client.call(STATUS_HISTORY, Period(service_id=SERVICE, starts_at=at(0), ends_at=at(6)))

    assert found == await read(pool, 0, 6)

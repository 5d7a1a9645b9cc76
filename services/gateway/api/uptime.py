"""History of one service: a deep read, asked of the aggregator and kept in Redis for some seconds."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import as_json
from services.gateway.api.deep import epoch_now
from services.gateway.api.services import ServiceId
from services.gateway.live.views import to_json
from shared.contracts.commands import UPTIME_READ, Uptime, UptimeQuery

router = APIRouter()
KEEP_S = 10.0


@router.get("/api/v1/services/{service_id}/uptime")
async def read_uptime(parts: With, _who: Who, service_id: ServiceId, days: Annotated[int, Query(ge=1, le=366)] = 90) -> Response:
    """Return daily records, oldest first, and the uptime over all of them. History outlives a service's removal."""
    key = f"sla:gateway:uptime:{await epoch_now(parts)}:{service_id}:{days}"
    body = await parts.cache.get(key)
    if body is None:
        query = UptimeQuery(service_id=service_id, days=days)  # until today, which is for the aggregator to say
        body = _with_words(await parts.client.call(UPTIME_READ, query, timeout_s=parts.settings.rpc_timeout_s))
        await parts.cache.put(key, body, keep_s=KEEP_S)
    return as_json(body)


def _with_words(uptime: Uptime) -> bytes:
    shape = uptime.model_dump(mode="json")
    for day, record in zip(shape["days"], uptime.days, strict=True):
        day["status_word"] = record.status.word
    return to_json(shape)

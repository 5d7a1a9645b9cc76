"""The read model as bytes, built when somebody asks and something changed, piece by piece: what did not change is not built again."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.gateway.live import projection
from services.gateway.live.readmodel import ReadModel, is_ahead, is_open
from shared.contracts.incidents import Incident
from shared.contracts.services import ServiceDefinition
from shared.contracts.status import ServiceStatus

NOTHING_CONCLUDED: dict[str, Any] = {"evidence": None, "muted_by": None, "previous": None, "previous_since": None}
PUBLIC_RESOLVED = 20
"""How many resolved incidents the public snapshot and the page show."""


def to_json(shape: Any) -> bytes:  # noqa: ANN401  # anything that JSON can say
    """Return compact JSON, UTF-8."""
    return json.dumps(shape, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(slots=True)
class _Pieces:
    """Built pieces by key, each with the values that it was built from."""

    built: dict[Any, tuple[tuple[Any, ...], bytes]] = field(default_factory=dict)

    def get(self, key: Any, sources: tuple[Any, ...], build: Callable[[], Any]) -> bytes:  # noqa: ANN401  # keys of any kind
        have = self.built.get(key)
        if have is not None and all(a is b for a, b in zip(have[0], sources, strict=True)):
            return have[1]
        piece = to_json(build())
        self.built[key] = (sources, piece)
        return piece

    def keep(self, keys: set[Any]) -> None:
        for key in self.built.keys() - keys:
            del self.built[key]


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes ready to send, and their entity tag."""

    body: bytes
    etag: bytes


class Views:
    """Pre-serialised forms of one read model."""

    def __init__(self, model: ReadModel) -> None:
        """Nothing is built before it is asked for."""
        self._model = model
        self._public = _Pieces()
        self._private = _Pieces()
        self._kept: dict[str, tuple[Any, bytes]] = {}

    def ordered_services(self) -> list[ServiceDefinition]:
        """Return the services as people look for them: by the name they know."""
        return sorted(self._model.facts.services.values(), key=lambda one: (one.display_name.casefold(), one.id))

    def public_incidents(self) -> list[Incident]:
        """Return the open incidents and the newest resolved ones."""
        newest = self._model.incidents_newest_first()
        resolved = [one for one in newest if not is_open(one)][:PUBLIC_RESOLVED]
        return [one for one in newest if is_open(one)] + resolved

    def public_data(self) -> bytes:
        """Return the `data` of the public snapshot: services with status, incidents, maintenance ahead, the system."""
        return self._once("public", self._model.revision, self._build_public)

    def private_services(self) -> bytes:
        """Return the JSON list of services as signed-in people see them: definition, status and evidence."""
        return self._once("private", self._model.revision, self._build_private)

    def private_service(self, service_id: str) -> bytes | None:
        """Return one service as signed-in people see it, or None."""
        service = self._model.facts.services.get(service_id)
        return None if service is None else self._private_piece(service)

    def status_document(self, *, offset: int, stale: bool, as_of: str | None) -> Document:
        """Return the answer of GET /api/v1/status."""

        def build() -> bytes:
            head = to_json({"offset": offset, "stale": stale, "as_of": as_of})
            return head[:-1] + b"," + self.public_data()[1:]

        body = self._once("status", (self._model.revision, offset, stale, as_of), build)
        return Document(body, self._once("etag", body, lambda: b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'))

    def _once(self, name: str, state: Any, build: Callable[[], bytes]) -> bytes:  # noqa: ANN401  # whatever the bytes depend on
        have = self._kept.get(name)
        if have is None or have[0] != state:
            have = (state, build())
            self._kept[name] = have
        return have[1]

    def _build_public(self) -> bytes:
        facts = self._model.facts
        services = [self._public_piece(service, facts.statuses.get(service.id)) for service in self.ordered_services()]
        shown = self.public_incidents()
        incidents = [self._public.get(one.id, (one,), lambda one=one: projection.public_incident(one)) for one in shown]  # type: ignore[misc]  # bound in the loop
        ahead = [one for one in self._model.maintenances_by_start() if is_ahead(one)]
        maintenances = [self._public.get(("m", one.id), (one,), lambda one=one: projection.public_maintenance(one)) for one in ahead]  # type: ignore[misc]
        self._public.keep({one.id for one in shown} | {("m", one.id) for one in ahead} | facts.services.keys())
        system = to_json(None if facts.system is None else projection.public_system(facts.system))
        lists = (b",".join(pieces) for pieces in (services, incidents, maintenances))
        return b'{"system":%s,"services":[%s],"incidents":[%s],"maintenances":[%s]}' % (system, *lists)

    def _public_piece(self, service: ServiceDefinition, status: ServiceStatus | None) -> bytes:
        return self._public.get(service.id, (service, status), lambda: projection.service_with_status(service, status))

    def _build_private(self) -> bytes:
        pieces = [self._private_piece(service) for service in self.ordered_services()]
        self._private.keep(set(self._model.facts.services))
        return b"[" + b",".join(pieces) + b"]"

    def _private_piece(self, service: ServiceDefinition) -> bytes:
        status = self._model.facts.statuses.get(service.id)
        return self._private.get(service.id, (service, status), lambda: _private_shape(service, status))

    def private_form(self, service: ServiceDefinition) -> bytes:
        """Return a definition as signed-in people see it, with the status that is known of it."""
        return to_json(_private_shape(service, self._model.facts.statuses.get(service.id)))


def _private_shape(service: ServiceDefinition, status: ServiceStatus | None) -> dict[str, Any]:
    why = None if status is None else status.model_dump(mode="json", include={"evidence", "muted_by", "previous", "previous_since"})
    return service.model_dump(mode="json") | projection.service_with_status(service, status) | (why or NOTHING_CONCLUDED)

"""What leaves for the public. The planted secret stands in every field that is not public."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.live.projection import PROJECTIONS, public_event
from services.gateway.live.readmodel import Answers, ReadModel
from services.gateway.live.views import Views
from shared.contracts.codes import MaintenanceStatus, Status
from shared.contracts.incidents import IncidentOpenedV1, IncidentResolvedV1, IncidentUpdatedV1
from shared.contracts.maintenance import MaintenanceEndedV1, MaintenanceScheduledV1, MaintenanceStartedV1, MaintenanceUpdatedV1
from shared.contracts.registry import PAYLOADS
from shared.contracts.services import ServiceRegisteredV1, ServiceRemovedV1, ServiceUpdatedV1
from shared.contracts.status import ServiceStatusChangedV1
from tests.integration.gateway.past import maintenance as planned
from tests.integration.gateway.rig import NOW, SECRET, definition, event, incident, status_of

MAINTENANCE = (MaintenanceScheduledV1, MaintenanceUpdatedV1, MaintenanceStartedV1, MaintenanceEndedV1)
EVENTS = [
    event(ServiceRegisteredV1(service=definition()), "face-compare", 1),
    event(ServiceUpdatedV1(service=definition()), "face-compare", 1),
    event(ServiceRemovedV1(service=definition(), removed_at=NOW), "face-compare", 1),
    event(ServiceStatusChangedV1(status=status_of()), "face-compare", 1),
    *(event(kind(incident=incident()), "i", 1) for kind in (IncidentOpenedV1, IncidentUpdatedV1, IncidentResolvedV1)),
    *(event(kind(maintenance=planned(created_by=SECRET)), "m", 1) for kind in MAINTENANCE),
]


@pytest.mark.parametrize("one", EVENTS, ids=lambda one: str(one.type))
def test_no_secret_leaves_in_an_event(one: object) -> None:
    """Seen red with `endpoint_url` added to the whitelist, and with the filter on customer visible entries removed."""
    shape = public_event(one)  # type: ignore[arg-type]  # events of several kinds
    assert shape is not None
    text = json.dumps(shape)
    assert SECRET not in text
    assert SECRET.rsplit("/", maxsplit=1)[-1] not in text


def test_every_event_type_is_either_projected_or_not_public_on_purpose() -> None:
    assert {kind.TYPE for kind in PAYLOADS.values()} - {kind.TYPE for kind in PROJECTIONS} == {
        "checks.measured.v1",
        "calls.reported.v1",
        "checker.isolated.v1",  # how our own checkers are is the operators' business: metrics and health say it
        "checker.recovered.v1",
        "sla.burn_rate.v1",  # promises to customers are between both sides
        "sla.budget_exhausted.v1",
        "sla.breached.v1",
    }


def test_no_secret_leaves_in_the_snapshot() -> None:
    model = ReadModel()
    asked = Answers(services=(definition(),), statuses=(status_of(),), incidents=(incident(),), maintenances=(planned(created_by=SECRET),))
    model.mend(asked, before=model.facts.picture())
    data = Views(model).public_data().decode()
    assert SECRET not in data
    assert '"status_word":"operational"' in data
    assert "We look into it." in data


CHANGES = st.lists(
    st.one_of(
        st.builds(
            lambda v, s: event(ServiceStatusChangedV1(status=status_of(status=s, version=v)), "face-compare", v),
            st.integers(1, 6),
            st.sampled_from(Status),
        ),
        st.builds(lambda v: event(ServiceUpdatedV1(service=definition(version=v)), "face-compare", v), st.integers(1, 6)),
        st.builds(lambda v: event(ServiceRemovedV1(service=definition(version=v), removed_at=NOW), "face-compare", v), st.integers(1, 6)),
    ),
    max_size=12,
)


@given(changes=CHANGES)
def test_definitions_do_not_depend_on_the_order_or_number_of_events(changes: list) -> None:  # type: ignore[type-arg]  # events of several kinds
    """Seen red without the versions of what was removed."""
    definitions = [one for one in changes if not isinstance(one.data, ServiceStatusChangedV1)]
    by_version = {one.data.service.version: one for one in definitions}
    unique = list(by_version.values())

    def final(events: list) -> set[str]:  # type: ignore[type-arg]
        model = ReadModel()
        for one in events:
            model.apply(one)
        return set(model.facts.services)

    assert final(unique) == final(unique[::-1]) == final(unique + unique)


def test_the_timeline_is_whole_whatever_the_order() -> None:
    first = incident()
    second = incident(key=first.id, version=2)
    model = ReadModel()
    for one in (second, first, second):
        model.apply(event(IncidentUpdatedV1(incident=one), str(one.id), one.version))
    known = model.facts.incidents[first.id]
    assert known.version == 2
    assert {entry.id for entry in known.updates} == {entry.id for entry in (*first.updates, *second.updates)}


def test_a_maintenance_that_ended_does_not_come_back_by_an_older_event_and_goes_when_its_owner_knows_it_no_more() -> None:
    """Seen red with ended windows forgotten at once, and with those that their owner no longer has kept."""
    announced = planned()
    ended = planned(key=announced.id, version=2, status=MaintenanceStatus.COMPLETED)
    model = ReadModel()
    for one in (ended, announced):
        model.apply(event(MaintenanceUpdatedV1(maintenance=one), str(one.id), one.version))
    assert b'"maintenances":[]' in Views(model).public_data()
    assert not model.mend(Answers(maintenances=()), before=model.facts.picture()), "nobody saw it any more"
    assert not model.facts.maintenances
    model.apply(event(MaintenanceScheduledV1(maintenance=announced), str(announced.id), 1))
    before = model.facts.picture()
    other = planned()
    model.apply(event(MaintenanceScheduledV1(maintenance=other), str(other.id), 1))
    assert model.mend(Answers(maintenances=()), before=before), "clients saw it, and no event took it back"
    assert set(model.facts.maintenances) == {str(other.id)}, "what came meanwhile stays"


def test_an_owner_that_was_set_back_is_right_but_not_against_what_came_meanwhile() -> None:
    model = ReadModel()
    model.apply(event(ServiceRegisteredV1(service=definition(version=9)), "face-compare", 9))
    before = model.facts.picture()
    assert model.mend(Answers(services=(definition(version=3),)), before=before), "clients must begin again"
    assert model.facts.services["face-compare"].version == 3
    before = model.facts.picture()
    model.apply(event(ServiceUpdatedV1(service=definition(version=5)), "face-compare", 5))
    assert not model.mend(Answers(services=(definition(version=4),)), before=before)
    assert model.facts.services["face-compare"].version == 5
    assert model.mend(Answers(services=()), before=model.facts.picture()), "it is gone, and no event said so"
    assert not model.facts.services

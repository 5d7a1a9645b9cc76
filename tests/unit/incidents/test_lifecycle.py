"""When an incident begins, what may happen to it, and when it ends."""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.incidents.domain import lifecycle
from services.incidents.domain.incident import Decision, Entry, Incident, NotAllowed, Step, advanced
from services.incidents.domain.lifecycle import OUTAGES, OVER, Circumstances, Fact, Policy, Service, hear
from shared.contracts.codes import IncidentStatus, Priority, Severity, Status

START = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
O, PO, MO, ND, E = Status.OPERATIONAL, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE, Status.NO_DATA, Status.EMPTY  # noqa: E741  # the codes as everybody knows them
IDENTIFIED, MONITORING, RESOLVED, INVESTIGATING = (
    IncidentStatus.IDENTIFIED,
    IncidentStatus.MONITORING,
    IncidentStatus.RESOLVED,
    IncidentStatus.INVESTIGATING,
)

histories = st.lists(st.sampled_from(Status), min_size=1, max_size=12).map(
    lambda found: [one for index, one in enumerate(found) if index == 0 or found[index - 1] is not one]
)


def fact(status: Status, version: int) -> Fact:
    """Return a status that began `version` minutes after the start."""
    return Fact(status, START + timedelta(minutes=version), version)


@dataclass
class Desk:
    """What the store keeps, in memory: incidents by id, and the newest fact heard."""

    heard: Fact | None = None
    incidents: dict[UUID, Incident] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)

    def open(self) -> list[Incident]:
        return [one for one in self.incidents.values() if one.is_open]

    def covers(self, version: int) -> bool:
        return any((one.first_version or 0) <= version <= (one.last_version or version) for one in self.incidents.values())

    def hear(self, told: Fact, before: Fact | None) -> list[Decision]:
        versions = [*(one.version for one in (told, before) if one is not None), told.version + 1]
        under = Circumstances(Service("id-recognition", "ID Recognition", self.heard), START + timedelta(days=1), Policy())
        assert len(self.open()) <= 1
        found = hear(
            told, before, under, open_incident=next(iter(self.open()), None), covered=[one for one in versions if self.covers(one)]
        )
        for _, group in groupby(found, key=lambda one: one.incident.id):  # as the store does: one statement for each incident
            for decision in group:
                known = self.incidents.get(decision.incident.id)
                assert decision.incident.version == (known.version if known else 0) + 1, (
                    "versions have no gap, and no incident is opened twice"
                )
                self.incidents[decision.incident.id] = decision.incident
            assert len(self.open()) <= 1, "at most one is open"
        self.decisions += found
        if self.heard is None or told.version > self.heard.version:
            self.heard = told
        return found


def told(history: list[Status]) -> list[tuple[Fact, Fact | None]]:
    """Return the events of a history: each status with the one before it."""
    facts = [fact(status, version) for version, status in enumerate(history, start=1)]
    return [(one, facts[index - 1] if index else None) for index, one in enumerate(facts)]


@pytest.mark.parametrize(
    ("history", "steps"),
    [
        ([ND, O], []),
        ([O, MO], [Step.OPENED]),
        ([O, MO, O], [Step.OPENED, Step.RESOLVED]),
        ([O, PO, MO, O], [Step.OPENED, Step.UPDATED, Step.RESOLVED]),
        ([O, MO, PO, O], [Step.OPENED, Step.RESOLVED]),  # severity never falls
        ([O, MO, ND], [Step.OPENED]),  # no data does not resolve
        ([O, MO, ND, MO, O], [Step.OPENED, Step.RESOLVED]),  # nor does it begin another
        ([O, MO, ND, O], [Step.OPENED, Step.RESOLVED]),
        ([O, MO, E], [Step.OPENED, Step.RESOLVED]),
        ([MO, O, MO], [Step.OPENED, Step.RESOLVED, Step.OPENED]),
    ],
)
def test_what_a_history_in_order_leads_to(history: list[Status], steps: list[Step]) -> None:
    desk = Desk()
    for event in told(history):
        desk.hear(*event)

    assert [one.step for one in desk.decisions] == steps


def test_an_incident_says_what_how_bad_since_when_and_how_long() -> None:
    desk = Desk()
    for event in told([O, PO, MO, ND, O]):
        desk.hear(*event)

    opened, escalated, resolved = desk.decisions
    assert (opened.incident.title, opened.incident.severity, opened.incident.priority) == (
        "ID Recognition: partial outage",
        Severity.MEDIUM,
        Priority.P3,
    )
    assert (opened.incident.started_at, opened.incident.affected_services) == (fact(PO, 2).since, ("id-recognition",))
    assert opened.entry.message == "We are investigating a partial outage of ID Recognition."
    assert (escalated.incident.title, escalated.incident.severity, escalated.incident.priority) == (
        "ID Recognition: major outage",
        Severity.CRITICAL,
        Priority.P1,
    )
    assert (resolved.incident.resolved_at, resolved.incident.duration_minutes, resolved.incident.resolved_by) == (
        fact(O, 5).since,
        3,
        "system",
    )
    assert resolved.entry.message == "ID Recognition works again."


@given(histories, st.randoms(use_true_random=False))
def test_at_most_one_incident_is_open_whatever_happens(history: list[Status], chance: random.Random) -> None:
    """Every event may come late, out of order, and again. Seen red with the check of `covered` removed from `hear`."""
    events = told(history)
    arrivals = chance.sample(events * 2, len(events) * 2)
    desk = Desk()
    for event in arrivals:
        desk.hear(*event)  # asserts that at most one is open after each step

    match history[-1]:
        case Status.MAJOR_OUTAGE | Status.PARTIAL_OUTAGE:
            assert len(desk.open()) == 1
        case Status.OPERATIONAL | Status.EMPTY:
            assert desk.open() == []
        case Status.NO_DATA:
            pass  # whether an outage came before the silence may be told too late to know its end; the next `o` ends it


@given(histories, st.integers(0, 10))
def test_two_neighbours_that_change_places_leave_the_same_outages_on_record(history: list[Status], place: int) -> None:
    events = told(history)
    place = min(place, max(len(events) - 2, 0))
    swapped = [*events[:place], *reversed(events[place : place + 2]), *events[place + 2 :]]
    one, other = Desk(), Desk()
    for event in events:
        one.hear(*event)
    for event in swapped:
        other.hear(*event)

    def record(desk: Desk) -> list[tuple[datetime, datetime | None, Severity]]:
        return sorted((one.started_at, one.resolved_at, one.severity) for one in desk.incidents.values())

    assert record(one) == record(other)


@given(histories)
def test_in_order_an_incident_is_open_exactly_while_an_outage_is_not_known_to_be_over(history: list[Status]) -> None:
    desk = Desk()
    out = False
    for event in told(history):
        desk.hear(*event)
        out = True if event[0].status in OUTAGES else False if event[0].status in OVER else out
        assert bool(desk.open()) == out


alerts = st.lists(st.tuples(st.sampled_from(Status), st.booleans()), min_size=1, max_size=12).map(
    lambda found: [one for index, one in enumerate(found) if index == 0 or found[index - 1] != one]
)
"""Statuses, and whether each is muted; a status whose mute ends is told again."""


def told_muted(history: list[tuple[Status, bool]]) -> list[tuple[Fact, Fact | None]]:
    """Return the events of a history; a status that is only told again has the beginning of the former."""
    facts: list[Fact] = []
    for version, (status, muted) in enumerate(history, start=1):
        again = bool(facts) and facts[-1].status is status
        facts.append(replace(fact(status, version), since=facts[-1].since if again else fact(status, version).since, muted=muted))
    return [(one, facts[index - 1] if index else None) for index, one in enumerate(facts)]


@pytest.mark.parametrize(
    ("history", "steps"),
    [
        ([(O, False), (MO, True), (O, False)], []),
        ([(MO, True), (MO, False), (O, False)], [(Step.OPENED, 1), (Step.RESOLVED, 1)]),  # dated back to its beginning
        ([(O, False), (MO, False), (MO, True), (O, True)], [(Step.OPENED, 2), (Step.RESOLVED, 2)]),  # what is open stays, and ends
        ([(MO, False), (MO, True), (MO, False)], [(Step.OPENED, 1)]),
        ([(PO, False), (MO, True)], [(Step.OPENED, 1)]),
        ([(PO, False), (MO, True), (MO, False)], [(Step.OPENED, 1), (Step.UPDATED, 1)]),  # made worse once the mute ended
        ([(PO, True), (MO, True), (ND, False), (O, False)], []),
        ([(MO, True), (ND, False), (MO, False)], [(Step.OPENED, 3)]),
    ],
)
def test_what_is_muted_opens_nothing(history: list[tuple[Status, bool]], steps: list[tuple[Step, int]]) -> None:
    """Nor does it make worse what is open: seen red with a muted outage that escalates."""
    desk = Desk()
    for event in told_muted(history):
        desk.hear(*event)

    assert [(one.step, (one.incident.started_at - START) // timedelta(minutes=1)) for one in desk.decisions] == steps


@given(alerts, st.randoms(use_true_random=False))
def test_in_whatever_order_no_incident_is_opened_by_what_is_muted(history: list[tuple[Status, bool]], chance: random.Random) -> None:
    """Seen red with the predecessor taken for unmuted, with late outages not asked whether they are muted, and with `follow` so."""
    events = told_muted(history)
    desk = Desk()
    for event in chance.sample(events * 2, len(events) * 2):
        desk.hear(*event)

    assert not [one for one in desk.incidents.values() if one.first_version and history[one.first_version - 1][1]]
    status, muted = history[-1]
    if status in OVER:
        assert desk.open() == []
    elif status in OUTAGES and not muted:
        assert len(desk.open()) == 1


def test_an_outage_that_went_on_into_one_on_record_is_no_second_one() -> None:
    """Told last first, as when many are handled at once. Seen red with the version after it not asked for."""
    desk = Desk()
    events = told([O, PO, MO, O])
    for place in (3, 1, 2, 0):
        desk.hear(*events[place])

    assert [one.first_version for one in desk.incidents.values()] == [3]


def an_incident(status: IncidentStatus) -> Incident:
    """Return an incident opened by hand."""
    one = Incident(uuid4(), "Login fails", Severity.HIGH, Priority.P2, ("id-recognition",), START, "kim", status)
    return replace(one, resolved_at=START, duration_minutes=0, resolved_by="kim") if status is RESOLVED else one


def an_entry(status: IncidentStatus) -> Entry:
    """Return what a reporter writes ninety seconds after the start."""
    return Entry(uuid4(), status, "Something.", "lee", START + timedelta(seconds=90))


LEGAL = {
    *((INVESTIGATING, to) for to in IncidentStatus),
    *((MONITORING, to) for to in IncidentStatus),
    *((IDENTIFIED, to) for to in (IDENTIFIED, MONITORING, RESOLVED)),
}


@pytest.mark.parametrize("before", IncidentStatus)
@pytest.mark.parametrize("after", IncidentStatus)
def test_steps_by_hand(before: IncidentStatus, after: IncidentStatus) -> None:
    if (before, after) not in LEGAL:
        with pytest.raises(NotAllowed, match=f"{before} cannot become {after}"):
            advanced(an_incident(before), an_entry(after))
        return

    found = advanced(an_incident(before), an_entry(after)).incident

    assert (found.status, found.version) == (after, 2)
    assert (found.identified_at is not None) == (after in {IDENTIFIED, MONITORING})
    assert (found.duration_minutes, found.resolved_by) == ((1, "lee") if after is RESOLVED else (None, None))


def test_a_service_that_is_removed_ends_its_incident_and_says_so() -> None:
    desk = Desk()
    for event in told([O, MO]):
        desk.hear(*event)
    [incident] = desk.open()

    found = lifecycle.unwatched(
        incident, Service("id-recognition", "ID Recognition", desk.heard), at=START + timedelta(minutes=7), now=START, removed=True
    )

    assert (found.incident.status, found.incident.duration_minutes, found.incident.last_version) == (RESOLVED, 5, 2)
    assert found.entry.message == "ID Recognition was removed and is no longer monitored. This incident is closed."

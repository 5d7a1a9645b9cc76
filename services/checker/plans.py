"""Definitions as code: what is to exist is compared with what does, and every difference is named. Decides; writes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.checker.domain import dependencies
from services.checker.domain.definition import FIELDS, Definition, Rejected
from services.checker.domain.kinds import Flaw
from services.checker.drafts import Terms, accept
from services.checker.secrets import mask
from shared.contracts.commands import FieldChange, PlannedAction, PlannedChange

MOST_FLAWS = 500
"""Named in one refusal; who has more mends these first."""

GROUP = "group"

_MISSING = object()
_BLANK = Definition("", "", "", "")


@dataclass(frozen=True, slots=True)
class Differences:
    """What has to be done: definitions to be saved (new and changed), ids to be removed, and how each service fares, by id."""

    saved: tuple[Definition, ...]
    removed: tuple[str, ...]
    changes: tuple[PlannedChange, ...]
    renamed: tuple[str, ...]


def judge_all(written: Sequence[Mapping[str, Any]], present: Mapping[str, Definition], terms: Terms) -> tuple[list[Definition], list[Flaw]]:
    """Return the definitions, ready to be stored, and every flaw, each field named by its place: "definitions.3.options.method"."""
    accepted: list[Definition] = []
    flaws: list[Flaw] = []
    first_of: dict[str, int] = {}
    for place, values in enumerate(written):
        service_id = values.get("id")
        known = present.get(service_id) if isinstance(service_id, str) else None
        judged = accept(values, terms, known)
        found = list(judged.flaws) if isinstance(judged, Rejected) else []
        if isinstance(service_id, str):
            first = first_of.setdefault(service_id, place)
            if first != place:
                found.append(Flaw("id", f"is the id of definitions.{first} already"))
        flaws += [Flaw(f"definitions.{place}.{flaw.field}", flaw.reason) for flaw in found]
        if isinstance(judged, Definition):
            accepted.append(judged)
    return accepted, flaws


def taken_names(wanted: Sequence[Definition], present: Mapping[str, Definition], *, prune: bool) -> list[Flaw]:
    """Return which names two services would have afterwards."""
    ids = {one.id for one in wanted}
    owners = {} if prune else {one.name: one.id for one in present.values() if one.id not in ids}
    flaws = []
    for place, one in enumerate(wanted):
        owner = owners.setdefault(one.name, one.id)
        if owner != one.id:
            flaws.append(Flaw(f"definitions.{place}.name", f"is the name of {owner} too"))
    return flaws


def unfounded(wanted: Sequence[Definition], present: Mapping[str, Sequence[str]], *, prune: bool) -> list[Flaw]:
    """Return which dependencies lead nowhere or back to where they began. `present`: the dependencies of every service that there is."""
    graph = {**({} if prune else present), **{one.id: one.depends_on for one in wanted}}
    flaws = [
        Flaw(f"definitions.{place}.depends_on", reason)
        for place, one in enumerate(wanted)
        if (reason := dependencies.missing(one.depends_on, graph)) is not None
    ]
    return flaws + _around(wanted, graph, "depends_on")


def circular(wanted: Sequence[Definition], present: Mapping[str, Sequence[str]], *, prune: bool) -> list[Flaw]:
    """Return which groups would be their own members, by way of others: once down, they would stay so. `present`: every group's members."""
    written = {one.id for one in wanted}
    graph = {} if prune else {group: members for group, members in present.items() if group not in written}
    graph |= {one.id: one.options["members"] for one in wanted if one.kind == GROUP}
    return _around(wanted, graph, "options.members")


def _around(wanted: Sequence[Definition], graph: Mapping[str, Sequence[str]], field: str) -> list[Flaw]:
    """Return the first of the definitions that a circle goes through, as a flaw of this field."""
    way = dependencies.circle(graph)
    places = [(place, one.id) for place, one in enumerate(wanted) if one.id in way]
    for place, service_id in places[:1]:
        begin = way.index(service_id)
        around = (*way[begin:-1], *way[:begin], service_id)
        return [Flaw(f"definitions.{place}.{field}", dependencies.in_words(around))]
    return []


def compare(wanted: Sequence[Definition], present: Mapping[str, Definition], *, prune: bool) -> Differences:
    """Return what turns `present` into `wanted`; only with `prune` does what is not wanted go."""
    ids = {one.id for one in wanted}
    removed = tuple(sorted(present.keys() - ids)) if prune else ()
    saved = tuple(one for one in wanted if present.get(one.id) != one)
    changes = [_planned(one, present.get(one.id)) for one in wanted]
    changes += [PlannedChange(id=service_id, action=PlannedAction.REMOVE) for service_id in removed]
    renamed = tuple(one.id for one in saved if one.id in present and present[one.id].name != one.name)
    return Differences(saved, removed, tuple(sorted(changes, key=lambda change: change.id)), renamed)


def _planned(one: Definition, before: Definition | None) -> PlannedChange:
    if before == one:
        return PlannedChange(id=one.id, action=PlannedAction.UNCHANGED)
    # Of a new service is told what it says beyond the defaults.
    action = PlannedAction.CREATE if before is None else PlannedAction.CHANGE
    return PlannedChange(id=one.id, action=action, fields=tuple(_fields(before or _BLANK, one, is_new=before is None)))


def _fields(before: Definition, after: Definition, *, is_new: bool) -> Iterator[FieldChange]:
    for name in FIELDS:
        old, new = getattr(before, name), getattr(after, name)
        if old == new or (is_new and name == "id"):
            continue
        if name == "options":
            yield from _option_changes(old, new)
        else:
            yield FieldChange(field=name, before=None if is_new else old, after=new)


def _option_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[FieldChange]:
    """Give each option that differs; a secret that changes has its mask on both sides."""
    for name in dict.fromkeys((*old, *new)):
        if old.get(name, _MISSING) != new.get(name, _MISSING):
            yield FieldChange(field=f"options.{name}", before=mask(old.get(name)), after=mask(new.get(name)))

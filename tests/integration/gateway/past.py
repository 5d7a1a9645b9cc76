"""The past, as aggregator and incidents tell it to a gateway under test: audits, contracts, reports, maintenance windows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

from shared.contracts import commands as ask
from shared.contracts import history
from shared.contracts.codes import MaintenanceStatus, SlaPeriod, Status, TimelineState
from shared.contracts.maintenance import Maintenance
from shared.contracts.sla import Correction, SlaContract, SlaExclusion, SlaStanding, SlaWindow, StateInterval
from shared.contracts.status import Evidence
from shared.rpc import Refused

START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
MADE_AT = datetime(2026, 3, 20, 8, 30, tzinfo=UTC)
EVIL = '=HYPERLINK("http://evil.example") <script>alert(1)</script>'
IDS = UUID("11111111-2222-3333-4444-555555555555")


def at(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    """Return a moment of March 2026."""
    return datetime(2026, 3, day, hour, minute, second, tzinfo=UTC)


def contract(contract_id: str = "gold", **more: object) -> SlaContract:
    """Return a contract over two services, with an exclusion."""
    exclusion = SlaExclusion(
        id=uuid5(IDS, "exclusion"),
        starts_at=at(10, 1),
        ends_at=at(10, 2),
        reason="Power cut at the customer, ticket 4711",
        made_by="admin",
        made_at=MADE_AT,
    )
    fields: dict[str, Any] = {
        "id": contract_id,
        "name": "골드 Gold",
        "target": "99.95",
        "period": SlaPeriod.MONTH,
        "time_zone": "Asia/Seoul",
        "services": ("face-compare", "id-liveness"),
        "exclusions": (exclusion,),
        "version": 3,
    }
    return SlaContract.model_validate(fields | more)


def maintenance(*, key: UUID | None = None, version: int = 1, **more: object) -> Maintenance:
    """Return an announced window of maintenance."""
    fields: dict[str, Any] = {
        "id": key or uuid4(),
        "title": "Database upgrade",
        "description": "Answers may be slow.",
        "services": ("face-compare",),
        "status": MaintenanceStatus.SCHEDULED,
        "starts_at": at(2, 1),
        "ends_at": at(2, 3),
        "created_by": "reporter-who-is-private",
        "created_at": at(1),
        "version": version,
    }
    return Maintenance.model_validate(fields | more)


def correction(service_id: str = "face-compare", **more: object) -> Correction:
    """Return a correction with a reason that a spreadsheet and a browser would run."""
    fields: dict[str, Any] = {
        "id": uuid5(IDS, "correction"),
        "service_id": service_id,
        "starts_at": at(14, 9),
        "ends_at": at(14, 10),
        "state": TimelineState.UP,
        "reason": EVIL,
        "made_by": "admin",
        "made_at": MADE_AT,
    }
    return Correction.model_validate(fields | more)


def intervals(outages: int) -> tuple[StateInterval, ...]:
    """Return a timeline of March with so many outages, every third a partial one."""
    whole, moment = [], START
    step = (END - START) / (outages + 1)
    for number in range(outages):
        began = (START + step * (number + 1)).replace(microsecond=0)
        ended = began + timedelta(minutes=4, seconds=5 + number)
        state = TimelineState.PARTIAL if number % 3 == 2 else TimelineState.DOWN
        whole.append(StateInterval(state=TimelineState.UP, started_at=moment, ended_at=began))
        whole.append(StateInterval(state=state, started_at=began, ended_at=ended, regions_down=("eu-west", "ap-northeast")))
        moment = ended
    return (*whole, StateInterval(state=TimelineState.UP, started_at=moment, ended_at=None))


def audit(service_id: str = "face-compare", *, outages: int = 4, under: SlaContract | None = None, **more: object) -> history.Audit:
    """Return an audit of March."""
    told = intervals(outages)
    fields: dict[str, Any] = {
        "service_id": service_id,
        "starts_at": START,
        "ends_at": END,
        "as_of": None,
        "contract": under,
        "partial_share": "0.3",
        "count_maintenance": False,
        "count_unknown": False,
        "intervals": told,
        "measured": told,
        "corrections": (correction(service_id),) if service_id == "face-compare" else (),
        "maintenances": (maintenance(key=uuid5(IDS, "work"), status=MaintenanceStatus.COMPLETED),) if service_id == "face-compare" else (),
        "exclusions": () if under is None else under.exclusions,
        "uptime_percentage": 99.9621,
        "checks_percentage": 99.97,
        "total_checks": 44_640,
        "successful_checks": 44_627,
        "failed_checks": 13,
        "counted_minutes": 44_460.0,
        "downtime_minutes": 16.84,
        "formula_version": 1,
        "digest": "ab" * 32,
        "computed_at": MADE_AT,
    }
    return history.Audit.model_validate(fields | more)


def standing(service_id: str = "face-compare", **more: object) -> SlaStanding:
    """Return how a service stands."""
    fields: dict[str, Any] = {
        "service_id": service_id,
        "uptime_percentage": 99.9621,
        "checks_percentage": 99.97,
        "counted_minutes": 44_460.0,
        "downtime_minutes": 16.84,
        "maintenance_minutes": 120.0,
        "excluded_minutes": 60.0,
        "unknown_minutes": 0.0,
        "inactive_minutes": 0.0,
        "budget_minutes": 22.23,
        "budget_left_minutes": 5.39,
        "budget_used_percentage": 75.75,
        "met": True,
    }
    return SlaStanding.model_validate(fields | more)


def report(*, outages: int = 4, final: bool = True, under: SlaContract | None = None) -> history.SlaReport:
    """Return the report of March, in which one service missed its target."""
    promised = under or contract()
    missed = standing("id-liveness", uptime_percentage=99.9012, met=False, budget_left_minutes=-21.7, budget_used_percentage=197.61)
    return history.SlaReport(
        contract=promised,
        window=SlaWindow(starts_at=START, ends_at=END),
        is_final=final,
        standings=(standing(), missed),
        audits=(audit(outages=outages, under=promised), audit("id-liveness", outages=1, under=promised, digest="cd" * 32)),
        digest="ef" * 32,
    )


@dataclass
class Past:
    """What aggregator and incidents answer about the past. `asked` says what was asked."""

    contracts: dict[str, SlaContract] = field(default_factory=dict)
    corrections: dict[UUID, Correction] = field(default_factory=dict)
    revoked: list[history.RecordedExclusion] = field(default_factory=list)
    maintenances: dict[UUID, Maintenance] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def audit(self, query: history.AuditQuery) -> history.Audit:
        self.asked.append(("audit", query))
        return audit(query.service_id, starts_at=query.starts_at, ends_at=query.ends_at, as_of=query.as_of)

    async def timeline(self, query: history.Period) -> history.Timeline:
        self.asked.append(("timeline", query))
        return history.Timeline(service_id=query.service_id, intervals=intervals(1))

    async def statuses(self, query: history.Period) -> history.StatusHistory:
        self.asked.append(("statuses", query))
        evidence = Evidence(reason="Down from eu-west.", regions_down=("eu-west",))
        one = history.StatusInterval(
            version=3,
            status=Status.MAJOR_OUTAGE,
            started_at=at(2),
            ended_at=at(3),
            detected_at=at(2, 0, 1),
            degraded=False,
            maintenance=None,
            flapping=False,
            muted_by=None,
            evidence=evidence,
        )
        return history.StatusHistory(service_id=query.service_id, intervals=(one,))

    async def dry_run(self, query: history.DryRunQuery) -> history.DryRun:
        self.asked.append(("dry_run", query))
        return history.DryRun(
            service_id=query.service_id,
            would_be=intervals(2),
            was=intervals(1),
            would_be_uptime_percentage=99.9,
            was_uptime_percentage=99.95,
        )

    async def series(self, query: history.SeriesQuery) -> history.Series:
        self.asked.append(("series", query))
        point = history.SeriesPoint(starts_at=query.starts_at, total=10, failed=1, p50=12.0, p95=20.0, p99=31.5)
        return history.Series(service_id=query.service_id, resolution_s=3600, points=(point,), whole=point)

    async def make_correction(self, draft: history.CorrectionDraft) -> Correction:
        self.asked.append(("correct", draft))
        one = Correction(**draft.model_dump(exclude={"actor"}), made_by=draft.actor, made_at=MADE_AT)
        return self.corrections.setdefault(one.id, one)

    async def revoke_correction(self, ref: history.CorrectionRef) -> Correction:
        if ref.id not in self.corrections:
            raise Refused(ask.Problem(title="Not found", status=404, detail="no such correction"))
        news = {"revoked_by": ref.actor, "revoked_at": MADE_AT, "revoked_reason": ref.reason}
        self.corrections[ref.id] = self.corrections[ref.id].model_copy(update=news)
        return self.corrections[ref.id]

    async def list_corrections(self, ref: ask.ServiceRef) -> history.Corrections:
        self.asked.append(("corrections", ref))
        return history.Corrections(corrections=tuple(one for one in self.corrections.values() if one.service_id == ref.id))

    async def list_contracts(self, query: history.SlaContractsQuery) -> history.SlaContracts:
        self.asked.append(("contracts", query))
        return history.SlaContracts(contracts=tuple(self.contracts.values()))

    async def read_contract(self, ref: history.SlaContractRef) -> SlaContract:
        return self._known(ref.id)

    async def put(self, draft: history.SlaContractDraft) -> SlaContract:
        self.asked.append(("put", draft))
        known = self.contracts.get(draft.contract.id)
        version, exclusions = (known.version + 1, known.exclusions) if known else (1, ())
        self.contracts[draft.contract.id] = draft.contract.model_copy(update={"version": version, "exclusions": exclusions})
        return self.contracts[draft.contract.id]

    async def remove(self, ref: history.SlaContractRef) -> ask.Nothing:
        self._known(ref.id)
        del self.contracts[ref.id]
        return ask.Nothing()

    async def exclude(self, draft: history.SlaExclusionDraft) -> SlaContract:
        known = self._known(draft.contract_id)
        made = SlaExclusion(**draft.model_dump(exclude={"actor", "contract_id"}), made_by=draft.actor, made_at=MADE_AT)
        self.contracts[known.id] = known.model_copy(update={"exclusions": (*known.exclusions, made)})
        return self.contracts[known.id]

    async def list_exclusions(self, ref: history.SlaContractRef) -> history.SlaExclusions:
        held = (history.RecordedExclusion(**one.model_dump()) for one in self._known(ref.id).exclusions)
        return history.SlaExclusions(exclusions=(*held, *self.revoked))

    async def revoke_exclusion(self, ref: history.SlaExclusionRef) -> history.RecordedExclusion:
        known = self._known(ref.contract_id)
        found = next((one for one in known.exclusions if one.id == ref.id), None)
        if found is None:
            raise Refused(ask.Problem(title="Not found", status=404, detail="no such exclusion"))
        self.contracts[known.id] = known.model_copy(update={"exclusions": tuple(one for one in known.exclusions if one is not found)})
        news = {"revoked_by": ref.actor, "revoked_at": MADE_AT, "revoked_reason": ref.reason}
        self.revoked.append(history.RecordedExclusion(**found.model_dump() | news))
        return self.revoked[-1]

    async def standing(self, ref: history.SlaContractRef) -> history.SlaStandings:
        told = report(under=self._known(ref.id))
        return history.SlaStandings(contract=told.contract, window=told.window, standings=told.standings, worst="id-liveness")

    async def report(self, query: history.SlaReportQuery) -> history.SlaReport:
        self.asked.append(("report", query))
        return report(under=self._known(query.contract_id))

    async def list_maintenances(self, query: history.MaintenanceQuery) -> history.Maintenances:
        self.asked.append(("maintenances", query))
        return history.Maintenances(maintenances=tuple(self.maintenances.values())[: query.limit])

    async def schedule(self, draft: history.MaintenanceDraft) -> Maintenance:
        made = maintenance(key=draft.id, **draft.model_dump(exclude={"id", "actor"}), created_by=draft.actor)
        return self.maintenances.setdefault(made.id, made)

    async def change(self, wanted: history.MaintenanceChange) -> Maintenance:
        self.asked.append(("change", wanted))
        known = self.maintenances.get(wanted.id)
        if known is None:
            raise Refused(ask.Problem(title="Not found", status=404, detail="no such maintenance"))
        news: dict[str, Any] = wanted.model_dump(exclude={"id", "actor", "end"}, exclude_none=True)
        news |= {"version": known.version + 1} | ({"status": MaintenanceStatus.CANCELLED} if wanted.end else {})
        self.maintenances[known.id] = known.model_copy(update=news)
        return self.maintenances[known.id]

    def _known(self, contract_id: str) -> SlaContract:
        if contract_id not in self.contracts:
            raise Refused(ask.Problem(title="Not found", status=404, detail="no such contract"))
        return self.contracts[contract_id]

    def answers(self) -> dict[str, Mapping[Any, Any]]:
        """Return who answers what, by queue."""
        return {
            ask.AGGREGATOR_RPC: {
                ask.UPTIME_AUDIT: self.audit,
                ask.TIMELINE_READ: self.timeline,
                ask.STATUS_HISTORY: self.statuses,
                ask.TIMELINE_DRY_RUN: self.dry_run,
                ask.SERIES_READ: self.series,
                ask.CORRECTIONS_MAKE: self.make_correction,
                ask.CORRECTIONS_REVOKE: self.revoke_correction,
                ask.CORRECTIONS_LIST: self.list_corrections,
                ask.SLA_LIST: self.list_contracts,
                ask.SLA_PUT: self.put,
                ask.SLA_READ: self.read_contract,
                ask.SLA_REMOVE: self.remove,
                ask.SLA_EXCLUDE: self.exclude,
                ask.SLA_EXCLUSIONS: self.list_exclusions,
                ask.SLA_EXCLUSION_REVOKE: self.revoke_exclusion,
                ask.SLA_STANDING: self.standing,
                ask.SLA_REPORT: self.report,
            },
            ask.INCIDENTS_RPC: {
                ask.MAINTENANCE_LIST: self.list_maintenances,
                ask.MAINTENANCE_SCHEDULE: self.schedule,
                ask.MAINTENANCE_CHANGE: self.change,
            },
        }

"""The aggregator: turns check results into records, statuses and events.

Owns
    api_response_times (each check and each reported call once, partitioned by month of its slot), api_call_logs and uptime_records
    (a row for each service and day), rollup_minute, rollup_hour and rollup_day (with sketches of response times), region_state and
    status_interval (what the status is and was, with evidence), system_status (one row), timeline (the truth in
    event time, with what was believed when; ADR 5) with its definition_history and course_checkpoint, correction, service and
    incident_seen (what it has heard of others' facts).
Consumes
    checks.measured (batches of results), calls.reported (real traffic, only kept), service.registered/updated/removed,
    incident.opened/updated/resolved, maintenance.scheduled/updated/started/ended (a copy of the windows).
Publishes
    service.status_changed, system.status_changed. Answers status.overview and uptime.read.
Invariants
    A check counts once, however often and in whatever order it comes: days count only the raw rows that their transaction inserted.
    total_calls of a day = rows of that day's slots with a known outcome, without confirmations and reported calls.
    Each service has one open status interval; versions have no gap. Muting (domain/muting.py) changes no fact: a version that differs
    only in it begins where the former did. What changes around a service is a row of recheck until it was judged again;
    definitions and incidents are rows of recheck_whole until the whole was counted again.
    The status does not depend on the order of arrival (domain/verdict.py). Replicas may come and go: what a decision rests on is
    locked in one order (services by id, then system_status).
    A row of timeline is never overwritten: what is no longer believed says until when it was. Nothing is computed again without its checks.
    Silence is said of a service only while this process is known to be at the head of the queue (domain/intake.py).
"""

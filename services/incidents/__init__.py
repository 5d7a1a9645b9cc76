"""The incidents service: opens an incident when a service goes down, follows it, and resolves it after recovery; keeps those made by hand.

Keeps maintenance windows too, and begins and ends them on time.

Owns
    incident and incident_update (the timeline), maintenance, service (names, and the newest status heard of each).
Consumes
    service.status_changed, service.registered/updated/removed.
Publishes
    incident.opened/updated/resolved, each with the whole incident and the timeline's new entry;
    maintenance.scheduled/updated/started/ended, each with the whole window.
    Answers incidents.list/get/open/update, maintenance.list/schedule/change.
Invariants
    A service has at most one open automatic incident, however events are repeated or reordered, and whoever else consumes them.
    Every change of an incident is one version, one timeline entry and one event. A resolved incident stays as it is.
    No data neither opens nor resolves anything; severity rises with the outage and never falls. What is muted opens nothing.
    A maintenance window begins and ends by the database's clock, each said once, also after nobody looked for long.
"""

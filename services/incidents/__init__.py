"""The incidents service: opens an incident when a service goes down, follows it, and resolves it after recovery; keeps those made by hand.

Owns
    incident and incident_update (the timeline), service (names, and the newest status heard of each).
Consumes
    service.status_changed, service.registered/updated/removed.
Publishes
    incident.opened/updated/resolved, each with the whole incident and the timeline's new entry. Answers incidents.list/get/open/update.
Invariants
    A service has at most one open automatic incident, however events are repeated or reordered, and whoever else consumes them.
    Every change of an incident is one version, one timeline entry and one event. A resolved incident stays as it is.
    No data neither opens nor resolves anything; severity rises with the outage and never falls.
"""

"""The checker: looks at every service when its time comes, and says what it saw.

Owns: `services` (the definitions, and a copy of each one's current status), `definitions_revision`, `watch_server_logs`
(every check, in monthly partitions), and the spool, a file of results that the broker has not confirmed.

Consumes: `checker.rpc` (create, change, remove, list definitions), `checker.events` (service.status_changed: the copy of the status),
`checker.watch-log` (result batches of all checkers, to be written down).

Publishes: service.registered/updated/removed by the outbox, to sla.events; checks.measured batches from the spool, to sla.checks.

Invariants:
- A slot has one check id, whoever checks it and however often; nothing counts twice.
- A service has at most one running check in a process.
- A finished check is on disk before it is published, and leaves the disk only when the broker confirmed it.
- Neither database nor broker being away stops the checking of what is already known.
- No connection is made to an address that the host rules refuse, wherever a name or a redirect leads.
"""

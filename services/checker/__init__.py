"""The checker: looks at every service when its time comes, and says what it saw.

Owns: `services` (the definitions, and a copy of each one's current status), `definitions_revision`, `watch_server_logs`
(every check, in monthly partitions), `checkers` and `shard_leases` (who checks what in a region), the spool, a file of results that the
broker has not confirmed, and beside it a file of what is remembered for a start without the database.

Consumes: `checker.rpc` (create, change, remove, list, apply definitions; try a check; describe kinds; hear pushes), `checker.events`
(service.status_changed: the copy of the status), `checker.watch-log` (result batches of all checkers, to be written down).

Publishes: service.registered/updated/removed by the outbox, to sla.events; checks.measured batches from the spool, to sla.checks.

Invariants:
- A slot has one check id, whoever checks it and however often; nothing counts twice.
- A service has at most one running check in a process, and at rest one process of a region that checks it.
- A finished check is on disk before it is published, and leaves the disk only when the broker confirmed it.
- Neither database nor broker being away stops the checking of what is already known.
- No connection is made to an address that the host rules refuse, wherever a name or a redirect leads.
- A secret of a definition is in clear in this process's memory and on the wire to its own service, and nowhere else.
"""

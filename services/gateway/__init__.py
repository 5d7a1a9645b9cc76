"""The gateway: what people and programs outside see of the product.

Owns: `users`, `sessions`, `audit_log`; in memory the read model (definitions, status, incidents) and the ring of recent events.
Consumes: the stream `sla.status`, from where it stopped; asks checker, aggregator and incidents by request and reply.
Publishes: no events; commands to the others, REST, the WebSocket feed, the public page.
Invariants: an offset is handed to a client only after everything up to it was applied; a client gets each event once or is told
to begin again (`reset`); nothing leaves the public side that projection.py does not name; every route needs a role unless access.py
lists it as public; the read model is never the only copy of anything.
"""

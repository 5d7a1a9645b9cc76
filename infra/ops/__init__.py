"""The `sla-monitor` command: database, dead letters, local stack."""

-- Rows that each fold writes again find room on their own page: no index has to learn of the new version (heap-only tuples).
-- Holds for pages that are filled from now on; nothing is rewritten.
alter table api_call_logs set (fillfactor = 60);
alter table uptime_records set (fillfactor = 60);
alter table region_state set (fillfactor = 60);

-- A service is given time before it alerts, where another that it depends on came back just now, or may be about to go down: dependencies.py.

alter table recheck
    add column due_at     timestamptz not null default '-infinity',      -- not judged again before
    add column dependency text,                                          -- because of which it alerts nobody until then; null: because of none
    add column suspected  boolean     not null default false;            -- whether that one is thought to be going down; false: it came back at asked_at
create index recheck_by_due on recheck (due_at, number);                 -- served: what is due
create index recheck_by_service on recheck (service_id) where dependency is not null;      -- served: why a service waits
create index recheck_by_dependency on recheck (dependency) where suspected;                -- served: who waits for one that is suspected

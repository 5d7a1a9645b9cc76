-- Since when a service may be silent for so long, and how long it ever might.

alter table service
    add column silent_since      timestamptz not null default 'epoch',  -- when silent_after_ms became what it is
    add column silent_longest_ms integer     not null default 0;        -- domain/verdict.py, Thresholds

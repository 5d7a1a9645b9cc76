-- The whole is counted once for many definitions and incidents: each only notes that it may have changed.

create table recheck_whole (                                         -- notes, each of one change; the next look acts upon all of them at once
    number   bigint      primary key generated always as identity,
    asked_at timestamptz not null default now()
);

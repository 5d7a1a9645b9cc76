-- Since when a service may be silent for so long, how long it ever might, and which checkers say that they are isolated.

alter table service
    add column silent_since      timestamptz not null default 'epoch',  -- when silent_after_ms became what it is
    add column silent_longest_ms integer     not null default 0;        -- domain/verdict.py, Thresholds

create table isolated_checker (                                         -- the last time that each was; silence.py
    checker      text        primary key,
    region       text        not null,
    since        timestamptz not null,
    recovered_at timestamptz                                            -- null: it is isolated now, as far as it said
);

-- Jobs that report themselves: the secret address of each, what they said, and what follows from it.

create table push_tokens (
    service_id   text        primary key,
    token_sha256 bytea       not null unique check (length(token_sha256) = 32),   -- served: a report's question for whose it is
    created_at   timestamptz not null default now()
);

create table push_signals (
    id          uuid             primary key,        -- chosen by the gateway: told twice, it counts once
    service_id  text             not null,
    what        text             not null check (what in ('start', 'success', 'fail')),
    exit_code   integer,
    duration_ms double precision check (duration_ms >= 0),
    log         text             not null default '' check (octet_length(log) <= 10240),   -- the end of it, redacted
    at          timestamptz      not null,           -- when the job called
    received_at timestamptz      not null default now()
);
create index push_signals_by_age on push_signals (received_at);               -- served: dropping what is old
create index push_signals_by_service on push_signals (service_id, at desc);   -- served: reading what a job said, newest first

create table push_states (
    service_id   text             primary key,
    started_ms   bigint,                                 -- milliseconds since the epoch; null: never
    succeeded_ms bigint,
    failed_ms    bigint,
    exit_code    integer,
    duration_ms  double precision,
    log          text             not null default '',   -- the last KiB
    revision     bigint           not null
);
create index push_states_by_revision on push_states (revision);   -- served: a checker's question for what changed since it last looked

-- As definitions_revision: held locked from a report until its commit, so that revisions become visible in their order.
create table push_revision (
    only_row boolean primary key default true check (only_row),
    revision bigint  not null default 0
);
insert into push_revision default values;

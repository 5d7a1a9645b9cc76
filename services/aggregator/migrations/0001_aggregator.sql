-- What the aggregator owns: raw response times, daily records, the status of each service over time, and the status of the whole.

create table service (                                               -- what is known of a definition; its owner is the checker
    id                 text        primary key,
    version            integer     not null default 0,               -- 0: results came before the definition did
    name               text        not null default '',
    is_active          boolean     not null default false,
    check_interval     integer     not null default 60000,           -- ms
    timeout            integer     not null default 5000,            -- ms
    failure_threshold  integer     not null default 1 check (failure_threshold >= 1),
    recovery_threshold integer     not null default 1 check (recovery_threshold >= 1),
    silent_after_ms    integer     not null default 3000,            -- domain/verdict.py, silent_after_ms
    created_at         timestamptz,                                  -- when the service began to exist, not this row
    removed_at         timestamptz,
    updated_at         timestamptz not null default now()
);
create trigger service_touch before update on service for each row execute function touch_updated_at();

create table api_response_times (
    id            uuid             not null,                         -- derived from service, region and slot: one row for each fact
    service_id    text             not null,
    response_time double precision,                                  -- ms
    status_code   integer,
    is_success    boolean,                                           -- null: nothing was learnt
    error_message text,
    endpoint      text             not null default '',
    method        text             not null default '',
    measured_at   timestamptz      not null,
    metadata      jsonb            not null default '{}',
    scheduled_at  timestamptz      not null,
    region        text             not null,
    outcome       text             not null check (outcome in ('healthy', 'failed', 'unknown')),
    error_type    text,
    source        text             not null,                         -- the checker that measured
    primary key (id, scheduled_at)
) partition by range (scheduled_at);
create index api_response_times_by_service on api_response_times (service_id, scheduled_at);  -- served: one service's checks over a time
create table api_response_times_default partition of api_response_times default;              -- slots that no month was made for

create table api_call_logs (
    id                     bigint generated always as identity primary key,
    service_id             text         not null,
    date                   date         not null,                    -- UTC day of the slots
    total_calls            bigint       not null,                    -- checks with a known outcome
    successful_calls       bigint       not null,
    failed_calls           bigint       not null,
    avg_response_time      double precision,                         -- ms, of successful checks, as are those below
    min_response_time      double precision,
    max_response_time      double precision,
    p50_response_time      double precision,                         -- within 1 % of the true one: see sketch.py
    p95_response_time      double precision,
    p99_response_time      double precision,
    response_time_count    bigint       not null default 0,
    response_time_sum_us   bigint       not null default 0,          -- a whole number, so that the order of adding changes nothing
    total_downtime_minutes numeric(8,2) not null default 0,          -- from status_interval, set when an outage ends and daily
    uptime_percentage      numeric(5,2),
    metadata               jsonb        not null default '{}',
    created_at             timestamptz  not null default now(),
    updated_at             timestamptz  not null default now(),
    unique (service_id, date),
    check (total_calls = successful_calls + failed_calls)
);
create trigger api_call_logs_touch before update on api_call_logs for each row execute function touch_updated_at();

create table uptime_records (
    id                bigint generated always as identity primary key,
    service_id        text        not null,
    date              date        not null,
    status            text        not null check (status in ('o', 'po', 'mo', 'nd', 'e')),
    uptime_percentage numeric(5,2),
    total_checks      bigint      not null,
    successful_checks bigint      not null,
    failed_checks     bigint      not null,
    avg_response_time double precision,
    metadata          jsonb       not null default '{}',
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),
    unique (service_id, date),
    check (total_checks = successful_checks + failed_checks)
);
create trigger uptime_records_touch before update on uptime_records for each row execute function touch_updated_at();

create table day_sketch (                                            -- what percentiles of a day are read from; see sketch.py
    service_id text  not null,
    date       date  not null,
    sketch     bytea not null,
    primary key (service_id, date)
);

create table region_state (                                          -- the newest outcomes of one service from one region; see domain/verdict.py
    service_id        text        not null,
    region            text        not null,
    slots             bigint[]    not null,                          -- ms since 1970, ascending; empty: the region is silent
    healthy           boolean[]   not null,
    base_condition    text        not null check (base_condition in ('unknown', 'up', 'down')),
    base_since        bigint      not null,
    base_streak       integer     not null,                          -- successes above zero, failures below
    base_streak_since bigint      not null,
    base_slot         bigint      not null,                          -- outcomes of this slot and older ones are folded into the base
    newest_at         timestamptz not null,
    primary key (service_id, region),
    check (cardinality(slots) = cardinality(healthy))
);
create index region_state_heard on region_state (newest_at) where slots <> '{}';  -- served: who fell silent

create table status_interval (                                       -- the open one is the present status
    service_id  text        not null,
    version     integer     not null check (version >= 1),
    status      text        not null check (status in ('o', 'po', 'mo', 'nd', 'e')),
    started_at  timestamptz not null,                                -- the first check that said so, not the one that confirmed it
    detected_at timestamptz not null,
    ended_at    timestamptz,
    evidence    jsonb       not null,
    primary key (service_id, version),
    check (ended_at >= started_at)
);
create unique index status_interval_one_open on status_interval (service_id) include (status) where ended_at is null;
create index status_interval_by_time on status_interval (service_id, started_at);  -- served: the outages of a time

create table incident_seen (                                         -- what is counted of incidents; their owner is incidents
    incident_id uuid        primary key,
    version     integer     not null,
    is_open     boolean     not null,
    started_at  timestamptz not null
);
create index incident_seen_open on incident_seen (incident_id) where is_open;
create index incident_seen_by_start on incident_seen (started_at);

create table system_status (
    id                   text        primary key check (id = 'current'),
    overall_status       text        not null check (overall_status in ('operational', 'degraded', 'outage')),
    operational_services integer     not null,
    total_services       integer     not null,
    active_incidents     integer     not null,
    last_incident_at     timestamptz,
    message              text        not null,
    version              integer     not null,
    metadata             jsonb       not null default '{}',
    updated_at           timestamptz not null default now()
);
insert into system_status values ('current', 'operational', 0, 0, 0, null, 'Nothing is watched yet.', 0, '{}', now());
create trigger system_status_touch before update on system_status for each row execute function touch_updated_at();

-- History that can be trusted: definitions over time, the timeline and its amendments, corrections, maintenance, rollups, SLA contracts.
-- Days no longer carry their own sketches: rollups do.

alter table service
    add column quorum     text   not null default 'majority',                  -- how many regions must be down for mo; domain/courses.py, reached
    add column depends_on text[] not null default '{}';                        -- while one of these is down, this one alerts nobody
create index service_by_dependency on service using gin (depends_on);          -- served: who depends on a service that went down or came back

alter table status_interval
    add column degraded        boolean not null default false,
    add column maintenance     uuid,
    add column flapping        boolean not null default false,
    add column muted_by        text,
    add column first_failed_at timestamptz,
    add column confirmed_at    timestamptz;

create table definition_history (                                              -- what was asked for, from when on; domain/courses.py, Rules
    service_id         text        not null,
    since              timestamptz not null,
    version            integer     not null,
    check_interval     integer     not null,                                   -- ms
    timeout            integer     not null,                                   -- ms
    failure_threshold  integer     not null,
    recovery_threshold integer     not null,
    quorum             text        not null,
    regions            text[]      not null,
    watched            boolean     not null,
    primary key (service_id, since)
);
insert into definition_history                                                 -- what is known of services that were there before
select id, created_at, version, check_interval, timeout, failure_threshold, recovery_threshold, quorum, regions, true
  from service where version > 0 and created_at is not null;
insert into definition_history
select s.id, greatest(coalesce(s.removed_at, i.started_at, s.updated_at), s.created_at + interval '1 millisecond'), s.version,
       s.check_interval, s.timeout, s.failure_threshold, s.recovery_threshold, s.quorum, s.regions, false
  from service s left join status_interval i on i.service_id = s.id and i.ended_at is null and i.status = 'e'
 where s.version > 0 and s.created_at is not null and (s.removed_at is not null or not s.is_active);

create table timeline_dirty (                                                  -- what may have changed a timeline; whoever marks waits for nobody
    id         bigint generated always as identity primary key,
    service_id text   not null,
    from_slot  bigint not null                                                 -- the oldest slot that may have, ms since 1970
);
create index timeline_dirty_by_service on timeline_dirty (service_id);         -- served: what was marked of a service, taken together

create table timeline_progress (                                               -- when a timeline is looked at though nothing marked it
    service_id text        primary key,
    due_at     timestamptz not null
);
create index timeline_progress_due on timeline_progress (due_at);              -- served: whose turn it is

insert into timeline_dirty (service_id, from_slot) select id, 0 from service where version > 0;

create table course_checkpoint (                                               -- how a region stood: what the rest is computed from
    service_id text   not null,
    region     text   not null,
    slot       bigint not null,
    standing   jsonb  not null,
    primary key (service_id, region, slot)
);

create table timeline (                                                        -- states; amended rows stay, and say until when they were believed
    id               bigint generated always as identity primary key,
    service_id       text        not null,
    state            text        not null check (state in ('up', 'degraded', 'partial', 'down', 'unknown', 'inactive')),
    started_at       timestamptz not null,
    ended_at         timestamptz,                                              -- null: it goes on
    regions_down     text[]      not null default '{}',
    regions_degraded text[]      not null default '{}',
    known_from       timestamptz not null default now(),
    known_until      timestamptz,                                              -- null: believed now
    check (ended_at > started_at)
);
create unique index timeline_now on timeline (service_id, started_at) where known_until is null;      -- served: the truth over a time
create index timeline_then on timeline (service_id, known_until) where known_until is not null;       -- served: as published on

create table correction (                                                      -- the past, reclassified by a person; the facts stay
    id         uuid        primary key,
    number     bigint      generated always as identity unique,                -- of two that overlap the later holds
    service_id text        not null,
    starts_at  timestamptz not null,
    ends_at    timestamptz not null,
    state      text        not null check (state in ('up', 'degraded', 'partial', 'down', 'unknown', 'inactive')),
    reason     text        not null check (reason <> ''),
    made_by    text        not null,
    made_at    timestamptz not null default now(),
    revoked_by text,
    revoked_at timestamptz,
    check (ends_at > starts_at),
    check ((revoked_by is null) = (revoked_at is null))
);
create index correction_by_service on correction (service_id, starts_at);

create table maintenance_window (                                              -- a copy; its owner is incidents
    id          uuid        primary key,
    version     integer     not null,
    title       text        not null,
    description text        not null default '',
    services    text[]      not null,
    status      text        not null check (status in ('scheduled', 'in_progress', 'completed', 'cancelled')),
    starts_at   timestamptz not null,
    ends_at     timestamptz not null,
    created_by  text        not null default '',                               -- audits say who announced it
    created_at  timestamptz not null default now()
);
create index maintenance_window_by_service on maintenance_window using gin (services);

-- Rollups of checks (slots, no confirmations), per service and region. Percentiles by DDSketch: a time of ms lies in the bin
-- ceil(ln(ms) / ln(1.01 / 0.99)); keys and counts are parallel arrays, keys ascending. Sketches add up bin by bin.
create table rollup_minute (
    service_id      text        not null,
    region          text        not null,
    bucket          timestamptz not null,                                      -- its first moment
    healthy         bigint      not null,
    degraded        bigint      not null,
    failed          bigint      not null,
    unknown         bigint      not null,
    response_count  bigint      not null,                                      -- of successful checks, as are those below
    response_sum_us bigint      not null,
    min_ms          double precision,
    max_ms          double precision,
    keys            integer[]   not null,
    counts          bigint[]    not null,
    primary key (service_id, region, bucket),
    check (cardinality(keys) = cardinality(counts))
) partition by range (bucket);                                                 -- by day; kept for days
create table rollup_minute_default partition of rollup_minute default;
create table rollup_hour (like rollup_minute including all) partition by range (bucket);  -- by month; kept for years
create table rollup_hour_default partition of rollup_hour default;
create table rollup_day (like rollup_minute including all);                    -- kept for ever; its bucket is the first moment of a local day
create index rollup_minute_by_time on rollup_minute using brin (bucket) with (autosummarize = on);       -- served: an hour of all services, added up
create index rollup_hour_by_time on rollup_hour using brin (bucket) with (autosummarize = on);           -- served: a day of all services, added up
create index api_response_times_by_time on api_response_times using brin (scheduled_at) with (autosummarize = on);  -- served: a minute of all services, rolled up

create table rollup_progress (                                                 -- up to where each resolution was rolled up, and days closed
    resolution text        primary key check (resolution in ('minute', 'hour', 'day', 'closed')),
    done_until timestamptz not null
);

create table rollup_dirty (                                                    -- minutes that results came for after they were rolled up
    id         bigint generated always as identity,                            -- often the same minute: whoever marks waits for nobody
    service_id text        not null,
    minute     timestamptz not null,
    primary key (service_id, minute, id)
);

alter table api_call_logs add column finalized_at timestamptz;                 -- null: to be closed, or again
alter table uptime_records add column finalized_at timestamptz;
create index api_call_logs_open on api_call_logs (date, service_id) where finalized_at is null;       -- served: days to be closed

create table sla_contract (
    id                text        primary key check (id ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(id) <= 63),
    name              text        not null check (name <> ''),
    target            numeric     not null check (target > 0 and target <= 100),          -- percent
    period            text        not null check (period in ('month', 'quarter', 'rolling')),
    rolling_days      integer     not null default 30 check (rolling_days between 1 and 366),
    time_zone         text        not null default 'UTC',
    services          text[]      not null check (cardinality(services) between 1 and 1000),
    partial_share     numeric     not null check (partial_share in (0, 0.3, 0.5, 1)),
    count_maintenance boolean     not null,
    count_unknown     boolean     not null,
    version           integer     not null default 1,
    judged_until      timestamptz not null,                                               -- months and quarters that ended up to then
    changed_by        text        not null,
    removed_at        timestamptz,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now()
);
create trigger sla_contract_touch before update on sla_contract for each row execute function touch_updated_at();

create table sla_exclusion (
    id          uuid        primary key,
    contract_id text        not null references sla_contract (id),
    starts_at   timestamptz not null,
    ends_at     timestamptz not null,
    reason      text        not null check (reason <> ''),
    made_by     text        not null,
    made_at     timestamptz not null default now(),
    check (ends_at > starts_at)
);
create index sla_exclusion_by_contract on sla_exclusion (contract_id, starts_at);

create table sla_state (                                                       -- what was said of a contract, so that it is said once
    contract_id  text        not null references sla_contract (id),
    service_id   text        not null,
    what         text        not null,                                         -- burn:fast, burn:medium, burn:slow, exhausted, breached
    window_start timestamptz not null,
    holds        boolean     not null,
    said_at      timestamptz not null default now(),
    primary key (contract_id, service_id, what, window_start)
);
create table sla_said (                                                        -- the version of a contract's events; grows by one with each
    contract_id text   primary key references sla_contract (id),
    version     bigint not null
);
drop table day_sketch;

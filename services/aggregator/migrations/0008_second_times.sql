-- What audits rest on besides the timeline gets a second time: what was known when. Exclusions can be taken back, as corrections can.

alter table correction add column revoked_reason text;                -- null: revoked before reasons were asked for
alter table sla_exclusion
    add column revoked_by     text,
    add column revoked_at     timestamptz,
    add column revoked_reason text,
    add check ((revoked_by is null) = (revoked_at is null));

create table sla_contract_version (                                   -- a contract as it was, version by version
    contract_id       text        not null references sla_contract (id),
    version           integer     not null,
    known_from        timestamptz not null,
    name              text        not null,
    target            numeric     not null,
    period            text        not null,
    rolling_days      integer     not null,
    time_zone         text        not null,
    services          text[]      not null,
    partial_share     numeric     not null,
    count_maintenance boolean     not null,
    count_unknown     boolean     not null,
    primary key (contract_id, version)                                -- served: the newest that was known by a moment
);
insert into sla_contract_version                                      -- what it said earlier is not known
select id, version, '-infinity', name, target, period, rolling_days, time_zone, services, partial_share, count_maintenance, count_unknown
  from sla_contract;

create table maintenance_window_version (                             -- a maintenance window as it was, version by version
    id          uuid        not null,
    version     integer     not null,
    known_from  timestamptz not null default clock_timestamp(),
    title       text        not null,
    description text        not null,
    services    text[]      not null,
    status      text        not null,
    starts_at   timestamptz not null,
    ends_at     timestamptz not null,
    created_by  text        not null,
    created_at  timestamptz not null,
    primary key (id, version)                                         -- served: whether a later one was known by a moment
);
create index maintenance_window_version_by_service on maintenance_window_version using gin (services);  -- served: the windows of a service
insert into maintenance_window_version                                -- what it said earlier is not known
select id, version, created_at, title, description, services, status, starts_at, ends_at, created_by, created_at
  from maintenance_window;

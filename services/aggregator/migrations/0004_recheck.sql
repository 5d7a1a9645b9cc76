-- Statuses that change without a result of their own: what changed around a service is written down here, and soon acted upon.

create table recheck (                                               -- services to be judged again; the same one may wait more than once
    number     bigint      primary key generated always as identity,
    service_id text        not null,
    asked_at   timestamptz not null default now()
);
create index status_interval_flapping on status_interval (service_id) where ended_at is null and flapping;  -- served: who calmed down

-- Every check, by month of its slot. The primary key is derived from the slot, so that writing it twice changes nothing.

create table watch_server_logs (
    id            uuid             not null,
    service_id    text             not null,
    region        text             not null,
    scheduled_at  timestamptz      not null,             -- the slot that the check counts for
    checked_at    timestamptz      not null,             -- when it really began
    is_healthy    boolean,                               -- null: nothing was learnt
    response_time double precision check (response_time >= 0),   -- milliseconds
    status_code   integer,
    error_type    text,
    error_message text,
    metadata      jsonb            not null default '{}',
    primary key (id, scheduled_at)
) partition by range (scheduled_at);
create index watch_server_logs_by_service on watch_server_logs (service_id, scheduled_at);
create index watch_server_logs_unhealthy on watch_server_logs (service_id, scheduled_at) where is_healthy is not true;

-- Takes what no month was made for, so that a clock that is wrong never stops the writing. Months are made ahead by the checker.
create table watch_server_logs_default partition of watch_server_logs default;

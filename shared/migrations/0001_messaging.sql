-- What every service's schema has: what it wants to say (outbox), what it has heard (inbox), and the hand that keeps updated_at.

create table outbox (
    position       bigint generated always as identity primary key,   -- order of saying; claimed in this order by the relay
    event_id       uuid        not null unique,
    type           text        not null,
    correlation_id text        not null,
    body           text        not null,                              -- structured CloudEvents JSON
    created_at     timestamptz not null default now()
);

create table inbox (
    message_id text        primary key,
    claimed_at timestamptz not null default now()
);
create index inbox_by_age on inbox (claimed_at);                      -- served: forgetting what is older than any replay

create function touch_updated_at() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end
$$;

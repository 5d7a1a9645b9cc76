-- Definitions: what is checked. A removed service stays as a row, so that its versions go on if the id is used again.

create table services (
    id                 text        primary key check (id ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(id) <= 63),
    name               text        not null check (name <> ''),
    display_name       text        not null check (display_name <> ''),
    display_name_ko    text,
    description        text        not null default '',
    kind               text        not null default 'http' check (kind <> ''),
    endpoint_url       text        not null check (endpoint_url <> ''),
    status             text        not null default 'nd' check (status in ('o', 'po', 'mo', 'nd', 'e')),   -- a copy; the aggregator owns the truth
    status_version     bigint      not null default 0 check (status_version >= 0),
    is_active          boolean     not null default true,
    check_interval     integer     not null default 60000 check (check_interval >= 1000),                  -- milliseconds
    timeout            integer     not null default 5000 check (timeout >= 1),                             -- milliseconds
    failure_threshold  integer     not null default 2 check (failure_threshold between 1 and 10),
    recovery_threshold integer     not null default 2 check (recovery_threshold between 1 and 10),
    options            jsonb       not null default '{}' check (jsonb_typeof(options) = 'object'),
    metadata           jsonb       not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    version            bigint      not null default 1 check (version >= 1),                                -- of this service; grows by one
    revision           bigint      not null,                                                               -- of all definitions; see below
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    removed_at         timestamptz,
    constraint services_timeout_within_interval check (timeout < check_interval)
);
create unique index services_name_unless_removed on services (name) where removed_at is null;
create index services_by_revision on services (revision);   -- served: a checker's question for what changed since it last looked

-- The copy of the status is no change of the definition.
create trigger services_touch before update on services
    for each row when (old.status_version = new.status_version) execute function touch_updated_at();

-- One row. Every change of a definition counts it up and holds it locked until it commits: so revisions become visible in their order,
-- and a checker that has seen N needs to ask only for what is greater.
create table definitions_revision (
    only_row boolean primary key default true check (only_row),
    revision bigint  not null default 0
);
insert into definitions_revision default values;

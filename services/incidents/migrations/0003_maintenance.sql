-- Maintenance windows: announced work. incidents owns them; the aggregator keeps a copy and mutes alerts by it.

create table maintenance (
    id          uuid        primary key,                             -- chosen by the asker, so that asking twice announces once
    title       text        not null check (title <> ''),
    description text        not null default '',                     -- Markdown
    services    text[]      not null check (cardinality(services) >= 1),
    status      text        not null default 'scheduled' check (status in ('scheduled', 'in_progress', 'completed', 'cancelled')),
    starts_at   timestamptz not null,
    ends_at     timestamptz not null,                                -- as announced, until it ended; then when it did
    created_by  text        not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    version     integer     not null check (version >= 1),
    check (ends_at >= starts_at)
);
create index maintenance_to_come on maintenance (starts_at) where status in ('scheduled', 'in_progress');  -- served: what begins or ends now
create index maintenance_newest_first on maintenance (starts_at desc, id);                                 -- served: the list
create trigger maintenance_touch before update on maintenance for each row execute function touch_updated_at();

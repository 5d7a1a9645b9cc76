-- What the incidents service owns: incidents and their timelines, and what it has heard of services.

create table service (                                               -- what is known of a definition; its owner is the checker
    id         text        primary key,
    version    integer     not null default 0,                       -- 0: a status came before the definition did
    name       text        not null default '',
    is_active  boolean     not null default true,
    removed_at timestamptz,
    -- the newest status heard of; older ones change nothing
    status_version integer     not null default 0,
    status         text        not null default 'nd' check (status in ('o', 'po', 'mo', 'nd', 'e')),
    status_since   timestamptz,
    updated_at timestamptz not null default now()
);
create trigger service_touch before update on service for each row execute function touch_updated_at();

create table incident (
    id                 uuid        primary key,                      -- automatic: derived from service and status version
    title              text        not null check (title <> ''),
    description        text        not null default '',
    status             text        not null check (status in ('investigating', 'identified', 'monitoring', 'resolved')),
    severity           text        not null check (severity in ('low', 'medium', 'high', 'critical')),
    priority           text        not null check (priority in ('P1', 'P2', 'P3', 'P4')),
    affected_services  text[]      not null,
    started_at         timestamptz not null,
    identified_at      timestamptz,
    resolved_at        timestamptz,
    duration_minutes   integer     check (duration_minutes >= 0),
    impact_description text        not null default '',
    root_cause         text        not null default '',
    resolution_notes   text        not null default '',
    created_by         text        not null,
    resolved_by        text,
    metadata           jsonb       not null default '{}',
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    version            integer     not null check (version >= 1),
    service_id         text,                                         -- the service that an automatic incident follows; null: opened by hand
    first_version      integer,                                      -- the statuses that an automatic incident covers
    last_version       integer,
    constraint incident_resolved_is_complete check (
        case when status = 'resolved'
             then resolved_at is not null and duration_minutes is not null and resolved_by is not null
             else resolved_at is null and duration_minutes is null and resolved_by is null
        end
    ),
    constraint incident_ends_after_it_starts check (resolved_at >= started_at),
    constraint incident_automatic_names_statuses check ((service_id is null) = (first_version is null) and last_version >= first_version)
);
create unique index incident_one_open_per_service on incident (service_id) where service_id is not null and resolved_at is null;
create index incident_by_affected_service on incident using gin (affected_services);  -- served: the incidents of a service
create index incident_newest_first on incident (started_at desc, id);                 -- served: the list
create index incident_by_outage on incident (service_id, first_version) where service_id is not null;  -- served: is a late status covered?
create trigger incident_touch before update on incident for each row execute function touch_updated_at();

create table incident_update (
    id                  uuid        primary key,
    incident_id         uuid        not null references incident (id) on delete cascade,
    status              text        not null check (status in ('investigating', 'identified', 'monitoring', 'resolved')),
    message             text        not null,                        -- Markdown
    is_customer_visible boolean     not null default true,
    created_by          text        not null,
    metadata            jsonb       not null default '{}',
    created_at          timestamptz not null default now(),
    position            integer     not null,                        -- the incident's version that it came with
    unique (incident_id, position)                                   -- served: the timeline, oldest first
);

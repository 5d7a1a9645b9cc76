-- Who checks what in a region: its services fall into 256 shards, and each shard is one checker's at a time.

-- A row per checker, renewed twice a second: a lease is good for as long as its holder was seen lately, so that renewing all of a checker's
-- leases is one small write. By the database's clock.
create table checkers (
    region        text        not null,
    checker       text        not null,
    started_at    timestamptz not null default clock_timestamp(),   -- the order in which shares are given out; tells two runs apart
    seen_at       timestamptz not null default clock_timestamp(),
    covered_until bigint      not null,                              -- milliseconds, by the checker's clock: slots up to it were looked at
    primary key (region, checker)                                    -- served: the members of a region, and one's own renewal
) with (fillfactor = 50);                                            -- room for the next version of each row on the same page

create table shard_leases (
    region        text     not null,
    shard         smallint not null check (shard between 0 and 255),
    holder        text,                                              -- null: free
    covered_until bigint   not null default 0,                       -- milliseconds: whoever takes it begins with the slots after this
    taken_at      bigint   not null default 0,                       -- milliseconds, by the holder's clock
    primary key (region, shard)                                      -- served: all 256 of a region, which every question here is about
) with (fillfactor = 50);

-- Many definitions may share one revision: pages are cut by both columns.
create index services_by_revision_and_id on services (revision, id);   -- served: a checker's pages of what changed
drop index services_by_revision;

-- As definitions_revision, for the copies of statuses: a checker that knows those of N asks only for what is greater.
alter table services add column status_revision bigint not null default 0;
create index services_by_status_revision on services (status_revision);   -- served: a checker's question for statuses that changed
create table statuses_revision (
    only_row boolean primary key default true check (only_row),
    revision bigint  not null default 0
);
insert into statuses_revision default values;

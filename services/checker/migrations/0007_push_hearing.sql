-- When reports of jobs could be heard by any checker, so that who starts knows when nobody could: nobody is late for that time.

create table push_hearing (
    only_row boolean  primary key default true check (only_row),
    heard_ms bigint   not null default 0,               -- the newest moment of hearing, milliseconds; 0: never
    gaps     bigint[] not null default '{}',            -- oldest first: the last moment before a time without, and the first after it, …
    check (cardinality(gaps) % 2 = 0)
) with (fillfactor = 50);                               -- room for the next version on the same page
insert into push_hearing default values;

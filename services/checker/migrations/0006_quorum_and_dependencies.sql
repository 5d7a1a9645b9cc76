-- How the regions' views make one status, and what a service stands on: said here, acted upon by the aggregator.

alter table services
    add column quorum     text   not null default 'majority' check (quorum ~ '^(any|majority|all|[1-9][0-9]?)$'),
    add column depends_on text[] not null default '{}';

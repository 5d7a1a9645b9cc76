-- Degraded outcomes, confirmations, the regions that a service names, and calls that others measured. Nothing here rewrites rows.

alter table service add column regions text[] not null default '{}';    -- whose results count for the status; empty: all

alter table api_response_times rename column source to checker;          -- which checker measured; empty for reported calls
alter table api_response_times alter column checker set default '';
-- an aggregator of the version before names its checker here; what is not 'reported' is a check
alter table api_response_times add column source text not null default 'check';
alter table api_response_times add column attempt smallint not null default 0;   -- 1 and more: confirmations, for the status only
alter table api_response_times drop constraint api_response_times_outcome_check;
alter table api_response_times add constraint api_response_times_outcome_check
    check (outcome in ('healthy', 'degraded', 'failed', 'unknown')) not valid;   -- the old rows had fewer to choose from

-- How well it is, beside whether it is available. The slots that were degraded are named, so that an aggregator of the version
-- before, which does not know them, leaves nothing that contradicts itself.
alter table region_state
    add column degraded_slots    bigint[] not null default '{}',
    add column well_condition    text     not null default 'unknown' check (well_condition in ('unknown', 'up', 'down')),
    add column well_since        bigint   not null default 0,
    add column well_streak       integer  not null default 0,
    add column well_streak_since bigint   not null default 0;
update region_state
   set well_condition = base_condition, well_since = base_since, well_streak = base_streak, well_streak_since = base_streak_since;

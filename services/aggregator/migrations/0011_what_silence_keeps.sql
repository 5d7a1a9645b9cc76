-- A region that falls silent keeps what was known of it: what comes late may fill the gap. And since when a service is judged as it is.

alter table region_state add column silent_at timestamptz;              -- newest_at when silence was declared; silent while it still is the newest
drop index region_state_heard;
create index region_state_heard on region_state (newest_at)             -- served: who fell silent
 where slots <> '{}' and silent_at is distinct from newest_at;

alter table service add column asked_since timestamptz not null default 'epoch';  -- when thresholds or silence last became what they are
update service s
   set asked_since = h.since
  from (select service_id, max(since) as since from definition_history group by service_id having count(*) > 1) h
 where h.service_id = s.id;

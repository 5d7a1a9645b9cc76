-- Pauses from before definitions were kept over time (0003): the statuses of then tell them. Without this their days were `nd`, not `e`.

with pause as (
    select s.*, greatest(i.started_at, s.created_at + interval '1 millisecond') as since, i.ended_at as until
      from status_interval i join service s on s.id = i.service_id
     where i.status = 'e' and s.version > 0 and i.ended_at > s.created_at + interval '1 millisecond'
       and i.ended_at <= (select applied_at from schema_migration where name = '0003_history.sql')
), told as (
    insert into definition_history
    select id, edge.at, 0, check_interval, timeout, failure_threshold, recovery_threshold, quorum, regions, edge.watched
      from pause cross join lateral (values (since, false), (until, true)) as edge (at, watched)
        on conflict do nothing
), opened as (                                                                 -- days that were closed as `nd`, in whatever zone
    update api_call_logs l set finalized_at = null
      from pause where l.service_id = pause.id and l.total_calls = 0 and l.date between since::date - 1 and until::date + 1
)
insert into timeline_dirty (service_id, from_slot) select id, floor(extract(epoch from min(since)) * 1000) from pause group by id;

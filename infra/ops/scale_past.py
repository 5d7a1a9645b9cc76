"""What happened to the services of `db seed --scale`: outages as they were told and as they are known, what people did about them, checks.

Each service was down for seven minutes every tenth day, at a time of its own. Ten services have a contract, and maintenance once a week.
Every statement takes the numbers of the first service and of the one after the last, and when their history began ($1, $2, $3).
"""

SERVICES_OF_A_CONTRACT = 10
SERVICES_OF_A_WIDE_CONTRACT = 100
ALL_CHECKS_OF = 1_000
"""One of so many services has every check of its history; all have those of the last two hours."""

_NUMBERS = "generate_series($1::integer, $2::integer - 1) n"
# $4: how many days. Only of services that have no such history: running it again, on another day, adds nothing.
_OUTAGE = f"""
with outage as (
    select 'scale-' || n as id, n, k, at, at + interval '7 minutes' as over, md5('scale ' || n || ' outage ' || k)::uuid as key
      from {_NUMBERS}, generate_series(0, $4::integer / 10 - 1) k,
           lateral (select $3::timestamptz + k * interval '10 days' + interval '9 days' + n % 1000 * interval '1 minute' as at) begun
     where not exists (select from {{table}} t where {{is_there}}))"""
_OUTAGE_OF_SERVICE = _OUTAGE.format(table="{table}", is_there="t.service_id = 'scale-' || n")

# The first outage of each was believed to be longer for an hour. $5: the region.
SQL_TIMELINE = f"""
{_OUTAGE_OF_SERVICE.format(table="timeline")}
insert into timeline (service_id, state, started_at, ended_at, regions_down, known_from, known_until)
select id, 'up', coalesce(lag(over) over (partition by id order by k), $3), at, '{{}}'::text[], $3, null::timestamptz from outage
 union all select id, 'down', at, over, array[$5], over, null from outage
 union all select id, 'down', at, at + interval '9 minutes', array[$5], at, over from outage where k = 0
 union all select id, 'up', max(over), null, '{{}}', max(over), null from outage group by id"""

_EVIDENCE = """jsonb_build_object(
    'reason', 'Two checks in a row failed.', 'regions_down', array[$5], 'regions_up', '{}'::text[], 'regions_silent', '{}'::text[],
    'first_failed_at', at, 'confirmed_at', at + interval '1 minute',
    'checks', jsonb_build_array(
        jsonb_build_object('id', key, 'region', $5, 'scheduled_at', at, 'outcome', 'failed', 'status_code', 503, 'error_type', 'http_error',
                           'error_message', 'answered 503, expected 2xx', 'response_time_ms', 31.25),
        jsonb_build_object('id', md5(key || 'confirmed')::uuid, 'region', $5, 'scheduled_at', at + interval '1 minute', 'outcome', 'failed',
                           'status_code', 503, 'error_type', 'http_error', 'error_message', 'answered 503, expected 2xx',
                           'response_time_ms', 28.5)))"""
_WELL = """jsonb_build_object('reason', 'Every check succeeds.', 'regions_down', '{}'::text[], 'regions_up', array[$5],
                              'regions_silent', '{}'::text[], 'checks', '[]'::jsonb)"""
SQL_STATUSES = f"""
{_OUTAGE_OF_SERVICE.format(table="status_interval")}
insert into status_interval (service_id, version, status, started_at, detected_at, ended_at, evidence, first_failed_at, confirmed_at)
select id, 2 * k + 1, 'o', began, began, at, {_WELL}, null::timestamptz, null::timestamptz
  from (select *, coalesce(lag(over) over (partition by id order by k), $3) as began from outage) turn
 union all select id, 2 * k + 2, 'mo', at, at + interval '61 seconds', over, {_EVIDENCE}, at, at + interval '1 minute' from outage
 union all select id, 2 * max(k) + 3, 'o', max(over), max(over) + interval '1 second', null, {_WELL}, null, null from outage group by id"""

SQL_CONTRACTS = f"""
insert into sla_contract (id, name, target, period, rolling_days, services, partial_share, count_maintenance, count_unknown, judged_until,
                          changed_by)
select 'scale-' || n / {SERVICES_OF_A_CONTRACT}, 'Scale ' || n / {SERVICES_OF_A_CONTRACT}, 99.95,
       (array['month', 'quarter', 'rolling'])[n / {SERVICES_OF_A_CONTRACT} % 3 + 1], 30, array_agg('scale-' || n order by n), 0.3, false,
       false, now(), 'scale'
  from {_NUMBERS} where $3::timestamptz is not null group by n / {SERVICES_OF_A_CONTRACT}
 union all
select 'scale-wide-' || $1, 'Scale wide ' || $1, 99.9, 'month', 30, array_agg('scale-' || n order by n), 0.3, false, false, now(), 'scale'
  from {_NUMBERS} where n < $1 + {SERVICES_OF_A_WIDE_CONTRACT}
    on conflict do nothing"""
SQL_CONTRACT_VERSIONS = """
insert into sla_contract_version (contract_id, version, known_from, name, target, period, rolling_days, time_zone, services, partial_share,
                                  count_maintenance, count_unknown)
select id, version, $1, name, target, period, rolling_days, time_zone, services, partial_share, count_maintenance, count_unknown
  from sla_contract on conflict do nothing"""
SQL_EXCLUSIONS = f"""
insert into sla_exclusion (id, contract_id, starts_at, ends_at, reason, made_by, made_at)
select md5('scale exclusion ' || g || ' ' || m)::uuid, 'scale-' || g, at, at + interval '30 minutes', 'Power cut at the customer', 'scale',
       at
  from generate_series($1::integer / {SERVICES_OF_A_CONTRACT}, ($2::integer - 1) / {SERVICES_OF_A_CONTRACT}) g,
       generate_series(0, $4::integer / 30 - 1) m,
       lateral (select $3::timestamptz + m * interval '30 days' + interval '5 days' as at) begun
    on conflict do nothing"""
# Three of each service, every third revoked.
SQL_CORRECTIONS = f"""
{_OUTAGE_OF_SERVICE.format(table="correction")}
insert into correction (id, service_id, starts_at, ends_at, state, reason, made_by, made_at, revoked_by, revoked_at)
select md5(key || 'correction')::uuid, id, at, at + interval '3 minutes', 'up', 'The checkers were at fault; their log says so', 'scale',
       at + interval '1 day', case when k % 9 = 6 then 'scale' end, case when k % 9 = 6 then at + interval '2 days' end
  from outage where k % 3 = 0"""
_WINDOWS = f"""
select md5('scale maintenance ' || g || ' ' || w)::uuid as id, 2 as version, 'Upgrade ' || w as title, 'Nodes one by one.' as description,
       (select array_agg('scale-' || n order by n)
          from generate_series(g * {SERVICES_OF_A_CONTRACT}, (g + 1) * {SERVICES_OF_A_CONTRACT} - 1) n) as services,
       'completed' as status, at as starts_at, at + interval '1 hour' as ends_at, 'scale' as created_by,
       at - interval '3 days' as created_at
  from generate_series($1::integer / {SERVICES_OF_A_CONTRACT}, ($2::integer - 1) / {SERVICES_OF_A_CONTRACT}) g,
       generate_series(0, $4::integer / 7 - 1) w,
       lateral (select $3::timestamptz + w * interval '7 days' + interval '2 days' + g % 100 * interval '10 minutes' as at) begun
    on conflict do nothing"""
_WINDOW_COLUMNS = "(id, version, title, description, services, status, starts_at, ends_at, created_by, created_at)"
SQL_COPIED_WINDOWS = f"insert into maintenance_window {_WINDOW_COLUMNS} {_WINDOWS}"
SQL_WINDOW_VERSIONS = """
insert into maintenance_window_version (id, version, known_from, title, description, services, status, starts_at, ends_at, created_by,
                                        created_at)
select id, v.version, v.known_from, title, description, services, v.status, starts_at, ends_at, created_by, created_at
  from maintenance_window m, lateral (values (1, 'scheduled', m.created_at), (2, 'completed', m.ends_at)) as v (version, status, known_from)
    on conflict do nothing"""
SQL_WINDOWS = f"insert into maintenance {_WINDOW_COLUMNS} {_WINDOWS}"

# $4: up to when; $5: the region.
SQL_CHECKS = f"""
insert into api_response_times (id, service_id, region, scheduled_at, measured_at, outcome, is_success, response_time, status_code,
                                endpoint, method, checker)
select md5('scale ' || n || ' ' || slot)::uuid, 'scale-' || n, $5, slot, slot,
       case when failed then 'failed' else 'healthy' end, not failed,
       case when failed then null else 20 + (n + extract(epoch from slot) / 60) % 60 end, case when failed then 503 else 200 end,
       'https://api.example.com/health', 'GET', 'scale:1'
  from {_NUMBERS},
       generate_series(case when n % {ALL_CHECKS_OF} = 7 then $3::timestamptz else $4::timestamptz - interval '2 hours' end,
                       $4::timestamptz - interval '1 minute', interval '1 minute') slot,
       lateral (select mod(extract(epoch from slot - $3 - interval '9 days' - n % 1000 * interval '1 minute')::bigint, 864000) as s) since,
       lateral (select s between 0 and 419 and slot > $3 + interval '9 days' as failed) looked
    on conflict do nothing"""

SQL_HEARD_SERVICES = f"""
insert into service (id, version, name, status_version, status, status_since)
select 'scale-' || n, 1, 'Scale ' || n, 2 * ($4::integer / 10) + 1, 'o', $3::timestamptz from {_NUMBERS} on conflict do nothing"""
SQL_INCIDENTS = f"""
{_OUTAGE_OF_SERVICE.format(table="incident")}
insert into incident (id, title, description, status, severity, priority, affected_services, started_at, identified_at, resolved_at,
                      duration_minutes, created_by, resolved_by, version, service_id, first_version, last_version)
select key, 'Scale ' || n || ' is down', 'Two checks in a row failed.', 'resolved', 'high', 'P2', array[id], at, at + interval '2 minutes',
       over, 7, 'sla-monitor', 'sla-monitor', 3, id, 2 * k + 2, 2 * k + 2
  from outage on conflict do nothing"""
SQL_INCIDENT_UPDATES = f"""
{_OUTAGE.format(table="incident_update", is_there="t.id = md5('scale ' || n || ' outage ' || k || ' 1')::uuid")}
insert into incident_update (id, incident_id, status, message, created_by, created_at, position)
select md5('scale ' || n || ' outage ' || k || ' ' || place)::uuid, key, said, message, 'sla-monitor',
       at + (place - 1) * interval '3 minutes', place
  from outage, (values (1, 'investigating', 'Two checks in a row failed.'),
                       (2, 'identified', 'A deployment went wrong; it is being undone.'),
                       (3, 'resolved', 'Every check succeeds again.')) as entry (place, said, message)
    on conflict do nothing"""

# Switched off, so that nothing is checked; $4: the revision.
SQL_DEFINITIONS = f"""
insert into services (id, name, display_name, kind, endpoint_url, is_active, check_interval, timeout, revision, created_at)
select 'scale-' || n, 'Scale ' || n, 'Scale ' || n, 'tcp', 'tcp://127.0.0.1:1', false, 60000, 5000, $4::bigint, $3::timestamptz
  from {_NUMBERS} on conflict do nothing"""
SQL_REVISION = "update definitions_revision set revision = revision + 1 returning revision"

AGGREGATOR_TABLES = (
    "timeline",
    "status_interval",
    "sla_contract",
    "sla_exclusion",
    "correction",
    "sla_contract_version",
    "maintenance_window",
    "maintenance_window_version",
    "api_response_times",
)
INCIDENTS_TABLES = ("service", "incident", "incident_update", "maintenance")
CHECKER_TABLES = ("services",)

-- What is asked of years of incidents and maintenance is found without reading all of them.

create index incident_open on incident (started_at desc, id) where resolved_at is null;   -- served: the open ones
create index maintenance_by_service on maintenance using gin (services);                  -- served: the windows of a service

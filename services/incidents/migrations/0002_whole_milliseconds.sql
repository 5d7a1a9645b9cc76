-- Incidents are told with milliseconds, and pages go on from what was told: a start within a millisecond would be missed.

update incident set started_at = date_trunc('milliseconds', started_at)
 where started_at <> date_trunc('milliseconds', started_at);

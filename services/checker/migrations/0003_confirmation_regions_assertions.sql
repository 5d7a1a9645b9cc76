-- What a definition may say beside its address: when to repeat, what is too slow, from where, and what an answer must hold.

alter table services
    add column retry_interval_ms integer check (retry_interval_ms >= 1),
    add column degraded_after_ms integer check (degraded_after_ms >= 1),
    add column regions           text[]  not null default '{}',
    add column assertions        jsonb   not null default '[]' check (jsonb_typeof(assertions) = 'array');

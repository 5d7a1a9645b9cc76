-- Who may come in, who is in, and what they did.

create table users (
    id            uuid        primary key default gen_random_uuid(),
    username      text        not null unique check (username = lower(username) and username ~ '^[a-z0-9][a-z0-9._-]{1,62}$'),
    email         text        not null unique check (email = lower(email)),
    password_hash text        not null,                                  -- bcrypt
    role          text        not null check (role in ('viewer', 'reporter', 'admin')),
    is_active     boolean     not null default true,
    last_login_at timestamptz,
    metadata      jsonb       not null default '{}',
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);
create trigger users_touch before update on users for each row execute function touch_updated_at();

-- The token itself is in the cookie only: whoever reads this table cannot sign in with it.
create table sessions (
    token_hash bytea       primary key check (octet_length(token_hash) = 32),   -- SHA-256
    user_id    uuid        not null references users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index sessions_by_user on sessions (user_id);          -- served: ending all of a person's sessions
create index sessions_by_expiry on sessions (expires_at);     -- served: removing what has expired

-- A command is written here before it is sent, as `asked`; one that stays so may or may not have been carried out.
create table audit_log (
    id             bigint      generated always as identity primary key,
    at             timestamptz not null default now(),
    actor          text        not null,                                 -- user name; of a failed sign-in the name that was tried
    action         text        not null,
    subject        text        not null default '',
    outcome        text        not null check (outcome in ('asked', 'done', 'refused', 'unknown')),
    address        text        not null default '',
    correlation_id text        not null default '',
    details        jsonb       not null default '{}'
);
create index audit_log_by_time on audit_log (at desc);
create index audit_log_by_subject on audit_log (subject, at desc);

-- Ending a session is a consequence of the change, wherever the change is made from.
create function end_sessions() returns trigger language plpgsql as $$
begin
    delete from sessions where user_id = new.id;
    return null;
end
$$;
create trigger users_end_sessions after update on users for each row
    when (old.password_hash is distinct from new.password_hash or (old.is_active and not new.is_active) or old.role is distinct from new.role)
    execute function end_sessions();

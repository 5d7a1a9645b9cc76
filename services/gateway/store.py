"""SQL of the gateway's own tables: people, sessions, what was done."""

from datetime import datetime
from uuid import UUID

from services.gateway.domain.people import Credentials, Deed, Identity
from shared.contracts.codes import Role
from shared.database import Connection, affected

SQL_ADD_USER = """
insert into users (username, email, password_hash, role, created_at)
values ($1, $2, $3, $4, $5)
on conflict do nothing
returning id"""
SQL_CREDENTIALS = "select id, username, password_hash, role, is_active from users where username = $1"
SQL_SET_PASSWORD = "update users set password_hash = $2 where username = $1"  # noqa: S105  # SQL; the trigger ends the sessions
SQL_OPEN_SESSION = """
insert into sessions (token_hash, user_id, created_at, expires_at)
select $1, id, $4, $5 from users where id = $2 and password_hash = $3 and is_active   -- as it was when the password was checked
returning token_hash"""
SQL_NOTE_SIGN_IN = "update users set last_login_at = $2 where id = $1"
SQL_SESSION = """
select u.id, u.username, u.role, s.expires_at
  from sessions s join users u on u.id = s.user_id
 where s.token_hash = $1 and s.expires_at > $2 and u.is_active"""
SQL_CLOSE_SESSION = "delete from sessions where token_hash = $1"
SQL_FORGET_EXPIRED = "delete from sessions where expires_at <= $1"
SQL_ASK = """
insert into audit_log (at, actor, action, subject, outcome, address, correlation_id, details)
values ($1, $2, $3, $4, $5, $6, $7, $8)
returning id"""
SQL_OUTCOME = "update audit_log set outcome = $2 where id = $1"


async def add_user(conn: Connection, *, username: str, email: str, password_hash: str, role: Role, now: datetime) -> UUID | None:
    """Add a user; None if the name or the address is taken."""
    user_id: UUID | None = await conn.fetchval(SQL_ADD_USER, username, email, password_hash, role, now)
    return user_id


async def credentials(conn: Connection, username: str) -> Credentials | None:
    """Return what to check a sign-in against, or None if nobody is called so."""
    row = await conn.fetchrow(SQL_CREDENTIALS, username)
    return None if row is None else Credentials(row["id"], row["username"], row["password_hash"], Role(row["role"]), row["is_active"])


async def set_password(conn: Connection, username: str, password_hash: str) -> bool:
    """Replace a password, which ends the person's sessions; False if nobody is called so."""
    return affected(await conn.execute(SQL_SET_PASSWORD, username, password_hash)) == 1


async def open_session(conn: Connection, *, token_hash: bytes, known: Credentials, now: datetime, expires_at: datetime) -> bool:
    """Begin a session; False if the password changed, or the person was shut out, since `known` was read."""
    opened = await conn.fetchval(SQL_OPEN_SESSION, token_hash, known.user_id, known.password_hash, now, expires_at)
    if opened is None:
        return False
    await conn.execute(SQL_NOTE_SIGN_IN, known.user_id, now)
    await conn.execute(SQL_FORGET_EXPIRED, now)
    return True


async def session(conn: Connection, token_hash: bytes, *, now: datetime) -> Identity | None:
    """Return whose session it is, or None if it is over."""
    row = await conn.fetchrow(SQL_SESSION, token_hash, now)
    return None if row is None else Identity(row["id"], row["username"], Role(row["role"]), row["expires_at"])


async def close_session(conn: Connection, token_hash: bytes) -> None:
    """End a session."""
    await conn.execute(SQL_CLOSE_SESSION, token_hash)


async def write_deed(conn: Connection, deed: Deed, *, outcome: str) -> int:
    """Write a line of the audit log and return its id."""
    values = (deed.at, deed.actor, deed.action, deed.subject, outcome, deed.address, deed.correlation_id, deed.details)
    return int(await conn.fetchval(SQL_ASK, *values))


async def write_outcome(conn: Connection, deed_id: int, outcome: str) -> None:
    """Note how it ended."""
    await conn.execute(SQL_OUTCOME, deed_id, outcome)

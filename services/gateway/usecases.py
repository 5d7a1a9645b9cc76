"""What people do at the gateway itself: come in, go out, be created. Each database step is one short transaction."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import bcrypt

from services.gateway import store
from services.gateway.database import Database
from services.gateway.domain import passwords
from services.gateway.domain.people import Deed, Identity
from shared.contracts.checks import CallBatchV1
from shared.contracts.codes import Role
from shared.contracts.envelope import Event
from shared.contracts.registry import encode
from shared.database import Connection, is_transient
from shared.messaging import Outgoing, Publisher
from shared.rpc import NoAnswer, Refused
from shared.telemetry import correlation_id, logger
from shared.topology import CHECKS

SOURCE = "/gateway"
BCRYPT_COST = 12
TOKEN_BYTES = 32
AT_ONCE = 4
"""How many passwords are checked at once: each takes a core for a quarter of a second."""

MOST_WAITING = 40
"""How many sign-ins may wait for that: the last one some three seconds."""

log = logger(__name__)


class UserExists(Exception):  # noqa: N818  # names the fact
    """The user name or the e-mail address is taken: nothing was changed."""


class NoSuchUser(Exception):  # noqa: N818
    """Nobody is called so."""


class NotAcceptable(ValueError):  # noqa: N818
    """A field cannot be used."""

    def __init__(self, field: str, reason: str) -> None:
        """Name the field and say why."""
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


class WrongCredentials(Exception):  # noqa: N818
    """No such user, a wrong password, or somebody who was shut out: which of them is not said."""


async def create_user(  # the columns of a user
    conn: Connection, *, username: str, email: str, password: str, role: Role, now: datetime, cost: int = BCRYPT_COST
) -> UUID:
    """Add a user and return the id. Raises `UserExists` (and changes nothing), `NotAcceptable`."""
    name = passwords.normal_username(username)
    address = email.strip().lower()
    for field, fault in (("username", passwords.username_fault(name)), ("email", passwords.email_fault(address))):
        if fault:
            raise NotAcceptable(field, fault)
    digest = await _new_hash(password, username=name, cost=cost)
    user_id = await store.add_user(conn, username=name, email=address, password_hash=digest, role=Role(role), now=now)
    if user_id is None:
        msg = f"the user name {name} or its e-mail address is taken"
        raise UserExists(msg)
    return user_id


async def reset_password(conn: Connection, *, username: str, password: str, cost: int = BCRYPT_COST) -> None:
    """Replace a password and end the person's sessions. Raises `NoSuchUser`, `NotAcceptable`."""
    name = passwords.normal_username(username)
    if not await store.set_password(conn, name, await _new_hash(password, username=name, cost=cost)):
        msg = f"nobody is called {name}"
        raise NoSuchUser(msg)


async def _new_hash(password: str, *, username: str, cost: int) -> str:
    fault = passwords.password_fault(password, username=username)
    if fault:
        raise NotAcceptable("password", fault)  # noqa: EM101  # a field name
    digest = await asyncio.to_thread(bcrypt.hashpw, passwords.normal_password(password).encode(), bcrypt.gensalt(cost))
    return digest.decode()


def token_hash(token: str) -> bytes:
    """Return what is stored of a session token. Tokens are random, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).digest()


class TooBusy(Exception):  # noqa: N818
    """Too many passwords wait to be checked: this one was not."""


class Door:
    """Lets people in: the same work for everybody, known or not, so that nothing is learnt from how long it takes."""

    def __init__(self, database: Database, *, cost: int, session_for: timedelta) -> None:
        """`cost` is bcrypt's; unknown users are checked against a hash of that cost that no password fits."""
        self._database = database
        self._session_for = session_for
        self._nobody = bcrypt.hashpw(secrets.token_bytes(16).hex().encode(), bcrypt.gensalt(cost)).decode()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def sign_in(self, *, username: str, password: str, address: str, now: datetime) -> tuple[str, Identity]:
        """Check a password and begin a session; return its token.

        Raises `WrongCredentials`, `TooBusy`, or what a database that is away raises.
        """
        if self._waiting >= MOST_WAITING:
            raise TooBusy
        self._waiting += 1
        try:
            return await self._sign_in(username=username, password=password, address=address, now=now)
        finally:
            self._waiting -= 1

    async def _sign_in(self, *, username: str, password: str, address: str, now: datetime) -> tuple[str, Identity]:
        name = passwords.normal_username(username)
        async with self._database.transaction() as conn:
            known = await store.credentials(conn, name)
        fits = await self._check(password, known.password_hash if known else self._nobody)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        expires_at = now + self._session_for
        deed = Deed(now, name[:100], "session.open", name[:100], address, correlation_id(), {})
        async with self._database.transaction() as conn:
            opened = (
                known is not None
                and fits
                and await store.open_session(conn, token_hash=token_hash(token), known=known, now=now, expires_at=expires_at)
            )
            await store.write_deed(conn, deed, outcome="done" if opened else "refused")
        if known is None or not opened:
            raise WrongCredentials
        return token, Identity(known.user_id, known.username, known.role, expires_at)

    async def sign_out(self, token: str) -> None:
        """End a session, if there is one."""
        async with self._database.transaction() as conn:
            await store.close_session(conn, token_hash(token))

    async def _check(self, password: str, digest: str) -> bool:
        """Compare. A password that bcrypt would cut is never right, but takes as long as any other."""
        whole = passwords.fits(password)
        given = passwords.normal_password(password).encode() if whole else b"-"
        async with self._at_once:
            return await asyncio.to_thread(bcrypt.checkpw, given, digest.encode()) and whole


@asynccontextmanager
async def on_record(database: Database, deed: Deed) -> AsyncIterator[None]:
    """Write down what somebody is about to ask of another service, then how it ended. Without a database nothing is asked.

    A line that stays `asked` (the database went away in between) may or may not have been carried out.
    """
    async with database.transaction() as conn:
        deed_id = await store.write_deed(conn, deed, outcome="asked")
    outcome = "unknown"
    try:
        yield
        outcome = "done"
    except Refused:
        outcome = "refused"
        raise
    except NoAnswer as error:
        outcome = "unknown" if error.may_have_happened else "refused"
        raise
    finally:
        await _note_outcome(database, deed_id, outcome)


async def _note_outcome(database: Database, deed_id: int, outcome: str) -> None:
    try:
        async with database.transaction() as conn:
            await store.write_outcome(conn, deed_id, outcome)
    except Exception as error:
        if not is_transient(error):
            raise
        # The command itself is over: its answer must reach the person. The line keeps saying `asked`, which means just that.
        log.warning("audit line stays `asked`", deed=deed_id, outcome=outcome, reason=str(error))


async def report_calls(publisher: Publisher, batch: CallBatchV1, *, batch_id: UUID, now: datetime) -> None:
    """Send calls of real traffic on their way, and return when the broker has them. Raises `NotConfirmed`.

    The same id twice is the same batch: the aggregator counts its calls once.
    """
    event = Event[CallBatchV1](
        id=batch_id,
        source=SOURCE,
        type=CallBatchV1.TYPE,
        subject=batch.service_id,
        time=now,
        correlationid=correlation_id(),
        data=batch,
    )
    await publisher.publish(Outgoing(CHECKS, event.type, encode(event), str(event.id), event.correlationid))


def details_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what the audit log keeps of a request: which fields, not their values, which may be secrets."""
    return {"fields": sorted(str(name)[:100] for name in fields)[:50]}

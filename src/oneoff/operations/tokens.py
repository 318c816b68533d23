"""API tokens: who calls, and what it takes to make and revoke them. Used by the API's gate and its token routes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
from functools import cached_property
from pathlib import Path

from oneoff.core.clock import Clock
from oneoff.core.ids import CHANCE_BYTES, make_id
from oneoff.core.plan import check_token_room
from oneoff.engine.events import record
from oneoff.errors import InvalidBody, LastAdminToken, NotAllowed, NotAuthenticated
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.rates import Allowance, RequestRates
from oneoff.store import crons, idempotency, tokens
from oneoff.store.database import Database
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency
from oneoff.store.tokens import Token as Token

ADMIN_TOKEN_FILE = "admin-token"  # noqa: S105 - the name of a file, in the data folder
_PREFIX = "oneoff_"
_SECRET_BYTES = 32
_CACHED_SECONDS = 1.0  # how long another server's revocation may go unseen here
_MOST_CACHED = 1_000
_MOST_NAME = 100


class Tokens:
    """One per server process: it remembers tokens for a moment, so that not every request asks the store."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._known: dict[str, tuple[Token, float]] = {}

    @cached_property
    def _rates(self) -> RequestRates:
        return RequestRates(self._context.plans)

    @cached_property
    def _own_sha256(self) -> str | None:
        """Of the admin token in the data folder."""
        try:
            return hash_token((self._context.settings.data_dir / ADMIN_TOKEN_FILE).read_text().strip())
        except OSError:
            return None

    async def authenticate(self, text: str) -> Token:
        """Raises NotAuthenticated for an unknown or revoked token."""
        sha256 = hash_token(text)
        if (token := self._remembered(sha256)) is not None:
            return token
        found = await self._context.database.read(lambda c: tokens.find_valid(c, sha256))
        if found is None or not hmac.compare_digest(found.sha256, sha256):
            raise NotAuthenticated("the token is not known or was revoked")
        if len(self._known) >= _MOST_CACHED:
            self._known.clear()
        self._known[sha256] = (found, self._clock.monotonic() + _CACHED_SECONDS)
        return found

    def count_request(self, caller: Token) -> Allowance | None:
        """None where there is no limit: for the admin token of the data folder, and so that an admin can mend it, for
        admins of a workspace whose plan is gone or lets nobody in. Raises TooManyRequests, PlanHasNoJobs."""
        plan = self._context.plans.get(caller.plan)
        if plan is None or (caller.admin and (not plan.requests_per_minute or caller.sha256 == self._own_sha256)):
            return None
        return self._rates.count(caller.id, plan, self._clock.monotonic())

    async def create(
        self, caller: Token, name: str, *, admin: bool, request: Idempotency | None = None
    ) -> tuple[Token, str | None]:
        """The new token and its text, which nobody can read again: None when `request` was answered before. Raises
        PlanTokensUsedUp."""
        check_admin(caller, "make tokens")
        if not name.strip() or len(name) > _MOST_NAME or not name.isprintable():
            raise InvalidBody(f"name a token with 1 to {_MOST_NAME} printable characters", "name")
        text = make_token_text()
        now = self._context.clock.now()
        new = Token(self._context.new_id("token"), caller.workspace_id, name, hash_token(text), admin, now)

        def work(connection: Connection) -> Token:
            if (earlier := idempotency.find_resource(connection, request)) is not None:
                return tokens.get_token(connection, earlier)
            tokens.lock_tokens(connection, new.workspace_id)
            plan = self._context.plan(crons.find_plan(connection, new.workspace_id))
            check_token_room(plan, tokens.count_tokens(connection, new.workspace_id), self._context.plans)
            tokens.save_new(connection, new)
            self._record(connection, "token.created", new, caller)
            idempotency.save_resource(connection, request, new.id, now)
            return new

        kept = await self._context.database.run(work)
        return kept, text if kept.id == new.id else None

    async def list(self, caller: Token, limit: int, before: str | None) -> list[Token]:
        check_admin(caller, "list tokens")
        return await self._context.database.read(
            lambda c: tokens.list_tokens(c, caller.workspace_id, limit, before),
        )

    async def revoke(self, caller: Token, token_id: str) -> None:
        """At once in this process. Raises LastAdminToken: nobody could make another one."""
        check_admin(caller, "revoke tokens")
        check_id("token", token_id)
        now = self._context.clock.now()

        def work(connection: Connection) -> None:
            tokens.lock_tokens(connection, caller.workspace_id)
            token = tokens.get_token(connection, token_id)
            if token.admin and tokens.count_admin_tokens(connection, token.workspace_id) == 1:
                raise LastAdminToken
            if tokens.revoke_if_valid(connection, token_id, now):
                self._record(connection, "token.revoked", token, caller)

        await self._context.database.run(work)
        self._known.clear()

    def _record(self, connection: Connection, kind: str, token: Token, caller: Token) -> None:
        body = {"name": token.name, "admin": token.admin, "actor": caller.name}
        record(self._context, connection, kind, token.id, body)

    def _remembered(self, sha256: str) -> Token | None:
        found = self._known.get(sha256)
        if found is None or self._clock.monotonic() >= found[1]:
            return None
        return found[0] if hmac.compare_digest(found[0].sha256, sha256) else None


def check_admin(caller: Token, what: str) -> None:
    """Raises NotAllowed."""
    if not caller.admin:
        raise NotAllowed(what)


async def ensure_admin_token(database: Database, workspace_id: str, clock: Clock, path: Path) -> bool:
    """An admin token in `path`, readable by the server's user: at first start, and again when the file was lost, for
    who may write the data folder may do everything. True when it was made now.

    The file is written before the store knows the token: a crash between the two is mended by the next start.
    """
    known = await database.read(lambda c: tokens.count_admin_tokens(c, workspace_id))
    if known and await asyncio.to_thread(path.exists):
        return False
    text = _read_or_make(path)
    now = clock.now()
    token_id = make_id("token", now, os.urandom(CHANCE_BYTES))
    token = Token(token_id, workspace_id, "admin", hash_token(text), True, now)
    return await database.run(lambda c: tokens.save_new(c, token))


def make_token_text() -> str:
    return _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def hash_token(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_or_make(path: Path) -> str:
    try:
        if (text := path.read_text().strip()).startswith(_PREFIX):
            return text
    except FileNotFoundError:
        pass
    text = make_token_text()
    staged = path.with_name(f"{path.name}.new")
    staged.unlink(missing_ok=True)
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(fd)
    staged.replace(path)
    return text

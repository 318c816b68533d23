"""/tokens: for admins."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_token
from oneoff.api.bodies import CreateToken
from oneoff.api.door import API
from oneoff.api.requests import (
    Cursor,
    Limit,
    caller_of,
    idempotency_of,
    read_cursor,
    to_page,
    tokens_of,
)
from oneoff.api.shapes import NewTokenShape, Page, TokenShape

router = APIRouter(prefix=API, tags=["tokens"])


@router.post("/tokens", status_code=201, response_model=NewTokenShape)
async def create_token(body: CreateToken, request: Request) -> Response:
    """Make a token. Its text is in this answer and nowhere else: only its SHA-256 is kept."""
    idempotency = await idempotency_of(request)
    caller = caller_of(request)
    token, text = await tokens_of(request).create(caller, body.name, admin=body.admin, request=idempotency)
    return answer({**to_token(token), "token": text}, 201)


@router.get("/tokens", response_model=Page[TokenShape])
async def list_tokens(request: Request, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Valid tokens, newest first."""
    listed = await tokens_of(request).list(caller_of(request), limit + 1, read_cursor(cursor, "token"))
    return answer(to_page([to_token(each) for each in listed], limit))


@router.delete("/tokens/{token_id}", status_code=204, response_class=Response)
async def revoke_token(token_id: str, request: Request) -> Response:
    """From now on the token is refused."""
    await tokens_of(request).revoke(caller_of(request), token_id)
    return Response(status_code=204)

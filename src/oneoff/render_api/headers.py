"""The headers that every answer carries, errors included. Plain ASGI, around everything else."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oneoff.chance import take
from oneoff.core.ids import CHANCE_BYTES

_ALWAYS = {
    "Vary": "Origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Xss-Protection": "1; mode=block",
}


# For the admin token of the data folder, and for who has no token: clients want numbers.
_UNLIMITED = {"Ratelimit-Limit": "1000000", "Ratelimit-Remaining": "1000000", "Ratelimit-Reset": "60"}


class Headers:
    """With the id that the request has in the server's log: handlers find it as `request.state.request_id`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope.setdefault("state", {}).setdefault("request_id", "") or take(CHANCE_BYTES).hex()
        scope["state"]["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                headers["Render-Request-Id"] = request_id
                for name, value in _UNLIMITED.items():
                    headers.setdefault(name, value)  # the gate tells a caller's own
            await send(message)

        await self._app(scope, receive, send_with_headers)

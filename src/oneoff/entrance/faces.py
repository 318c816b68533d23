"""Several apps behind one address, told apart by the path. Made by `oneoff.server`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class Faces:
    """`others` are by the prefix of their paths, and made when they are first asked for: who does not use one pays
    nothing for it. Everything else goes to `main`."""

    def __init__(self, main: ASGIApp, others: Mapping[str, Callable[[], ASGIApp]]) -> None:
        self._main = main
        self._others = others
        self._made: dict[Callable[[], ASGIApp], ASGIApp] = {}
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = await self._app_of(scope.get("path", ""))
        await app(scope, receive, send)

    async def _app_of(self, path: str) -> ASGIApp:
        for prefix, make in self._others.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return self._made.get(make) or await self._make(make)
        return self._main

    async def _make(self, make: Callable[[], ASGIApp]) -> ASGIApp:
        """Beside the loop: what is imported for it takes a while."""
        async with self._making:
            if make not in self._made:
                self._made[make] = await asyncio.to_thread(make)
            return self._made[make]

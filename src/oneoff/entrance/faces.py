"""Several apps behind one address, told apart by the path. Made by `oneoff.server`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class Faces:
    """`others` are by the prefix of their paths, and made when they are first asked for: who does not use one pays
    nothing for it. Everything else goes to `main`."""

    def __init__(self, main: ASGIApp, others: Mapping[str, Callable[[], ASGIApp]]) -> None:
        self._main = main
        self._others = others
        self._made: dict[Callable[[], ASGIApp], ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app_of(scope.get("path", ""))(scope, receive, send)

    def _app_of(self, path: str) -> ASGIApp:
        for prefix, make in self._others.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                if make not in self._made:
                    self._made[make] = make()
                return self._made[make]
        return self._main

"""What to say of a network that the engine does not have. Called by the driver."""

from __future__ import annotations

import re
from collections.abc import Sequence

from oneoff.drivers.docker.client import Call, Engine
from oneoff.errors import NetworkUnavailable

# Ways to be connected that no list of networks has: the engines' own, and `container:NAME` and `ns:PATH`.
_MODES = frozenset({"bridge", "default", "host", "none", "pasta", "private", "slirp4netns"})
# Docker's words, then Podman's.
_NOT_FOUND = re.compile(r"network (\S+) not found|unable to find network with name or ID (\S+):")


async def check_networks(engine: Engine, names: Sequence[str]) -> None:
    """Raises NetworkUnavailable, EngineUnavailable."""
    wanted = [name for name in names if name not in _MODES and ":" not in name]
    if not wanted:
        return
    is_podman = (await engine.version()).is_podman
    listed = await engine.send(Call("GET", "/networks", read_seconds=20)) or []
    there = sorted(str(each["Name"]) for each in listed)
    for name in wanted:
        if name not in there and not any(str(each["Id"]).startswith(name) for each in listed):
            raise _unavailable(name, there, is_podman=is_podman)


def find_missing(words: str, *, is_podman: bool) -> NetworkUnavailable | None:
    """What the engine meant, if it refused a container for its network."""
    match = _NOT_FOUND.search(words)
    return _unavailable(match[1] or match[2], (), is_podman=is_podman) if match else None


def _unavailable(name: str, there: Sequence[str], *, is_podman: bool) -> NetworkUnavailable:
    program = "podman" if is_podman else "docker"
    mend = f"start the app that it belongs to ({program} compose up), or make it: `{program} network create {name}`"
    return NetworkUnavailable(f"network {name!r}", mend, there)

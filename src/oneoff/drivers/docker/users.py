"""Who a container's USER is, from the image's own passwd and group files. Pure; called by `executable`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """User and groups a command starts with."""

    uid: int
    gids: frozenset[int]
    overrides_permissions: bool


def to_identity(user: str, capabilities: Sequence[str], passwd: str, group: str) -> Identity:
    """`user` is USER of an image: empty, a name or number, with or without `:group`. Unknown names count as root's:
    the engine itself refuses them with its own words."""
    name, _, wanted_group = user.partition(":")
    entry = next((row for row in _rows(passwd) if name and name in (row[0], row[2])), None)
    uid = int(entry[2]) if entry else int(name) if name.isdigit() else 0
    gids = {int(entry[3]) if entry else 0}
    if wanted_group:
        gids = {_to_gid(wanted_group, group)}
    elif entry:
        gids |= {int(row[2]) for row in _rows(group) if entry[0] in row[3].split(",")}
    return Identity(uid, frozenset(gids), uid == 0 and "DAC_OVERRIDE" in capabilities)


def _to_gid(wanted: str, group: str) -> int:
    row = next((row for row in _rows(group) if row[0] == wanted), None)
    return int(row[2]) if row else int(wanted) if wanted.isdigit() else 0


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        row = line.split(":")
        if len(row) >= 4 and row[2].isdigit() and (row[3].isdigit() or len(row) == 4):
            yield row

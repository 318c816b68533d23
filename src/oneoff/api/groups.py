"""/concurrency-groups: how many runs of a group may be going at once."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from oneoff.api.answers import answer
from oneoff.api.bodies import PutGroup
from oneoff.api.door import API
from oneoff.api.requests import context_of
from oneoff.api.shapes import Groups, GroupShape
from oneoff.operations import groups
from oneoff.operations.groups import GroupLoad

router = APIRouter(prefix=API, tags=["groups"])


@router.get("/concurrency-groups", response_model=Groups)
async def list_groups(request: Request) -> Response:
    """All groups that a run, or somebody, has named."""
    listed = await groups.list_groups(context_of(request))
    return answer({"items": [_to_group(each) for each in listed], "next_cursor": None})


@router.put("/concurrency-groups/{name}", response_model=GroupShape)
async def set_group(name: str, body: PutGroup, request: Request) -> Response:
    """Set a group's limit, for all jobs, crons and runs that name it. Going runs are not touched."""
    return answer(_to_group(await groups.set_limit(context_of(request), name, body.limit)))


def _to_group(load: GroupLoad) -> dict[str, Any]:
    return {"name": load.group.name, "limit": load.group.limit, "going": load.going}

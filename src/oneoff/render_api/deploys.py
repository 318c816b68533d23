"""/services/{id}/deploys: list, begin, look at, cancel, go back to an earlier one."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.entrance.requests import caller_of, context_of, idempotency_of
from oneoff.errors import InvalidBody, NotFound
from oneoff.operations import deploys, services
from oneoff.operations.context import Context
from oneoff.operations.deploys import Deploy
from oneoff.render_api.answers import answer, to_listed, to_time, without_unset
from oneoff.render_api.cursors import read_id
from oneoff.render_api.queries import (
    get_limit,
    get_list,
    get_window,
    need_text,
    read_body,
    take_text,
)
from oneoff.render_api.routing import at
from oneoff.render_api.selecting import is_within, select
from oneoff.render_api.service_shapes import to_image_path
from oneoff.store.deploys import DeployStatus

_CURSOR = "depl"
# Statuses of Render's that no deploy here ever has may be asked for, too.
_KNOWN = frozenset(
    {
        *("created", "queued", "build_in_progress", "update_in_progress", "live", "deactivated", "build_failed"),
        *("update_failed", "canceled", "pre_deploy_in_progress", "pre_deploy_failed"),
    }
)
_RENAMED = {DeployStatus.IMAGE_UNAVAILABLE: "update_failed"}


def routes() -> list[BaseRoute]:
    address = "/services/{service_id}/deploys"
    return [
        at(address, GET=list_deploys, POST=create_deploy),
        at(address + "/{deploy_id}", GET=get_deploy),
        at(address + "/{deploy_id}/cancel", POST=cancel_deploy),
        at("/services/{service_id}/rollback", POST=roll_back),
    ]


async def list_deploys(request: Request) -> Response:
    context, service_id = context_of(request), request.path_params["service_id"]
    await services.get_service(context, service_id)
    before, limit = read_id(_CURSOR, request.query_params.get("cursor"), "deploy"), get_limit(request)
    statuses = get_list(request, "status")
    created, updated, finished = (get_window(request, name) for name in ("created", "updated", "finished"))
    if unknown := set(statuses) - _KNOWN:
        raise InvalidBody(f"status {min(unknown)!r} is not known: use some of {', '.join(sorted(_KNOWN))}", "status")

    def matches(each: Deploy) -> bool:
        is_timely = is_within(each.created_at, created) and is_within(each.finished_at or each.created_at, updated)
        return is_timely and is_within(each.finished_at, finished) and (not statuses or to_status(each) in statuses)

    async def fetch(most: int, behind: str | None) -> list[Deploy]:
        return (await deploys.list_deploys(context, service_id, most, behind))[0]

    listed = await select(fetch, matches, limit, before)
    return answer(to_listed("deploy", _CURSOR, [(each.id, to_deploy(each)) for each in listed]))


async def create_deploy(request: Request) -> Response:
    """Of `imageUrl`, else of the image the service has, fetched anew. It has only begun when this answers."""
    context, body = context_of(request), await read_body(request)
    service = await services.get_service(context, request.path_params["service_id"])
    if take_text(body, "commitId") is not None:
        raise InvalidBody("commitId: Oneoff builds nothing: give imageUrl", "commitId")
    if (image := take_text(body, "imageUrl") or service.image) is None:
        raise InvalidBody("imageUrl is missing: the service has no image yet", "imageUrl")
    return await _deploy(request, service.id, image)


async def get_deploy(request: Request) -> Response:
    deploy_id, service_id = request.path_params["deploy_id"], request.path_params["service_id"]
    return answer(to_deploy(await _get(context_of(request), service_id, deploy_id)))


async def cancel_deploy(request: Request) -> Response:
    """A waiting one ends at once, one whose gates are going ends with them; an ended one stays as it is."""
    context = context_of(request)
    deploy = await _get(context, request.path_params["service_id"], request.path_params["deploy_id"])
    return answer(to_deploy(await deploys.cancel_deploy(context, deploy.id, caller_of(request).name)))


async def roll_back(request: Request) -> Response:
    """The very image of an earlier deploy becomes live again, by a new deploy."""
    body, service_id = await read_body(request), request.path_params["service_id"]
    earlier = await _get(context_of(request), service_id, need_text(body, "deployId"))
    if earlier.image_ref is None:
        raise InvalidBody(f"{earlier.id} was never live: choose one that was", "deployId")
    return await _deploy(request, service_id, earlier.image_ref)


def to_status(deploy: Deploy) -> str:
    return _RENAMED.get(deploy.status, deploy.status.value)


def to_deploy(deploy: Deploy) -> dict[str, Any]:
    finished = None if deploy.finished_at is None else to_time(deploy.finished_at)
    return without_unset(
        {
            "id": deploy.id,
            "image": without_unset({"ref": to_image_path(deploy.image), "sha": deploy.digest}),
            "status": to_status(deploy),
            "trigger": "api",
            "createdAt": to_time(deploy.created_at),
            "startedAt": to_time(deploy.created_at),
            "updatedAt": finished or to_time(deploy.created_at),
            "finishedAt": finished,
        }
    )


async def _deploy(request: Request, service_id: str, image: str) -> Response:
    idempotency = await idempotency_of(request)
    context, actor = context_of(request), caller_of(request).name
    return answer(to_deploy(await deploys.begin_deploy(context, service_id, image, actor, request=idempotency)), 201)


async def _get(context: Context, service_id: str, deploy_id: str) -> Deploy:
    """Raises NotFound, also for one of another service."""
    deploy, service = await deploys.get_deploy(context, deploy_id)
    if service.id != service_id:
        raise NotFound("deploy", deploy_id, f"{service_id} has none of this id")
    return deploy

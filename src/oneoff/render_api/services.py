"""/services: list, make from an image, look at, change, suspend, resume, delete."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.core.service import ServiceType
from oneoff.entrance.requests import caller_of, context_of, idempotency_of
from oneoff.errors import InvalidBody
from oneoff.operations import services
from oneoff.operations.context import Context
from oneoff.operations.services import NewService, Service
from oneoff.operations.whole_services import (
    Equipment,
    ScheduledJob,
    WholeChange,
    change_whole_service,
    create_whole_service,
)
from oneoff.render_api.answers import answer, answer_nothing, to_listed
from oneoff.render_api.cron_jobs import find_facts
from oneoff.render_api.cursors import read_id
from oneoff.render_api.env_vars import to_changes
from oneoff.render_api.owners import check_owner, is_asked_for
from oneoff.render_api.plan_names import to_plan_name
from oneoff.render_api.projects import find_environment
from oneoff.render_api.queries import (
    get_limit,
    get_list,
    get_window,
    get_words,
    need_text,
    read_body,
    take_list,
    take_text,
)
from oneoff.render_api.routing import at
from oneoff.render_api.selecting import is_within, select
from oneoff.render_api.service_bodies import read_asked, read_kind, to_path_name
from oneoff.render_api.service_shapes import REGION, RUNTIME, to_service

_CURSOR = "serv"
_ENVIRONMENT = "production"  # where a service goes whose environment is not told
_SUSPENDED = ("suspended", "not_suspended")


def routes() -> list[BaseRoute]:
    one = "/services/{service_id}"
    return [
        at("/services", GET=list_services, POST=create_service),
        at(one, GET=get_service, PATCH=change_service, DELETE=delete_service),
        at(one + "/suspend", POST=suspend_service),
        at(one + "/resume", POST=resume_service),
    ]


async def list_services(request: Request) -> Response:
    context = context_of(request)
    before, limit = read_id(_CURSOR, request.query_params.get("cursor"), "service"), get_limit(request)
    names, kinds = get_list(request, "name"), get_words(request, "type", ServiceType)
    environments, suspended = get_list(request, "environmentId"), get_list(request, "suspended")
    created, updated = get_window(request, "created"), get_window(request, "updated")
    if not set(suspended) <= set(_SUSPENDED):
        raise InvalidBody(f"suspended must be {' or '.join(_SUSPENDED)}", "suspended")

    def matches(each: Service) -> bool:
        is_named = (not names or each.name in names) and (not kinds or each.type in kinds)
        is_there = not environments or each.environment_id in environments
        state = _SUSPENDED[0] if each.suspended else _SUSPENDED[1]
        is_timely = is_within(each.created_at, created) and is_within(each.created_at, updated)
        return is_named and is_there and is_timely and (not suspended or state in suspended)

    listed = []
    if is_asked_for(request, context) and _has_the_same_everywhere(request):
        listed = await select(lambda most, b: services.list_services(context, most, b), matches, limit, before)
    shapes = [(each.id, await _show(request, each)) for each in listed]
    return answer(to_listed("service", _CURSOR, shapes))


async def create_service(request: Request) -> Response:
    """With its variables; nothing is made when its image cannot be had."""
    context, body = context_of(request), await read_body(request)
    kind = read_kind(body)
    asked = read_asked(body, kind, context.catalogue)
    check_owner(context, need_text(body, "ownerId"))
    if asked.image is None:
        raise InvalidBody("image.imagePath is missing: Oneoff runs images that are built already", "image")
    if kind is ServiceType.CRON_JOB and asked.schedule is None:
        raise InvalidBody("serviceDetails.schedule is missing: write for example 0 3 * * *", "schedule")
    changes = to_changes(request, take_list(body, "envVars"))
    path = await _choose_path(context, body)
    idempotency = await idempotency_of(request)
    new = NewService(path, kind, asked.image, None, asked.settings())
    job = None if asked.schedule is None else ScheduledJob(asked.command, asked.schedule)
    equipment = Equipment(changes, job)
    service = await create_whole_service(context, new, equipment, caller_of(request).name, idempotency)
    shown: dict[str, Any] = {"service": await _show(request, service)}
    return answer(shown | ({"deployId": service.live_deploy_id} if service.live_deploy_id else {}), 201)


async def get_service(request: Request) -> Response:
    return answer(await _show(request, await _get(request)))


async def change_service(request: Request) -> Response:
    """Plan, image, and of a cron job its schedule and command. A deploy of an image begins."""
    context, service, body = context_of(request), await _get(request), await read_body(request)
    asked = read_asked(body, service.type, context.catalogue)
    if (name := take_text(body, "name")) is not None and to_path_name(name) != service.name:
        raise InvalidBody("a service cannot be renamed: its path is what runs and crons are known by", "name")
    change = WholeChange(asked.settings(), asked.image, asked.command, asked.schedule)
    changed = await change_whole_service(context, service.id, change, caller_of(request).name)
    return answer(await _show(request, changed))


async def delete_service(request: Request) -> Response:
    """With its saved jobs and their crons; its ended runs stay in the history."""
    await services.delete_service(context_of(request), request.path_params["service_id"], with_jobs=True)
    return answer_nothing(204)


async def suspend_service(request: Request) -> Response:
    """Crons do not fire until it is resumed. Going runs are not interrupted."""
    await services.set_suspended(context_of(request), request.path_params["service_id"], True)
    return answer_nothing(202)


async def resume_service(request: Request) -> Response:
    await services.set_suspended(context_of(request), request.path_params["service_id"], False)
    return answer_nothing(202)


async def _get(request: Request) -> Service:
    return await services.get_service(context_of(request), request.path_params["service_id"])


async def _show(request: Request, service: Service) -> dict[str, Any]:
    context = context_of(request)
    base = context.settings.public_url or f"{request.url.scheme}://{request.url.netloc}"
    url = f"{base.rstrip('/')}/services/{service.id}"
    plan = to_plan_name(service.instance_type, context.catalogue)
    return to_service(service, url, plan, await find_facts(context, service))


def _has_the_same_everywhere(request: Request) -> bool:
    """All services have the same region and runtime."""
    regions, runtimes = get_list(request, "region"), get_list(request, "env")
    return (not regions or REGION in regions) and (not runtimes or RUNTIME in runtimes)


async def _choose_path(context: Context, body: dict[str, Any]) -> str:
    """In the environment that is told, else in a project of the service's own name."""
    name = to_path_name(need_text(body, "name"))
    if (environment_id := take_text(body, "environmentId")) is None:
        return f"{name}/{_ENVIRONMENT}/{name}"
    return f"{(await find_environment(context, environment_id)).path}/{name}"

"""/services/{id}/jobs on both faces: create, list, look at, cancel. A job here is what Oneoff calls a run."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.core.command import Command, make_command
from oneoff.core.run import Run
from oneoff.entrance.requests import caller_of, context_of, idempotency_of, trigger_of
from oneoff.errors import InvalidBody, InvalidCommand, NotFound
from oneoff.operations import runs, services
from oneoff.operations.context import Context
from oneoff.operations.runs import Origin, RunRequest
from oneoff.render_api.answers import answer, to_listed
from oneoff.render_api.cursors import read_id
from oneoff.render_api.job_shapes import STATUSES, ToJob, read_job_id
from oneoff.render_api.queries import (
    get_limit,
    get_list,
    get_window,
    need_text,
    read_body,
    take_text,
)
from oneoff.render_api.routing import at
from oneoff.store.runs import RunFilter

_CURSOR = "jobs"


class Jobs:
    """The same calls with either document's Job."""

    def __init__(self, to_job: ToJob) -> None:
        self._to_job = to_job

    def routes(self) -> list[BaseRoute]:
        jobs = "/services/{service_id}/jobs"
        return [
            at(jobs, GET=self.list, POST=self.create),
            at(jobs + "/{job_id}", GET=self.get),
            at(jobs + "/{job_id}/cancel", POST=self.cancel),
        ]

    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        asked = RunRequest(_to_command(need_text(body, "startCommand")), instance_type=take_text(body, "planId"))
        idempotency = await idempotency_of(request)
        origin = Origin(caller_of(request).name, trigger_of(request))
        service_id = request.path_params["service_id"]
        run = await runs.accept_run(context_of(request), service_id, asked, origin, idempotency)
        return answer(self._to_job(run), 201)

    async def list(self, request: Request) -> Response:
        """Newest first; also of a service that is gone, as long as its runs are kept."""
        context, service_id = context_of(request), request.path_params["service_id"]
        wanted = _to_filter(request, await runs.find_service_id(context, service_id))
        before = read_id(_CURSOR, request.query_params.get("cursor"), "run")
        listed = await runs.list_runs(context, wanted, get_limit(request), before)
        if not listed and not await runs.list_runs(context, RunFilter(service_id), 1, None):
            await services.get_service(context, service_id)
        return answer(to_listed("job", _CURSOR, [(run.id, self._to_job(run)) for run in listed]))

    async def get(self, request: Request) -> Response:
        return answer(self._to_job(await _get_run(context_of(request), request)))

    async def cancel(self, request: Request) -> Response:
        """A pending job ends at once, a running one is told to end; one that has ended stays as it is."""
        context = context_of(request)
        run = await _get_run(context, request)
        return answer(self._to_job(await runs.cancel_run(context, run.id, caller_of(request).name)))


def _to_command(text: str) -> Command:
    try:
        return make_command(None, text)
    except InvalidCommand as problem:
        raise InvalidBody(f"startCommand: {problem}", "startCommand") from None


def _to_filter(request: Request, service_id: str | None) -> RunFilter:
    names = get_list(request, "status")
    for name in names:
        if name not in STATUSES:
            raise InvalidBody(f"status {name!r} is not known: use one of {', '.join(STATUSES)}", "status")
    return RunFilter(
        service_id,
        status=[status for name in names for status in STATUSES[name]],
        created=get_window(request, "created"),
        started=get_window(request, "started"),
        finished=get_window(request, "finished"),
    )


async def _get_run(context: Context, request: Request) -> Run:
    """The run of the job in the path, if it is one of the service in the path. Raises NotFound."""
    job_id, service_id = request.path_params["job_id"], request.path_params["service_id"]
    try:
        run = await runs.get_run(context, read_job_id(job_id))
    except NotFound:
        raise NotFound("job", job_id) from None
    if run.service_id != service_id:
        raise NotFound("job", job_id, f"{service_id} has none of this id")
    return run

"""What Render has and Oneoff has not: a refusal that says what there is instead."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.errors import InvalidBody
from oneoff.render_api.answers import answer
from oneoff.render_api.routing import Handler, at

_HOSTING = "Oneoff does not host the app itself: ask what does"
_FILES = "Oneoff has no secret files: give variables, or put the file into the image"
_MADE = "projects and environments are made with their first service and go with their last one"
_DISKS = "runs have no persistent disk"

# Address -> methods and why.
_ABSENT: Mapping[str, tuple[tuple[str, ...], str]] = {
    "/services/{service_id}/restart": (("POST",), _HOSTING),
    "/services/{service_id}/scale": (("POST",), _HOSTING),
    "/services/{service_id}/autoscaling": (("PUT", "DELETE"), _HOSTING),
    "/services/{service_id}/instances": (("GET",), _HOSTING),
    "/services/{service_id}/custom-domains": (("GET", "POST"), _HOSTING),
    "/services/{service_id}/headers": (("GET", "PUT", "POST"), _HOSTING),
    "/services/{service_id}/routes": (("GET", "PUT", "POST", "PATCH"), _HOSTING),
    "/services/{service_id}/preview": (("POST",), _HOSTING),
    "/services/{service_id}/cache/purge": (("POST",), _HOSTING),
    "/services/{service_id}/ephemeral-shell": (("POST",), "a run has no terminal: POST /services/{id}/jobs"),
    "/services/{service_id}/secret-files": (("GET", "PUT"), _FILES),
    "/services/{service_id}/secret-files/{name}": (("GET", "PUT", "DELETE"), _FILES),
    "/env-groups/{group_id}/secret-files/{name}": (("GET", "PUT", "DELETE"), _FILES),
    "/projects": (("POST",), _MADE),
    "/projects/{project_id}": (("PATCH", "DELETE"), _MADE),
    "/environments": (("POST",), _MADE),
    "/environments/{environment_id}": (("PATCH", "DELETE"), _MADE),
    "/disks": (("POST",), _DISKS),
    "/registrycredentials": (("POST",), "a registry's password is kept with each service: `oneoff deploy`"),
}


# Lists of what Oneoff never has: clients ask for them beside services.
_NONE = ("/postgres", "/key-value", "/redis", "/disks", "/registrycredentials", "/blueprints")


def routes(others: list[BaseRoute]) -> list[BaseRoute]:
    """Those of addresses that are not among `others`."""
    taken = {getattr(each, "path", "") for each in others}
    handlers: dict[str, dict[str, Handler]] = {path: {"GET": list_none} for path in _NONE}
    for path in _ABSENT.keys() - taken:
        handlers.setdefault(path, {}).update(refusals(path))
    return [at(path, **of_path) for path, of_path in sorted(handlers.items())]


async def list_none(_request: Request) -> Response:
    return answer([])


def refusals(path: str) -> dict[str, Handler]:
    """For the methods of an address that has others, too."""
    methods, why = _ABSENT[path]
    return {method: _refusing(why) for method in methods}


def _refusing(why: str) -> Handler:
    async def refuse(_request: Request) -> Response:
        raise InvalidBody(why)

    return refuse

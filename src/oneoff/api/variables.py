"""/services/{id}/variables and /environments/{id}/variables: read, replace, merge."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_variables
from oneoff.api.bodies import PatchVariables, PutVariables, VariableValue, to_change
from oneoff.api.door import API
from oneoff.api.requests import caller_of, context_of
from oneoff.api.shapes import VariableShape
from oneoff.operations import variables
from oneoff.operations.tokens import check_admin

router = APIRouter(prefix=API, tags=["variables"])
_Shape = dict[str, VariableShape]
_Reveal = Annotated[bool, Query(description="Show the values, also of secrets. Takes an admin token.")]


@router.get("/services/{owner_id}/variables", response_model=_Shape, name="get_service_variables")
@router.get("/environments/{owner_id}/variables", response_model=_Shape, name="get_environment_variables")
async def get_variables(owner_id: str, request: Request, reveal: _Reveal = False) -> Response:
    """Which variables there are; their values are null unless they are asked for."""
    if reveal:
        check_admin(caller_of(request), "reveal variables")
    return answer(to_variables(await variables.fetch_variables(context_of(request), owner_id), reveal=reveal))


@router.put("/services/{owner_id}/variables", response_model=_Shape, name="replace_service_variables")
@router.put("/environments/{owner_id}/variables", response_model=_Shape, name="replace_environment_variables")
async def replace_variables(owner_id: str, body: PutVariables, request: Request) -> Response:
    """Afterwards there are exactly those given. A value is text, or `{"value", "secret"}`; without `value` the present
    one is kept."""
    changes = {name: to_change(value) for name, value in body.items()}
    after = await variables.replace_variables(context_of(request), owner_id, changes)
    return answer(to_variables(after, reveal=False))


@router.patch("/services/{owner_id}/variables", response_model=_Shape, name="merge_service_variables")
@router.patch("/environments/{owner_id}/variables", response_model=_Shape, name="merge_environment_variables")
async def merge_variables(owner_id: str, body: PatchVariables, request: Request) -> Response:
    """Those given are set, null deletes one, the others stay."""
    changes = {name: _to_change(value) for name, value in body.items()}
    after = await variables.merge_variables(context_of(request), owner_id, changes)
    return answer(to_variables(after, reveal=False))


def _to_change(value: VariableValue | None) -> variables.VariableChange | None:
    return None if value is None else to_change(value)

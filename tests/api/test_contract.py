"""The API against its own description: whatever is sent, the answer is one that is described, and never a 500."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from oneoff.api.app import create_app
from oneoff.api.reference import describe_api
from tests.operations.home import Home, open_home

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Streams go on and on: they have tests of their own.
schema = schemathesis.openapi.from_dict(describe_api()).exclude(path_regex="/stream$")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = asyncio.run(open_home(tmp_path_factory.mktemp("contract")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(home: Home) -> FastAPI:
    return create_app(home.context)


@pytest.fixture(scope="module")
def ids(home: Home) -> dict[str, str]:
    service = asyncio.run(home.add_service())
    return {"service_id": service.id, "owner_id": service.id}


@schema.parametrize()
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_every_answer_is_one_that_is_described(
    case: schemathesis.Case, app: FastAPI, home: Home, ids: dict[str, str]
) -> None:
    case.path_parameters = {name: ids.get(name, value) for name, value in (case.path_parameters or {}).items()}
    headers = {"Authorization": f"Bearer {home.admin_token}"}
    response = case.call(app=app, base_url="http://test", headers=headers)
    case.validate_response(response, checks=CHECKS)

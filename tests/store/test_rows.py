"""What the store of services, deploys, variables, tokens and keys promises, on both databases."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oneoff.core.ids import make_id
from oneoff.core.image import ImageConfig
from oneoff.core.service import ServiceType, parse_path
from oneoff.errors import AmbiguousPath, IdempotencyKeyReused, NotFound
from oneoff.store import deploys, environments, idempotency, installation, services, tokens, variables
from oneoff.store.deploys import Deploy, DeployStatus
from oneoff.store.environments import Place
from oneoff.store.idempotency import Idempotency
from oneoff.store.schema import upgrade
from oneoff.store.services import Service
from oneoff.store.tokens import Token
from oneoff.store.variables import SealedVariable

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
WORKSPACE = "tea-" + "0" * 20
PLACE = Place(WORKSPACE, "shop", "production")
_numbers = itertools.count()


def new_id(kind: str) -> str:
    return make_id(kind, NOW, next(_numbers).to_bytes(8))


def service_of(name: str, environment_id: str) -> Service:
    return Service(
        id=new_id("service"), workspace_id=WORKSPACE, environment_id=environment_id, name=name,
        path=f"shop/production/{name}", type=ServiceType.WEB_SERVICE, instance_type="plan-srv-006",
        networks=("backend",), entrypoint=("tini", "--"), capabilities=("CHOWN",), read_only_root=True, user="app",
        sandbox=None, suspended=False, live_deploy_id=None, registry_username=None, registry_password_sealed=None,
        created_at=NOW,
    )  # fmt: skip


def deploy_of(service: Service) -> Deploy:
    config = ImageConfig(("tini",), ("web",), {"A": "ü"}, "/app", "app")
    status, image = DeployStatus.CREATED, "shop/web:42"
    return Deploy(new_id("deploy"), service.id, status, image, "ref", "sha256:d", config, None, "me", NOW, None)


@pytest.fixture
async def run(database: Any, anyio_backend: str) -> Callable[..., Any]:
    """Writes, on a database with a schema and a workspace."""
    await database.run(upgrade)
    await database.run(lambda c: installation.save_workspace_if_absent(c, WORKSPACE, "w", "team", NOW))
    return database.run  # type: ignore[no-any-return]


async def add_service(run: Any, name: str = "web") -> Service:
    environment_id = await run(lambda c: environments.make_environment(c, PLACE, new_id, NOW))
    service = service_of(name, environment_id)
    assert await run(lambda c: services.save_new(c, service))
    return service


async def test_a_service_comes_back_as_it_was_saved(run: Any) -> None:
    service = await add_service(run)
    assert await run(lambda c: services.get_service(c, service.id)) == service


async def test_a_path_is_taken_once(run: Any) -> None:
    service = await add_service(run)
    assert not await run(lambda c: services.save_new(c, replace(service, id=new_id("service"))))


async def test_an_environment_is_made_once_and_goes_with_its_last_service(run: Any) -> None:
    first, second = await add_service(run, "web"), await add_service(run, "worker")
    assert first.environment_id == second.environment_id
    for service, left in ((first, 1), (second, 0)):
        await run(lambda c, s=service: services.delete_with_deploys(c, s.id))
        await run(lambda c, s=service: environments.delete_if_empty(c, s.environment_id))
        assert len(await run(lambda c: environments.list_projects(c, WORKSPACE, 10, None))) == left
    with pytest.raises(NotFound):
        await run(lambda c: environments.check_environment(c, first.environment_id))


async def test_a_short_path_finds_the_only_service_and_names_the_candidates_of_several(run: Any) -> None:
    service = await add_service(run)
    short = parse_path("shop/production")
    assert await run(lambda c: services.find_by_path(c, WORKSPACE, short)) == service
    assert await run(lambda c: services.find_by_path(c, WORKSPACE, parse_path("shop/prod"))) is None
    await add_service(run, "worker")
    with pytest.raises(AmbiguousPath):
        await run(lambda c: services.find_by_path(c, WORKSPACE, short))


async def test_a_launch_has_the_live_image_or_none(run: Any) -> None:
    service = await add_service(run)
    assert (await run(lambda c: services.get_launch(c, service.id))).digest is None
    deploy = deploy_of(service)
    await run(lambda c: deploys.save_new(c, deploy))
    assert await run(lambda c: deploys.make_live_if_newest(c, deploy))
    launch = await run(lambda c: services.get_launch(c, service.id))
    assert (launch.deploy_id, launch.digest, launch.plan) == (deploy.id, "sha256:d", "team")


async def test_an_older_deploy_never_replaces_a_newer_one(run: Any) -> None:
    service = await add_service(run)
    older, newer = deploy_of(service), deploy_of(service)
    for deploy in (older, newer):
        await run(lambda c, d=deploy: deploys.save_new(c, d))
    assert await run(lambda c: deploys.make_live_if_newest(c, newer))
    assert not await run(lambda c: deploys.make_live_if_newest(c, older))
    assert await run(lambda c: deploys.end_if_unchanged(c, older, DeployStatus.CANCELED, "late", NOW))
    assert not await run(lambda c: deploys.end_if_unchanged(c, newer, DeployStatus.CANCELED, "late", NOW))
    listed = await run(lambda c: deploys.list_deploys(c, service.id, 10, None))
    assert [each.status for each in listed] == [DeployStatus.LIVE, DeployStatus.CANCELED]
    assert listed[0].image_config == newer.image_config
    assert await run(deploys.fetch_live_digests) == {"sha256:d"}


async def test_variables_are_replaced_as_a_whole_and_those_of_the_service_come_last(run: Any) -> None:
    for owner in ("evm-1", "srv-1"):
        kept = [SealedVariable(owner, name, name == "B", name.encode()) for name in "AB"]
        await run(lambda c, o=owner, k=kept: variables.replace_variables(c, o, k))
    layers = await run(lambda c: variables.fetch_layers(c, "evm-1", "srv-1"))
    assert [each.owner_id for each in layers] == ["evm-1", "evm-1", "srv-1", "srv-1"]
    await run(lambda c: variables.replace_variables(c, "srv-1", []))
    assert await run(lambda c: variables.fetch_variables(c, "srv-1")) == []


async def test_a_revoked_token_is_not_found(run: Any) -> None:
    token = Token(new_id("token"), WORKSPACE, "ci", "f" * 64, True, NOW)
    assert await run(lambda c: tokens.save_new(c, token))
    assert not await run(lambda c: tokens.save_new(c, replace(token, id=new_id("token"))))
    assert await run(lambda c: tokens.find_valid(c, token.sha256)) == token
    assert await run(lambda c: tokens.count_admin_tokens(c, WORKSPACE)) == 1
    assert await run(lambda c: tokens.revoke_if_valid(c, token.id, NOW))
    assert not await run(lambda c: tokens.revoke_if_valid(c, token.id, NOW))
    assert await run(lambda c: tokens.find_valid(c, token.sha256)) is None


async def test_a_key_belongs_to_one_token_and_request_until_it_is_forgotten(run: Any) -> None:
    key = Idempotency("tok-1", "k", "a" * 64)
    await run(lambda c: idempotency.save_resource(c, key, "run-1", NOW))
    assert await run(lambda c: idempotency.find_resource(c, key)) == "run-1"
    assert await run(lambda c: idempotency.find_resource(c, replace(key, token_id="tok-2"))) is None
    with pytest.raises(IdempotencyKeyReused):
        await run(lambda c: idempotency.find_resource(c, replace(key, request_sha256="b" * 64)))
    assert await run(lambda c: idempotency.forget_before(c, NOW)) == 0
    assert await run(lambda c: idempotency.forget_before(c, NOW + timedelta(seconds=1))) == 1
    assert await run(lambda c: idempotency.find_resource(c, key)) is None


async def test_the_first_value_of_an_installation_stays(run: Any) -> None:
    assert await run(lambda c: installation.save_value_if_absent(c, "instance", "one")) == "one"
    assert await run(lambda c: installation.save_value_if_absent(c, "instance", "two")) == "one"

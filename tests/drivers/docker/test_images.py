"""Registries, tags of strangers, and what is dropped: on a real engine with real registries."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oneoff.core.image import parse_image_ref
from oneoff.drivers.docker.credentials import to_credentials
from oneoff.drivers.docker.driver import DockerDriver
from oneoff.drivers.driver import RegistryCredentials
from oneoff.errors import ImageUnavailable
from tests.rig import images
from tests.rig.dockerd import Dockerd
from tests.rig.podman import Podman
from tests.rig.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["docker", "podman"])
async def driver(anyio_backend: str, request: pytest.FixtureRequest) -> AsyncIterator[DockerDriver]:
    engine: Dockerd | Podman = request.getfixturevalue("dockerd" if request.param == "docker" else "podman")
    driver = DockerDriver("images", engine.host)
    await driver.check()
    yield driver
    await driver.close()


async def test_a_registry_image_is_pinned_and_stays_when_its_tag_moves(
    driver: DockerDriver, registry: Registry
) -> None:
    name = registry.push("base", "shop/moves:1")
    old = await driver.prepare(parse_image_ref(name))
    assert old.digest == images.manifest_digest("base")
    assert old.ref == f"{registry.host}/shop/moves@{old.digest}"
    registry.push("wrapper", "shop/moves:1")
    assert await driver.resolve(parse_image_ref(name)) == images.manifest_digest("wrapper")
    assert await driver.prepare(parse_image_ref(old.ref)) == old
    assert (await driver.prepare(parse_image_ref(name))).config.entrypoint == ("/entry",)


async def test_an_image_the_registry_does_not_have_is_unavailable_in_its_words(
    driver: DockerDriver, registry: Registry
) -> None:
    registry.push("base", "shop/web:1")
    for name in ("shop/web:2", "shop/none:1", f"shop/web@sha256:{'0' * 64}"):
        with pytest.raises(ImageUnavailable, match=r"manifest|unknown|not found"):
            await driver.prepare(parse_image_ref(f"{registry.host}/{name}"))


async def test_a_locked_registry_needs_the_right_credentials(driver: DockerDriver, locked_registry: Registry) -> None:
    name = parse_image_ref(locked_registry.push("noshell", "shop/locked:1"))
    for wrong in (None, RegistryCredentials(USER, "wrong")):
        with pytest.raises(ImageUnavailable) as refused:
            await driver.prepare(name, wrong)
        assert "wrong" not in str(refused.value)
    prepared = await driver.prepare(name, RegistryCredentials(USER, PASSWORD))
    assert prepared.digest == images.manifest_digest("noshell")


async def test_the_docker_configuration_of_the_server_user_gives_credentials(
    driver: DockerDriver, locked_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {locked_registry.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    name = parse_image_ref(locked_registry.push("user", "shop/configured:1"))
    assert (await driver.prepare(name)).config.user == "app"


async def test_what_we_pulled_is_dropped_and_what_others_tagged_stays(driver: DockerDriver, registry: Registry) -> None:
    name = parse_image_ref(registry.push("volume", "shop/dropped:1"))
    pulled = await driver.prepare(name)
    assert pulled.digest in await driver.drop_images(frozenset(), 0)
    assert pulled.digest not in await driver.drop_images(frozenset(), 0)
    assert await driver.prepare(name) == pulled


async def test_an_image_of_the_engine_outlives_its_tag(dockerd: Dockerd) -> None:
    driver = DockerDriver("images", dockerd.host)
    await driver.check()
    dockerd.load(images.docker_archive("wrapper"))
    prepared = await driver.prepare(parse_image_ref("docker-daemon:oneoff-test/wrapper:1"))
    assert prepared.digest == images.image_id("wrapper")
    assert await driver.drop_images(frozenset(), 0) is not None
    assert "oneoff-test/wrapper" in dockerd.docker("image", "ls")
    again = await driver.prepare(parse_image_ref("docker-daemon:oneoff-test/wrapper:1"))
    dockerd.docker("rmi", "oneoff-test/wrapper:1")
    assert await driver.prepare(parse_image_ref(again.ref)) == again == prepared
    await driver.close()


async def test_an_image_only_the_engine_has_is_named_in_the_refusal(dockerd: Dockerd, registry: Registry) -> None:
    driver = DockerDriver("images", dockerd.host)
    dockerd.load(images.docker_archive("user"))
    local = f"{registry.host}/only/local:1"
    dockerd.docker("tag", "oneoff-test/user:1", local)
    with pytest.raises(ImageUnavailable, match=f"write docker-daemon:{local}"):
        await driver.prepare(parse_image_ref(local))
    dockerd.docker("rmi", local)
    await driver.close()


def test_the_default_registry_is_the_entry_that_ends_with_v1() -> None:
    auth = base64.b64encode(b"me:se:cret").decode()
    auths = {"https://index.example/v1/": {"auth": auth}, "r.example:5000": {"username": "u", "password": "p"}}
    assert to_credentials(auths, None) == RegistryCredentials("me", "se:cret")
    assert to_credentials(auths, "r.example:5000") == RegistryCredentials("u", "p")
    assert to_credentials(auths, "r.example") is None
    assert to_credentials({"r.example": {"auth": "not base64!"}}, "r.example") is None

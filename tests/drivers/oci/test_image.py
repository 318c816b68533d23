"""Images from every source, unpacked once, and dropped when nobody needs them. Real skopeo."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from oneoff.core.image import parse_image_ref
from oneoff.drivers.driver import PreparedImage, RegistryCredentials
from oneoff.drivers.oci.image import ImageStore, to_auth_file, to_image_config, to_skopeo_name
from oneoff.drivers.oci.rootfs import resolve_inside
from oneoff.errors import ImageUnavailable
from tests.rig import images
from tests.rig.dockerd import Dockerd
from tests.rig.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    (tmp_path / "state").mkdir()
    return ImageStore(tmp_path / "images", lambda: tmp_path / "state")


@pytest.fixture
def pushed(registry: Registry) -> str:
    return registry.push("base", f"shop/web:{os.urandom(3).hex()}")


async def prepare(store: ImageStore, ref: str, credentials: RegistryCredentials | None = None) -> PreparedImage:
    return await store.prepare(parse_image_ref(ref), credentials)


def test_names_are_written_as_skopeo_takes_them() -> None:
    digest = "sha256:" + "a" * 64
    assert to_skopeo_name(parse_image_ref("shop/web")) == "docker://shop/web:latest"
    assert (
        to_skopeo_name(parse_image_ref(f"r.example.com/shop/web:1@{digest}"))
        == f"docker://r.example.com/shop/web@{digest}"
    )
    assert to_skopeo_name(parse_image_ref("oci:/a/b:tag")) == "oci:/a/b:tag"
    assert to_skopeo_name(parse_image_ref("docker-daemon:web:1")) == "docker-daemon:web:1"


def test_an_image_says_how_to_run_it() -> None:
    config = to_image_config({"Env": ["A=b=c", "EMPTY="], "Cmd": None, "Entrypoint": ["/e"], "User": "app:1"})
    assert config.variables == {"A": "b=c", "EMPTY": ""}
    assert (config.entrypoint, config.command, config.user, config.working_dir) == (("/e",), (), "app:1", "")


def test_credentials_take_the_form_of_an_auth_file() -> None:
    assert to_auth_file("r:5000", RegistryCredentials("u", "p")) == {"auths": {"r:5000": {"auth": "dTpw"}}}


async def test_a_layout_is_pinned_by_its_manifest_and_survives_its_source(store: ImageStore, tmp_path: Path) -> None:
    shutil.copytree(images.busybox_layout(), tmp_path / "layout")
    made = await prepare(store, f"oci:{tmp_path}/layout:base")
    assert made.digest == images.manifest_digest("base")
    assert resolve_inside(store.root(made.digest), "bin/busybox")
    assert resolve_inside(store.root(made.digest), "srv/removed") is None
    shutil.rmtree(tmp_path / "layout")
    assert await prepare(store, made.ref) == made
    assert await store.resolve(parse_image_ref(made.ref), None) == made.digest


async def test_an_archive_is_pinned_by_its_image_id_and_survives_its_source(store: ImageStore, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(images.docker_archive("user").read_bytes())
    ref = f"docker-archive:{archive}"
    assert await store.resolve(parse_image_ref(ref), None) == images.image_id("user")
    made = await prepare(store, ref)
    assert (made.digest, made.config.user) == (images.image_id("user"), "app")
    archive.unlink()
    assert await prepare(store, made.ref) == made


async def test_zstd_layers_are_unpacked(store: ImageStore) -> None:
    made = await prepare(store, images.image_ref("zstd"))
    assert made.digest == images.manifest_digest("zstd")
    assert resolve_inside(store.root(made.digest), "bin/busybox")


async def test_a_registrys_tag_is_pinned_and_prepared_again_without_it(
    store: ImageStore, registry: Registry, pushed: str
) -> None:
    made = await prepare(store, pushed)
    assert made.digest == images.manifest_digest("base") == await store.resolve(parse_image_ref(pushed), None)
    assert made.ref.endswith(f"@{made.digest}")
    registry.stop()
    try:
        assert await prepare(store, made.ref) == made
    finally:
        registry.start()


async def test_credentials_open_a_locked_registry_and_leave_no_file(
    store: ImageStore, locked_registry: Registry, tmp_path: Path
) -> None:
    ref = locked_registry.push("noshell", "shop/locked:1")
    with pytest.raises(ImageUnavailable, match=r"(?i)unauthorized|authentication required"):
        await prepare(store, ref)
    made = await prepare(store, ref, RegistryCredentials(USER, PASSWORD))
    assert made.digest == images.manifest_digest("noshell")
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize(
    "ref",
    ["oci:/no/such/layout:base", "docker-archive:/no/such.tar", "127.0.0.1:1/shop/web:1", "docker-daemon:no-such:1"],
)
async def test_what_cannot_be_had_is_told_in_skopeos_words(
    store: ImageStore, tmp_path: Path, ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ImageUnavailable) as failed:
        await prepare(store, ref)
    assert failed.value.detail
    with pytest.raises(ImageUnavailable):
        await store.resolve(parse_image_ref(ref), None)
    assert list((tmp_path / "images").glob(".staging*")) == []


async def test_an_image_of_the_local_docker_is_pinned_by_its_id(
    store: ImageStore, dockerd: Dockerd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", dockerd.host)
    dockerd.docker("load", "-i", str(images.docker_archive("noshell")))
    made = await prepare(store, "docker-daemon:oneoff-test/noshell:1")
    assert made.digest == images.image_id("noshell")
    assert await prepare(store, made.ref) == made


async def test_callers_at_once_share_one_unpacking(store: ImageStore, tmp_path: Path) -> None:
    made = await asyncio.gather(*(prepare(store, images.image_ref("base")) for _ in range(5)))
    assert len(set(map(repr, made))) == 1
    assert sorted(path.name[:7] for path in (tmp_path / "images").iterdir()) == [".lock", "layers", "sha256-"]


async def test_images_used_longest_ago_are_dropped_first_and_kept_ones_never(store: ImageStore) -> None:
    made = [await prepare(store, images.image_ref(tag)) for tag in ("base", "noshell", "user")]
    for age, image in enumerate(made):
        moment = 1_000_000 + age
        os.utime(store.root(image.digest).folder / "image.json", (moment, moment))
    assert await store.drop(frozenset(), 1 << 40) == []
    assert await store.drop(frozenset({made[0].digest}), 0) == [made[1].digest, made[2].digest]
    with pytest.raises(ImageUnavailable, match="deploy it again"):
        await prepare(store, made[1].ref)
    assert (await prepare(store, made[0].ref)) == made[0]


async def test_a_crashed_unpacking_is_swept_and_a_going_one_is_not(store: ImageStore, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for name in ("dead", "alive"):
        (folder / f".staging-{name}/layout").mkdir(parents=True)
        (folder / f".staging-{name}.lock").touch()
    with (folder / ".staging-alive.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store.sweep()
        assert {path.name for path in folder.iterdir()} == {".lock", ".staging-alive", ".staging-alive.lock"}

"""Images: pinned, local, kept apart from other people's."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from oneoff.core.image import parse_image_ref
from oneoff.errors import CommandNotFound, ImageUnavailable
from tests.drivers import commands
from tests.drivers.bench import Bench
from tests.rig import images


async def test_prepare_is_idempotent_and_its_ref_names_the_same_content(bench: Bench) -> None:
    first = await bench.image()
    assert first == await bench.image()
    assert await bench.driver.prepare(parse_image_ref(first.ref)) == first
    assert first.digest == images.manifest_digest("base")
    assert await bench.driver.resolve(parse_image_ref(bench.rig.image_refs["base"])) == first.digest


async def test_concurrent_prepares_share_the_work(bench: Bench) -> None:
    found = await asyncio.gather(*(bench.image("wrapper") for _ in range(5)))
    assert len({image.digest for image in found}) == 1


async def test_the_configuration_of_an_image_is_told(bench: Bench) -> None:
    bench.needs("inside")
    config = (await bench.image("wrapper")).config
    assert config.entrypoint == ("/entry",)
    assert config.command == ("sh", "-c", "echo default command")
    assert config.working_dir == "/work"
    assert config.variables["IMAGE_SAYS"] == "hello"
    assert (await bench.image("user")).config.user == "app"


@pytest.mark.parametrize("tag", ["no-such-tag", "base-2"])
async def test_an_image_that_is_not_there_is_unavailable(bench: Bench, tag: str) -> None:
    ref = parse_image_ref(f"oci:{images.busybox_layout()}:{tag}")
    for call in (bench.driver.prepare, bench.driver.resolve):
        with pytest.raises(ImageUnavailable):
            await call(ref)


async def test_what_was_prepared_outlives_its_source(bench: Bench, tmp_path: Path) -> None:
    bench.needs("inside")
    layout = tmp_path / "layout"
    shutil.copytree(images.busybox_layout(), layout)
    prepared = await bench.driver.prepare(parse_image_ref(f"oci:{layout}:noshell"))
    shutil.rmtree(layout)
    assert await bench.driver.prepare(parse_image_ref(prepared.ref)) == prepared
    assert (await bench.run(commands.ECHO, image=prepared)).stdout == b"no shell here\n"


async def test_a_moved_tag_gives_the_new_digest_and_leaves_the_old_one_pinned(bench: Bench, tmp_path: Path) -> None:
    bench.needs("inside")
    layout = tmp_path / "layout"
    shutil.copytree(images.busybox_layout(), layout)
    moving = parse_image_ref(f"oci:{layout}:base")
    old = await bench.driver.prepare(moving)
    _move_tag(layout, "base", "wrapper")
    assert await bench.driver.resolve(moving) == images.manifest_digest("wrapper")
    new = await bench.driver.prepare(moving)
    assert new.digest == images.manifest_digest("wrapper") != old.digest
    assert (await bench.driver.prepare(parse_image_ref(old.ref))).config.entrypoint == ()


@pytest.mark.parametrize("tag", ["zstd", "noshell"])
async def test_other_images_run_too(bench: Bench, tag: str) -> None:
    assert (await bench.run(commands.ECHO, image=await bench.image(tag))).stdout == b"no shell here\n"


async def test_a_shell_in_an_image_without_one_is_not_found(bench: Bench) -> None:
    bench.needs("inside")
    with pytest.raises(CommandNotFound):
        await bench.create(("/bin/sh", "-c", "true"), image=await bench.image("noshell"))


async def test_a_docker_archive_is_pinned_to_its_image_id(bench: Bench) -> None:
    bench.needs("inside")
    prepared = await bench.driver.prepare(parse_image_ref(f"docker-archive:{images.docker_archive('user')}"))
    assert prepared.digest == images.image_id("user")
    assert (await bench.sh("id -un", image=prepared)).stdout == b"app\n"
    with pytest.raises(ImageUnavailable):
        await bench.driver.prepare(parse_image_ref("docker-archive:/no/such/archive.tar"))


async def test_images_beyond_the_budget_are_dropped_except_those_kept_or_in_use(bench: Bench) -> None:
    base, wrapper, noshell = [await bench.image(tag) for tag in ("base", "wrapper", "noshell")]
    handle = await bench.create(commands.TRUE, image=base)
    dropped = await bench.driver.drop_images(frozenset({wrapper.digest}), 0)
    assert noshell.digest in dropped
    assert not {base.digest, wrapper.digest} & set(dropped)
    assert noshell.digest not in await bench.driver.drop_images(frozenset({wrapper.digest}), 0)
    assert await bench.image("noshell") == noshell
    await bench.driver.remove(handle)


async def test_nothing_is_dropped_within_the_budget(bench: Bench) -> None:
    await bench.image()
    assert await bench.driver.drop_images(frozenset(), 1 << 40) == []


def _move_tag(layout: Path, tag: str, target: str) -> None:
    key = "org.opencontainers.image.ref.name"
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"] = [m for m in index["manifests"] if m["annotations"][key] != tag]
    next(m for m in index["manifests"] if m["annotations"][key] == target)["annotations"][key] = tag
    (layout / "index.json").write_text(json.dumps(index))

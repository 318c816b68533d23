"""Layers of images: unpacked once, shared, dropped with the last image that has them; no archive reaches outside."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from oneoff.core.image import ImageRef, parse_image_ref
from oneoff.drivers.driver import PreparedImage
from oneoff.drivers.oci import linux
from oneoff.drivers.oci.image import ImageStore
from oneoff.drivers.oci.imagefolder import ImageFolder
from oneoff.drivers.oci.layer import inside
from oneoff.drivers.oci.layout import read_layout, to_chain_ids
from oneoff.drivers.oci.rootfs import resolve_inside
from oneoff.errors import ImageUnavailable
from tests.drivers.oci.conftest import Workbench
from tests.rig import images, layout
from tests.rig.layout import Entry, Image
from tests.rig.registry import Registry

pytestmark = pytest.mark.anyio

OPAQUE = ".wh..wh..opq"
NOTHING: frozenset[str] = frozenset()
WANTED = 1 << 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> ImageStore:
    (tmp_path / "state").mkdir()
    return ImageStore(folder, lambda: tmp_path / "state")


class Shop:
    """A layout whose images a test makes up."""

    def __init__(self, store: ImageStore, folder: Path) -> None:
        self.folder = folder
        self._store = store

    async def prepare(self, *layers: tuple[Entry, ...], compression: str = "gzip") -> PreparedImage:
        made = self.write("it", Image(layers, {"Cmd": ["true"]}, compression))
        return await self._store.prepare(parse_image_ref(made), None)

    def write(self, name: str, image: Image) -> str:
        target = self.folder / f"{name}-{os.urandom(4).hex()}"
        layout.write_layout(target, {"tag": image})
        return f"oci:{target}:tag"

    @contextmanager
    def merged(self, image: PreparedImage) -> Iterator[Path]:
        """What a run would see."""
        root, work = self._store.root(image.digest), self.folder / os.urandom(4).hex()
        for name in ("upper", "work", "seen"):
            (work / name).mkdir(parents=True)
        here = Path.cwd()
        os.chdir(root.folder)
        try:
            layers = ":".join(root.layers)
            linux.mount_overlay(f"{work}/seen", f"lowerdir={layers},upperdir={work}/upper,workdir={work}/work")
        finally:
            os.chdir(here)
        try:
            yield work / "seen"
        finally:
            linux.unmount(f"{work}/seen")

    def names(self, image: PreparedImage) -> set[str]:
        """All that is in it; and the driver's own look into the layers agrees with the kernel's."""
        with self.merged(image) as seen:
            found = {path.relative_to(seen).as_posix() for path in seen.rglob("*")}
        root = self._store.root(image.digest)
        assert {name for name in found if resolve_inside(root, name) is None} == set()
        return found


@pytest.fixture
def shop(store: ImageStore, tmp_path: Path) -> Shop:
    return Shop(store, tmp_path)


def file(path: str, text: str = "", mode: int = 0o644) -> Entry:
    return Entry(path, text.encode(), mode)


def link(path: str, target: str, *, hard: bool = False) -> Entry:
    return Entry(path, link=target, hard=hard)


def names_of_layers(folder: Path) -> set[str]:
    return {path.name for path in (folder / "layers").iterdir()}


class TestTrees:
    async def test_whiteouts_and_opaque_folders_hide_what_lies_below(self, shop: Shop, store: ImageStore) -> None:
        lower = (file("kept/a"), file("kept/b"), file("opaque/old"), file("gone/old"), file("again/old"), file("x"))
        upper = (
            file("kept/.wh.a"),
            file("opaque/new"),
            file(f"opaque/{OPAQUE}"),
            file(".wh.gone"),
            file("again/new"),
            file(".wh.again"),
            file(".wh.never-there"),
            file("no/such/.wh.folder"),
            *(file(f"kept/.wh.{name}") for name in ("", ".", "..")),
        )
        image = await shop.prepare(lower, upper, (file(".wh.x"),), (file("x/is-a-folder"),))
        expected = {"kept", "kept/b", "opaque", "opaque/new", "again", "again/new", "x", "x/is-a-folder"}
        assert shop.names(image) == expected
        for name in ("kept/a", "opaque/old", "gone", "again/old", "kept/.wh.a"):
            assert resolve_inside(store.root(image.digest), name) is None

    async def test_what_is_already_there_is_replaced_and_folders_are_merged(self, shop: Shop) -> None:
        lower = (file("f", "old"), file("d/old"), link("l", "d"), file("to-folder"), file("to-file/x"), file("twice"))
        upper = (
            file("f", "new"),
            Entry("d", mode=0o700),
            file("d/new"),
            Entry("l"),
            Entry("to-folder"),
            file("to-file", "file"),
            file("twice", "1"),
            file("twice", "2"),
        )
        image = await shop.prepare(lower, upper)
        assert shop.names(image) == {"f", "d", "d/old", "d/new", "l", "to-folder", "to-file", "twice"}
        with shop.merged(image) as seen:
            assert [(seen / name).read_text() for name in ("f", "to-file", "twice")] == ["new", "file", "2"]
            assert (seen / "d").stat().st_mode & 0o7777 == 0o700
            assert not (seen / "l").is_symlink()

    async def test_files_through_links_of_lower_layers_and_hard_links_into_them(self, shop: Shop) -> None:
        lower = (Entry("usr/lib"), link("lib", "usr/lib"), link("var/run", "/run"), file("tool", "tool", 0o4755))
        image = await shop.prepare(lower, (file("lib/so"), file("var/run/pid"), link("same", "tool", hard=True)))
        with shop.merged(image) as seen:
            assert (seen / "usr/lib/so").exists()
            assert (seen / "run/pid").exists()
            assert (seen / "lib").is_symlink()
            tool, same = (seen / "tool").stat(), (seen / "same").stat()
            assert (tool.st_ino, tool.st_nlink) == (same.st_ino, 2)
            assert (seen / "same").read_text() == "tool"
            assert same.st_mode & 0o7777 == 0o4755

    async def test_owners_modes_times_and_attributes_are_the_archives(self, shop: Shop) -> None:
        exact, capability = "1700000000.123456789", "\x01\x00\x00\x02" + "\x00" * 16
        lower = (
            Entry("home", mode=0o2750, uid=7, pax={"mtime": exact}),
            Entry(
                "home/f",
                b"x",
                0o6711,
                uid=1000,
                pax={
                    "mtime": exact,
                    "SCHILY.xattr.user.note": "Grüße",
                    "SCHILY.xattr.security.capability": capability,
                    "SCHILY.xattr.trusted.overlay.opaque": "y",
                },
            ),
            Entry("home/l", link="f", uid=1001, pax={"mtime": exact}),
            Entry("null", device=(1, 3), mode=0o666),
            Entry("whiteout", device=(0, 0)),
        )
        image = await shop.prepare(lower, (file("home/later"), file("null/../made/deep")))
        with shop.merged(image) as seen:
            home, made, linked = (seen / "home").stat(), (seen / "home/f").stat(), (seen / "home/l").lstat()
            assert (home.st_mode & 0o7777, home.st_uid, made.st_mode & 0o7777) == (0o2750, 7, 0o6711)
            assert (made.st_uid, made.st_gid, linked.st_uid) == (1000, 1000, 1001)
            # Of a folder that only got something new in it, too.
            moments = {home.st_mtime_ns, made.st_mtime_ns, linked.st_mtime_ns}
            assert moments == {1_700_000_000_123_456_789}
            assert os.getxattr(seen / "home/f", "user.note").decode() == "Grüße"
            assert os.getxattr(seen / "home/f", "security.capability") == capability.encode()
            assert (seen / "null").stat().st_rdev == os.makedev(1, 3)
            assert (seen / "made").stat().st_mode & 0o7777 == 0o755
            assert not os.path.lexists(seen / "whiteout")
        lowest = resolve_inside(replace(shop._store.root(image.digest), layers=("0",)), "/home/f")
        assert lowest is not None
        assert not [name for name in os.listxattr(lowest) if name.startswith("trusted")]

    async def test_a_layer_depends_on_what_lies_below_it(self, shop: Shop) -> None:
        top = (file("d/.wh.a"), file("d/new"))
        without = await shop.prepare((file("x"),), top)
        over = await shop.prepare((file("d/a"), file("d/b")), top)
        assert shop.names(without) == {"x", "d", "d/new"}
        assert shop.names(over) == {"d", "d/b", "d/new"}

    async def test_empty_layers_and_the_same_layer_again(self, shop: Shop) -> None:
        one, two = (file("d/one"),), (file("d/.wh.one"), file("d/two"))
        image = await shop.prepare(one, (), two, (), (), one)
        assert shop.names(image) == {"d", "d/one", "d/two"}

    async def test_a_layer_that_makes_folders_and_then_something_else_in_their_place(self, shop: Shop) -> None:
        moment = {"mtime": "1700000000"}
        entries = (
            Entry("a/b", pax=moment),
            Entry("a", b"file", 0o644, pax=moment),
            Entry("loop/b"),
            link("loop", "loop"),
            Entry("away/b"),
            link("away", "nowhere"),
        )
        with shop.merged(await shop.prepare(entries)) as seen:
            assert {path.name for path in seen.rglob("*")} == {"a", "loop", "away"}
            assert (seen / "a").read_text() == "file"
            assert (seen / "a").stat().st_mtime == 1_700_000_000

    async def test_times_that_are_none_hinder_nothing(self, shop: Shop) -> None:
        odd = ("soon", "nan", "inf", "-inf", "1e400", "9" * 30, "-" + "9" * 30, "1e" + "9" * 30, "1.5.2")
        image = await shop.prepare(tuple(Entry(f"f{n}", b"", pax={"mtime": text}) for n, text in enumerate(odd)))
        with shop.merged(image) as seen:
            moments = [(seen / f"f{n}").stat().st_mtime for n in range(len(odd))]
        assert (moments[0], moments[1], moments[8]) == (0, 0, 0)
        assert moments[3] == moments[6] < 0 < moments[2] == moments[4] == moments[5]

    async def test_an_archive_of_no_bytes_is_an_empty_layer(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        to_tar = layout.to_tar
        monkeypatch.setattr(layout, "to_tar", lambda entries: to_tar(entries) if entries else b"")
        assert shop.names(await shop.prepare((), (file("x"),), ())) == {"x"}

    async def test_an_image_without_layers(self, shop: Shop) -> None:
        assert shop.names(await shop.prepare()) == set()

    @pytest.mark.parametrize("compression", ["zstd", "gzip"])
    async def test_compressed_layers(self, shop: Shop, compression: str) -> None:
        big = os.urandom(3 << 20)
        image = await shop.prepare((Entry("big", big, 0o644),), compression=compression)
        with shop.merged(image) as seen:
            assert (seen / "big").read_bytes() == big


class TestHostileArchives:
    """`outside` stands for the machine: nothing of it may change, or come into the image."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Iterator[Path]:
        folder = tmp_path / "machine"
        (folder / "etc").mkdir(parents=True)
        (folder / "etc/secret").write_text("secret")
        yield folder / "etc"
        assert {path.name for path in folder.rglob("*")} == {"etc", "secret"}
        assert (folder / "etc/secret").read_text() == "secret"
        assert (folder / "etc/secret").stat().st_nlink == 1

    async def test_names_that_climb_stay_inside(self, shop: Shop, outside: Path) -> None:
        climb = "../" * 30
        entries = (file(f"{climb}{outside}/climbed"), file(f"{outside}/absolute"), file("a/../../up"), Entry(".."))
        image = await shop.prepare(entries, entries)
        inside = outside.relative_to("/").as_posix()
        assert {f"{inside}/climbed", f"{inside}/absolute", "up"} <= shop.names(image)

    @pytest.mark.parametrize("target", ["{0}", "../../../../../../../../../..{0}"])
    async def test_links_lead_nowhere_but_inside(self, shop: Shop, outside: Path, target: str) -> None:
        out, over = link("out", target.format(outside)), (file("out/planted"), file("out/secret", "changed"))
        holes = (file("out/.wh.secret"), file(f"out/{OPAQUE}"), file(".wh.out/secret"))
        inside = outside.relative_to("/").as_posix()
        for layers in (((out, *over),), ((out,), over), ((out,), holes), ((out, *holes),)):
            await shop.prepare(*layers)
        image = await shop.prepare((out,), over)
        assert {f"{inside}/planted", f"{inside}/secret"} <= shop.names(image)

    async def test_hard_links_take_nothing_from_outside(self, shop: Shop, outside: Path) -> None:
        for target in (f"{outside}/secret", f"../../../../../../..{outside}/secret", "out/secret"):
            entries = (link("out", str(outside)), link("taken", target, hard=True))
            for layers in ((entries,), ((file("x"),), entries)):
                with pytest.raises(ImageUnavailable, match="cannot be unpacked"):
                    await shop.prepare(*layers)

    async def test_a_folder_through_a_link_is_not_made_outside(self, shop: Shop, outside: Path) -> None:
        out = link("out", str(outside))
        image = await shop.prepare((out, Entry("out/made", mode=0o777), Entry("out", mode=0o777)))
        assert "out" in shop.names(image)

    def test_code_of_the_image_is_not_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "site").mkdir()
        (tmp_path / "site/of_the_image.py").write_text("")
        monkeypatch.syspath_prepend("/site")
        with inside(tmp_path):
            assert Path("/site/of_the_image.py").exists()
            with pytest.raises(ModuleNotFoundError, match="while an image is the root"):
                importlib.import_module("of_the_image")
        assert (tmp_path / "site").exists()

    async def test_a_layer_that_is_not_what_the_configuration_names_is_refused(
        self, shop: Shop, store: ImageStore, folder: Path
    ) -> None:
        """Else one image could put its files into the layers of another."""
        honest, evil = (file("x", "honest"),), (file("x", "evil"),)
        ref = shop.write("forged", Image((evil,)))
        _forge(Path(ref.split(":")[1]), layout.digest_of(layout.to_tar(honest)))
        with pytest.raises(ImageUnavailable, match="not the one that its configuration names"):
            await store.prepare(parse_image_ref(ref), None)
        assert list(folder.glob("layers/*")) == []
        with shop.merged(await shop.prepare(honest)) as seen:
            assert (seen / "x").read_text() == "honest"

    async def test_a_layer_that_is_named_by_a_path_is_refused(
        self, shop: Shop, store: ImageStore, tmp_path: Path
    ) -> None:
        """Else a folder `tree` of the machine could be a layer."""
        (tmp_path / "tree").mkdir()
        up = f"sha256:{'../' * 20}{str(tmp_path).lstrip('/')}"
        for diff_id in (str(tmp_path), up, up.removeprefix("sha256:"), "sha256:", f"md5:{'0' * 32}"):
            ref = shop.write("forged", Image(((file("x"),),)))
            _forge(Path(ref.split(":")[1]), diff_id)
            with pytest.raises(ImageUnavailable, match="is no digest of a layer"):
                await store.prepare(parse_image_ref(ref), None)


def _put(target: Path, value: object) -> dict[str, object]:
    data = json.dumps(value).encode()
    (target / "blobs/sha256" / hashlib.sha256(data).hexdigest()).write_bytes(data)
    return {"digest": layout.digest_of(data), "size": len(data)}


def _put_behind_index(target: Path) -> None:
    """As images of several architectures are, the only image of a layout."""
    index = json.loads((target / "index.json").read_bytes())
    (tagged,) = index["manifests"]
    inner = {**index, "manifests": [{key: tagged[key] for key in ("mediaType", "digest", "size")}]}
    inner["manifests"][0]["platform"] = {"os": "linux", "architecture": layout.own_architecture()}
    index["manifests"] = [tagged | _put(target, inner) | {"mediaType": index["mediaType"]}]
    (target / "index.json").write_text(json.dumps(index))


def _forge(target: Path, diff_id: str) -> None:
    """Have the only image of a layout name another layer."""

    def get(entry: dict[str, str]) -> dict[str, object]:
        return json.loads((target / "blobs" / entry["digest"].replace(":", "/")).read_bytes())

    index = json.loads((target / "index.json").read_bytes())
    manifest = get(index["manifests"][0])
    config = get(manifest["config"])
    config["rootfs"]["diff_ids"] = [diff_id]
    manifest["config"] |= _put(target, config)
    index["manifests"][0] |= _put(target, manifest)
    (target / "index.json").write_text(json.dumps(index))


BASE, MIDDLE = (file("base", "b" * 100_000),), (file("middle", "m" * 100_000),)


class TestSharing:
    async def test_the_next_image_copies_and_unpacks_its_top_layer_alone(
        self, shop: Shop, store: ImageStore, folder: Path
    ) -> None:
        first = await shop.prepare(BASE, MIDDLE, (file("app", "1"),))
        before = {path: path.stat().st_mtime_ns for path in folder.glob("layers/*/layer.json")}
        ref = shop.write("next", Image((BASE, MIDDLE, (file("app", "2"),))))
        for layer in read_layout(Path(ref.split(":")[1])).layers[:2]:
            layer.blob.unlink()  # copying it would fail
        second = await store.prepare(parse_image_ref(ref), None)
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert len(names_of_layers(folder)) == 4
        assert shop.names(first) == shop.names(second) == {"base", "middle", "app"}

    async def test_a_skopeo_that_cannot_leave_out_the_tags_copies_all(
        self, shop: Shop, store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = ImageStore._skopeo

        async def as_in_ubuntu_22(store: ImageStore, image: ImageRef, *arguments: str) -> bytes:
            return await call(store, image, *(word.replace("--no-tags", "--no-tags-") for word in arguments))

        monkeypatch.setattr(ImageStore, "_skopeo", as_in_ubuntu_22)
        await shop.prepare(BASE)
        ref = shop.write("next", Image((BASE, MIDDLE)))
        _put_behind_index(Path(ref.split(":")[1]))
        assert shop.names(await store.prepare(parse_image_ref(ref), None)) == {"base", "middle"}
        assert len(names_of_layers(folder)) == 2

    async def test_an_image_of_several_architectures_shares_its_layers(self, shop: Shop, store: ImageStore) -> None:
        await shop.prepare(BASE)
        ref = shop.write("next", Image((BASE, MIDDLE)))
        target = Path(ref.split(":")[1])
        read_layout(target).layers[0].blob.unlink()  # copying it would fail
        _put_behind_index(target)
        assert shop.names(await store.prepare(parse_image_ref(ref), None)) == {"base", "middle"}

    async def test_a_registry_is_asked_for_the_new_layers_alone(
        self, store: ImageStore, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And for its manifest no more often than is needed: that is what registries limit."""
        number, sizes, asked, call = os.urandom(3).hex(), [], [], ImageStore._call

        async def look_at_copies(self: ImageStore, image: ImageRef, *argv: str) -> bytes:
            words = await call(self, image, *argv)
            asked.extend(argv[1:2] if argv[0] == "skopeo" else ())
            if "copy" in argv:
                sizes.append([path.stat().st_size for path in Path(argv[-1].split(":")[1]).glob("blobs/sha256/*")])
            return words

        monkeypatch.setattr(ImageStore, "_call", look_at_copies)
        for tag in ("base", "volume"):
            await store.prepare(parse_image_ref(registry.push(tag, f"shop/{tag}:{number}")), None)
        first, second = sizes
        assert 0 not in first
        assert second.count(0) == len(images.images()["base"].layers)
        assert asked == ["inspect", "copy", "inspect", "inspect", "copy"]

    async def test_a_layer_goes_with_the_last_image_that_has_it(
        self, shop: Shop, store: ImageStore, folder: Path
    ) -> None:
        first = await shop.prepare(BASE, (file("app", "1"),))
        second = await shop.prepare(BASE, (file("app", "2"),))
        assert len(names_of_layers(folder)) == 3
        assert await store.drop(frozenset({second.digest}), 0) == [first.digest]
        assert len(names_of_layers(folder)) == 2
        assert shop.names(second) == {"base", "app"}
        assert await store.drop(NOTHING, 0) == [second.digest]
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "layers"]
        assert names_of_layers(folder) == set()

    async def test_a_layer_counts_once(self, shop: Shop, store: ImageStore, folder: Path) -> None:
        for number in range(5):
            await shop.prepare(BASE, (file("app", str(number)),))
        whole = sum(json.loads(path.read_bytes())["bytes"] for path in folder.glob("layers/*/layer.json"))
        assert whole < 200_000
        assert await store.drop(NOTHING, whole) == []
        assert len(await store.drop(NOTHING, whole - 1)) == 1

    async def test_a_layer_that_an_image_being_made_relies_on_stays(
        self, shop: Shop, store: ImageStore, folder: Path
    ) -> None:
        image = await shop.prepare(BASE)
        making = ImageFolder(folder)
        chain_ids = to_chain_ids([layout.digest_of(layout.to_tar(layer)) for layer in (BASE, MIDDLE)])
        staging = making.begin()
        assert making.claim(staging, chain_ids) == [True, False]
        assert await store.drop(NOTHING, 0) == [image.digest]
        assert len(names_of_layers(folder)) == 1
        making.discard(staging)
        assert await store.drop(NOTHING, WANTED) == []
        assert names_of_layers(folder) == set()

    async def test_two_servers_may_make_the_same_at_the_same_time(
        self, shop: Shop, store: ImageStore, folder: Path, tmp_path: Path
    ) -> None:
        ref = parse_image_ref(shop.write("both", Image((BASE, MIDDLE))))
        other = ImageStore(folder, lambda: tmp_path / "state")
        one, two = await asyncio.gather(store.prepare(ref, None), other.prepare(ref, None))
        assert one == two
        assert shop.names(one) == {"base", "middle"}
        assert len(names_of_layers(folder)) == 2
        assert list(folder.glob(".staging*")) == []

    def test_an_image_that_gets_its_name_while_others_are_dropped_keeps_its_layers(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        maker, dropper = ImageFolder(folder), ImageFolder(folder)
        staging = maker.begin()
        layer = staging.folder / "layers/sha256-of-it"
        (layer / "tree").mkdir(parents=True)
        (layer / "layer.json").write_text(json.dumps({"bytes": 1}))
        (staging.folder / "home/0").symlink_to("../layers/sha256-of-it/tree")
        maker.complete(staging, "sha256:it", {"layers": ["0"]})
        publishing = threading.Thread(target=maker.publish, args=(staging, "sha256:it"))
        look = ImageFolder._images

        def look_just_before(folder: ImageFolder) -> Iterator[object]:
            found = list(look(folder))
            publishing.start()
            publishing.join(0.2)
            return iter(found)

        monkeypatch.setattr(ImageFolder, "_images", look_just_before)
        assert dropper.drop(NOTHING, WANTED) == []
        publishing.join()
        maker.discard(staging)
        assert (maker.home("sha256:it") / "0").is_dir()

    def test_a_file_system_that_knows_no_flags_of_folders_will_do(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(fcntl, "ioctl", refuse)
        maker = ImageFolder(folder)
        maker.discard(maker.begin())


class TestCrashes:
    async def test_a_damaged_layer_is_told_and_leaves_nothing(
        self, shop: Shop, store: ImageStore, folder: Path
    ) -> None:
        tar = layout.to_tar((file("x", "y" * 5000),))
        for broken in (tar[:2000], tar[:1024] + b"no header".ljust(512) + tar[1024:]):
            target = shop.folder / os.urandom(4).hex()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(layout, "to_tar", lambda entries, broken=broken: broken)
                layout.write_layout(target, {"tag": Image(((file("x"),),))})
            with pytest.raises(ImageUnavailable, match="it cannot be unpacked: its archive"):
                await store.prepare(parse_image_ref(f"oci:{target}:tag"), None)
        assert list(folder.glob(".staging*")) == []
        assert list(folder.glob("layers/*")) == []

    async def test_what_a_killed_server_was_making_is_swept(
        self, shop: Shop, store: ImageStore, folder: Path, wait_until: Callable[..., object]
    ) -> None:
        many = tuple(file(f"d{number % 50}/{number}") for number in range(30_000))
        ref = shop.write("large", Image((BASE, many)))
        script = (
            "import asyncio, pathlib, sys\n"
            "from oneoff.core.image import ImageRef, parse_image_ref\n"
            "from oneoff.drivers.oci.image import ImageStore\n"
            "store = ImageStore(pathlib.Path(sys.argv[1]), lambda: None)\n"
            "asyncio.run(store.prepare(parse_image_ref(sys.argv[2]), None))\n"
        )
        server = subprocess.Popen([sys.executable, "-c", script, folder, ref])
        try:
            await wait_until(lambda: any(folder.glob(".staging-*/layers/*/tree/d1/*")))
            (staging,) = (path for path in folder.glob(".staging-*") if path.suffix != ".lock")
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait()
        # On its own it would go on for longer.
        await wait_until(lambda: _commands_with(str(staging)) == 0, 2)
        store.sweep()
        assert list(folder.glob(".staging*")) == []
        assert list(folder.glob("layers/*")) == []

    async def test_layers_of_an_image_that_never_got_its_name_are_removed(
        self, shop: Shop, store: ImageStore, folder: Path
    ) -> None:
        image = await shop.prepare(BASE, MIDDLE)
        (folder / image.digest.replace(":", "-")).rename(folder / ".staging-crashed")
        assert await store.drop(NOTHING, WANTED) == []
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "layers"]
        assert names_of_layers(folder) == set()
        assert shop.names(await shop.prepare(BASE, MIDDLE)) == {"base", "middle"}


def _commands_with(word: str) -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += word.encode() in path.read_bytes()
        except OSError:
            continue
    return found


class TestRuns:
    """In a real container."""

    async def test_127_layers(self, oci: Workbench, shop: Shop) -> None:
        base = images.images()["base"]
        more = [(file(f"srv/n{n}"), file(f"srv/.wh.n{n - 1}")) for n in range(127 - len(base.layers))]
        ref = shop.write("many", replace(base, layers=(*base.layers, *more)))
        image = await oci.driver.prepare(parse_image_ref(ref))
        out = await oci.shell("ls /srv | grep ^n; ls -l /proc/self/root/srv/removed 2>&1 | wc -l", image=image)
        assert out.split() == ["n124", "notexec", "1"]

    async def test_an_image_that_an_older_release_unpacked_whole(self, oci: Workbench, shop: Shop) -> None:
        store, kept = oci.driver._images, shop.folder / "kept"
        with Shop(store, shop.folder).merged(oci.image) as seen:
            subprocess.run(["cp", "-a", seen, kept], check=True)
        digest = f"sha256:{os.urandom(32).hex()}"
        home = oci.data_dir / "oci/images" / digest.replace(":", "-")
        home.mkdir(mode=0o700)
        kept.rename(home / "rootfs")
        facts = {"digest": digest, "source": "oci:/gone:1", "config": {"Cmd": ["true"]}, "bytes": 4096}
        (home / "image.json").write_text(json.dumps(facts))
        ref = f"oci:@oneoff/{home.name}:image"
        image = await oci.driver.prepare(parse_image_ref(ref))
        assert (image.digest, image.ref) == (digest, ref)
        assert await oci.shell("cat /etc/passwd | wc -l", image=image) == "3\n"
        time.sleep(0.01)
        others = frozenset(path.name.replace("-", ":", 1) for path in home.parent.glob("sha256-*")) - {digest}
        assert await oci.driver.drop_images(others, 0) == [digest]
        assert not home.exists()
